"""One process per client and server: runs every scenario of the plan with one Python SDK.

`python.py PLAN`, where PLAN is the JSON text made by the driver; prints a JSON line per scenario.
"""

import json
import sys
import time
import urllib.request
import uuid
import warnings
from types import SimpleNamespace

import anyio

import modern
import py_peers
import rounds
import scenarios

# 2.x warns that roots, sampling and logging are deprecated; old servers are what this rig is about.
warnings.simplefilter("ignore", DeprecationWarning)


async def main(plan):
    async def control(verb):
        def ask():
            request = urllib.request.Request(f"{plan['control']}/{verb}", method="POST")
            with urllib.request.urlopen(request, timeout=80) as answer:
                return json.load(answer)

        return await anyio.to_thread.run_sync(ask)

    async with anyio.create_task_group() as homes:

        async def open_peer(url, nonce, **options):
            made = py_peers.peer(plan["client"], url, nonce, **options)
            await homes.start(made.live)
            return made

        async def close(peer):
            with anyio.move_on_after(5):
                await peer.close()

        peer = None
        for name in plan["scenarios"]:
            begun, detail = time.monotonic(), ""
            try:
                with anyio.fail_after(90):
                    peer = peer or await open_peer(plan["url"], str(uuid.uuid4()))
                    nonce = f"{name}-{uuid.uuid4().hex[:8]}"
                    context = SimpleNamespace(
                        peer=peer, nonce=nonce, plan=plan, dialect=plan["dialect"], control=control, open=open_peer
                    )
                    python_name = name.replace("-", "_")
                    places = (scenarios, modern, rounds)
                    scenario = next(getattr(place, python_name) for place in places if hasattr(place, python_name))
                    await scenario(context)
            except Exception as error:
                detail = scenarios.flat(error)[:600]
                if peer and peer.last_error:
                    detail += f" (last transport error: {scenarios.flat(peer.last_error)[:300]})"
                # The next scenario gets a fresh connection: one red must not colour the rest.
                if peer:
                    await close(peer)
                peer = None
            took = round((time.monotonic() - begun) * 1000)
            print(json.dumps({"scenario": name, "ok": not detail, "detail": detail, "ms": took}), flush=True)
        if peer:
            await close(peer)
        homes.cancel_scope.cancel()


anyio.run(main, json.loads(sys.argv[1]))

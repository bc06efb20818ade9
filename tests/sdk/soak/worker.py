"""One process with several real Python clients that call without end: `worker.py PLAN`, see `worker.mjs`.

The same lines on stdout and stdin, with the SDK differences named here: these clients do not come back after their stream
has ended, the older ones do not tell a waiting call that it ended, and none tells a call that its POST failed. So the
outside's word that it broke a connection ends what was on it.
"""

import asyncio
import json
import os
import random
import sys
import time
import uuid
import warnings

import anyio

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "clients"))
import py_peers  # noqa: E402

warnings.simplefilter("ignore")
plan = json.loads(sys.argv[1])
dice = random.Random(plan["seed"])
resting = False
GRACE_S = 6  # for calls on a connection whose other part was broken


def say(**line):
    print(json.dumps(line), flush=True)


def flat(error):
    while getattr(error, "exceptions", None):
        error = error.exceptions[0]
    return error


def classify(error):
    error = flat(error)
    told = getattr(error, "error", None)
    data = getattr(told, "data", None)
    if isinstance(data, dict) and "ferry" in data:
        return "error", {"reason": data["ferry"].get("reason"), "executed": data["ferry"].get("executed")}
    if isinstance(error, (anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream)):
        return "stream-ended", {}
    if told is not None:
        if "onnection closed" in told.message:
            return "stream-ended", {}
        return "error", {"reason": f"upstream {told.code}"}
    return "post-failed", {"detail": f"{type(error).__name__}: {error}"[:120]}


def choose():
    call = dice.choices(plan["menu"], [entry["weight"] for entry in plan["menu"]])[0]
    return call | {"args": {name: dice.randint(low, high) for name, (low, high) in call["args"].items()}}


class Call:
    def __init__(self, slot, call):
        self.slot, self.call, self.nonce = slot, call, str(uuid.uuid4())
        self.touched, self.over = None, False
        self.scope = anyio.CancelScope(deadline=anyio.current_time() + plan["limit"] / 1000)

    def end(self, outcome, **more):
        if not self.over:
            self.over = True
            self.slot.pending.pop(self.nonce, None)
            say(end=self.nonce, outcome=outcome, **more)

    async def run(self):
        call, slot = self.call, self.slot
        self.slot.pending[self.nonce] = self
        say(call=self.nonce, slot=slot.number, tool=call["tool"], cancel=call.get("cancel"))
        wanted = call["reply"].replace("$", self.nonce) + "x" * call["args"].get(call.get("padded"), 0)
        try:
            with self.scope:
                if call.get("cancel"):
                    # The id is taken before this task first waits, so it is this call's.
                    slot.group.start_soon(self.cancel, getattr(slot.peer.api, "_request_id", None))
                progress = (lambda _: None) if call.get("progress") else None
                text, failed = await slot.peer.call(call["tool"], {"key": self.nonce} | call["args"], progress)
                if failed:
                    self.end("tool-error", detail=text[:120])
                else:
                    self.end("result" if text == wanted else "wrong", detail="" if text == wanted else text[:200])
        except Exception as error:
            outcome, more = classify(error)
            slot.broken = slot.broken or outcome in ("stream-ended", "post-failed")
            self.end(outcome, **more)
        self.end("post-cut" if self.touched else "silent", tool=call["tool"])

    async def cancel(self, request_id):
        await anyio.sleep(dice.uniform(0.05, 1.5))
        if self.over:
            return
        self.end("cancelled")
        if py_peers.VERSION < (2,):
            params = py_peers.types.CancelledNotificationParams(requestId=request_id, reason="changed its mind")
            note = py_peers.types.CancelledNotification(method="notifications/cancelled", params=params)
            try:
                await self.slot.peer.api.send_notification(py_peers.types.ClientNotification(note))
            except Exception:
                self.slot.broken = True
        self.scope.cancel()


class Slot:
    def __init__(self, number, url):
        self.number, self.url = number, url
        self.peer, self.pending, self.rests = None, {}, False
        self.broken, self.touched = False, 0

    async def connect(self):
        self.broken, self.touched = False, 0
        peer = py_peers.peer(plan["client"], self.url, str(uuid.uuid4()))
        try:
            with anyio.fail_after(30):
                await self.homes.start(peer.live)
                # Newer SDKs would list the tools after a call's result, and blame the call when that fails.
                await peer.tools()
        except Exception as error:
            if isinstance(flat(error), TimeoutError):
                outcome, more = ("post-cut" if self.touched else "silent"), {}
            else:
                outcome, more = classify(error)
            say(opened=False, slot=self.number, outcome=outcome, **more)
            with anyio.move_on_after(3):
                await peer.close()
            return False
        self.peer = peer
        say(opened=True, slot=self.number)
        return True

    async def leave(self):
        while self.pending and not self.broken:
            await anyio.sleep(0.02)
        for call in list(self.pending.values()):
            call.end("stream-ended")
            call.scope.cancel()
        peer, self.peer = self.peer, None
        with anyio.move_on_after(3):
            await peer.close()

    async def run(self, homes):
        self.homes = homes
        async with anyio.create_task_group() as self.group:
            while True:
                if resting:
                    if self.peer:
                        await self.leave()
                    self.rests = True
                    await anyio.sleep(0.05)
                    continue
                self.rests = False
                if not self.peer and not await self.connect():
                    await anyio.sleep(dice.uniform(0.2, 1))
                    continue
                if self.touched and time.monotonic() - self.touched > GRACE_S:
                    # The SDK may have lost its writer and says so to nobody.
                    for call in list(self.pending.values()):
                        if call.touched:
                            call.end("post-cut")
                            call.scope.cancel()
                    self.broken = True
                if self.broken or dice.random() < 0.004:
                    await self.leave()
                elif len(self.pending) < plan["atOnce"] and not self.touched:
                    self.group.start_soon(Call(self, choose()).run)
                low, high = plan["rest"]
                await anyio.sleep(dice.uniform(low, high) / 1000)

    async def burst(self, homes, count):
        self.homes = homes
        while not await self.connect():
            await anyio.sleep(0.2)
        await fire.wait()
        async with anyio.create_task_group() as self.group:
            for _ in range(count):
                self.group.start_soon(Call(self, choose()).run)

    def cut(self, what):
        self.touched = time.monotonic()
        for call in list(self.pending.values()):
            call.touched = True
            if what in ("stream", "all"):
                call.end("stream-ended")
                call.scope.cancel()
        if what in ("stream", "all"):
            self.broken = True


async def main():
    global fire
    fire = anyio.Event()
    slots = [Slot(place["slot"], place["url"]) for place in plan["slots"]]
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def listen():
        global resting
        while line := await reader.readline():
            told = json.loads(line)
            if "cut" in told:
                slots[told["cut"]].cut(told["what"])
            if "rest" in told:
                resting = told["rest"]
            if told.get("fire"):
                fire.set()
            if told.get("leave"):
                break
        # What the SDKs still have open ends with the process, as a client's does.
        sys.stdout.flush()
        os._exit(0)

    async def report():
        while True:
            await anyio.sleep(0.1)
            if resting and all(slot.rests for slot in slots):
                say(rested=True)
                while resting:
                    await anyio.sleep(0.05)

    async with anyio.create_task_group() as homes:
        homes.start_soon(listen)
        homes.start_soon(report)
        for slot in slots:
            if plan.get("burst"):
                homes.start_soon(slot.burst, homes, plan["burst"])
            else:
                homes.start_soon(slot.run, homes)


anyio.run(main)

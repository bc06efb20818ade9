"""The scenarios as the Python clients run them, under the names and with the meaning of `scenarios.mjs`."""

import json
import re
import time
from contextlib import suppress

import anyio

BIG = "".join(f"{i:09d};" for i in range(100_000))


async def until(what, check, seconds=20):
    deadline = time.monotonic() + seconds
    while not await check():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s for {what}")
        await anyio.sleep(0.025)


def fill(value, nonce):
    """Replaces `$` (the call's own nonce) and `$BIG` inside a dialect's arguments and replies."""
    text = json.dumps(value).replace("$BIG", BIG).replace("$", json.dumps(nonce)[1:-1])
    return json.loads(text)


def expect_reply(text, step, nonce):
    if "contains" in step:
        wanted = fill(step["contains"], nonce)
        assert wanted in text, f"reply {text[:300]!r} lacks {wanted!r}"
    elif "reply" in step:
        wanted = fill(step["reply"], nonce)
        assert text == wanted, f"reply is {len(text)} characters {text[:120]!r}, wanted {len(wanted)}"


async def run(peer, step, nonce, failed=False, on_progress=None):
    text, did_fail = await peer.call(step["tool"], fill(step.get("args", {}), nonce), on_progress)
    assert did_fail == failed, f"isError is {did_fail}, reply {text[:300]!r}"
    expect_reply(text, step, nonce)
    return text


async def initialize(c):
    assert c.peer.server == c.dialect["server"], c.peer.server
    assert c.peer.capabilities.tools, "no tools capability"
    # The old transport answers with the version asked for, whatever was agreed upstream.
    if not c.plan["asksItself"]:
        assert c.peer.version == c.peer.asked, f"{c.peer.version}, asked for {c.peer.asked}"


async def tools(c):
    found = await c.peer.tools()
    assert set(c.dialect["tools"]) <= set(found), found


async def prompts(c):
    found = await c.peer.prompts()
    assert c.dialect["prompt"]["name"] in found, found


async def resources(c):
    resource = c.dialect["resource"]
    found = await c.peer.resources()
    assert resource["uri"] in found, found
    assert re.search(resource["matches"], await c.peer.read(resource["uri"]))


async def call_text(c):
    await run(c.peer, c.dialect["echo"], c.nonce)
    await run(c.peer, c.dialect["add"], c.nonce)


async def call_unicode(c):
    await run(c.peer, c.dialect["echo"], 'żółć 漢字 👩‍👩‍👧 \u2028\u2029\u0085 "\\" \r\n\t\u0001 \uffff')


async def call_1mb(c):
    await run(c.peer, c.dialect["big"], c.nonce)


async def call_error(c):
    await run(c.peer, c.dialect["fail"], c.nonce, failed=True)


async def progress(c):
    step, seen = c.dialect["progress"], []
    async with anyio.create_task_group() as group:

        def on_progress(done):
            seen.append(done)
            # Our servers hold the result back until the last update has been seen here.
            if done == 3 and "release" in step:
                group.start_soon(run, c.peer, {"tool": step["release"], "args": {"key": "$"}}, c.nonce)

        await run(c.peer, step, c.nonce, on_progress=on_progress)
    assert seen[:3] == [1, 2, 3], seen


async def logging(c):
    step = c.dialect["log"]
    await c.peer.set_level(step["level"])
    state = await c.control("state")
    assert state.get("level", step["level"]) == step["level"], f"the level the server was told: {state['level']}"
    call = {"tool": step["tool"], "args": step.get("args", {})}
    await run(c.peer, call, c.nonce)
    wanted = fill(step["contains"], c.nonce)

    async def heard():
        notes = [params for method, params in c.peer.notes if method == "notifications/message"]
        return any(wanted in str(params.data) for params in notes)

    await until("the log message", heard)
    if step.get("undo"):
        await run(c.peer, call, c.nonce)


async def sampling(c):
    await run(c.peer, c.dialect["sample"], c.nonce)


async def elicitation(c):
    await run(c.peer, c.dialect["elicit"], c.nonce)


async def listening(c):
    """The listen stream opens some time after the handshake, and what a server says before is lost; so the
    server is asked for a list_changed again and again until one arrives."""
    step = c.dialect["listChanged"]

    async def count():
        return sum(method == step["method"] for method, _ in c.peer.notes)

    before = await count()

    async def heard():
        return await count() > before

    for attempt in range(10):
        await run(c.peer, step["trigger"], f"{c.nonce}-{attempt}")
        with suppress(AssertionError):
            return await until(step["method"], heard, seconds=1)
    raise AssertionError(f"no {step['method']}, asked for ten times")


async def roots(c):
    await listening(c)
    await run(c.peer, c.dialect["roots"], c.peer.nonce)


async def subscribe(c):
    step = c.dialect["subscribe"]
    await c.peer.subscribe(step["uri"])
    await listening(c)
    reply = await run(c.peer, step["trigger"], c.nonce)

    async def heard():
        notes = [params for method, params in c.peer.notes if method == "notifications/resources/updated"]
        return any(str(params.uri) == step["uri"] for params in notes)

    await until("resources/updated", heard)
    if step.get("undo"):
        await run(c.peer, step["trigger"], c.nonce)
    else:
        assert await c.peer.read(step["uri"]) == reply, "the resource after the update"


async def list_changed(c):
    await listening(c)


async def prompt(c):
    step = c.dialect["prompt"]
    text = await c.peer.prompt(step["name"], fill(step["args"], c.nonce))
    expect_reply(text, {"reply": step["reply"]}, c.nonce)


async def completion(c):
    step = c.dialect["completion"]
    values = await c.peer.complete(step["prompt"], step["argument"], step["value"])
    assert values == step["values"], values


async def ping_server(c):
    assert type(await c.peer.ping()).__name__ == "EmptyResult"


async def ping_client(c):
    await listening(c)
    await run(c.peer, {"tool": "ping", "reply": "pong"}, c.nonce)


async def cancel(c):
    async def begun():
        await until("the call to begin", lambda: listed("running"))

    async def listed(where):
        return c.nonce in (await c.control("state"))[where]

    await c.peer.call_and_cancel("slow", {"key": c.nonce}, begun)
    await until("the server to see the cancel", lambda: listed("cancelled"))
    await run(c.peer, c.dialect["echo"], c.nonce)


async def early_close(c):
    """The reply's stream is closed by the server before the answer; the client must never notice."""
    await run(c.peer, {"tool": "early", "args": {"text": "$"}, "reply": "$"}, c.nonce)


async def crowd(c):
    """Twenty fresh clients that send the same methods under the same ids at the same time."""
    own = [f"{c.nonce}-{i}" for i in range(20)]
    peers, failed = {}, []

    async def connect(mine):
        # Twenty of these SDKs in one process keep it busy for seconds, which their default of 5 s to
        # connect does not foresee.
        peers[mine] = await c.open(c.plan["url"], mine, timeout=60)

    async def work(mine):
        peer = peers[mine]
        try:
            async with anyio.create_task_group() as calls:
                for turn in range(3):
                    calls.start_soon(run, peer, c.dialect["echo"], f"{mine}-{turn}")
                if "sampling" in c.plan["scenarios"]:
                    calls.start_soon(run, peer, c.dialect["sample"], mine)
        except Exception as error:
            failed.append(error)

    for step in (connect, work):
        async with anyio.create_task_group() as group:
            for mine in own:
                group.start_soon(step, mine)
    for peer in peers.values():
        await peer.close()
    assert not failed, f"{len(failed)} of 20 failed, the first with: {flat(failed[0])}"


async def leave(c):
    before = set((await c.control("state"))["sessions"])
    peer = await c.open(c.plan["url"], c.nonce)
    await run(peer, c.dialect["echo"], c.nonce)

    # A listen stream, which is all of a session that a modern server has, opens some time after the handshake.
    async def added():
        return set((await c.control("state"))["sessions"]) - before

    await until("a session more at the server", added)
    mine = await added()
    assert len(mine) == 1, f"the server should have one session more, not {len(mine)}"
    await peer.close()

    async def gone():
        return not mine & set((await c.control("state"))["sessions"])

    await until("the session to end upstream", gone)


async def leave_mid_call(c):
    """Whoever leaves takes the calls still running along."""
    peer = await c.open(c.plan["url"], c.nonce)
    step = c.dialect["slow"]

    async def listed(where):
        return c.nonce in (await c.control("state"))[where]

    async def doomed():
        # How the SDK tells its caller that the session has gone differs; that it has is all that counts.
        with suppress(Exception):
            await peer.call(step["tool"], fill(step["args"], c.nonce))

    async with anyio.create_task_group() as group:
        group.start_soon(doomed)
        await until("the call to begin", lambda: listed("running"))
        # Not by cancelling the call, which some SDKs tell the server: by leaving.
        await peer.close()
        await until("the call to end upstream", lambda: listed("cancelled"))
        group.cancel_scope.cancel()


async def restart(c):
    step, lost = c.dialect["slow"], []

    async def run_and_lose():
        try:
            lost.append(await c.peer.call(step["tool"], fill(step["args"], c.nonce)))
        except Exception:
            lost.append("failed")

    async def running():
        return c.nonce in (await c.control("state"))["running"]

    observable = "running" in await c.control("state")
    async with anyio.create_task_group() as group:
        group.start_soon(run_and_lose)
        if observable:
            await until("the call to begin", running)
        else:
            await run(c.peer, c.dialect["echo"], c.nonce)
        await c.control("restart")
    # The call that ran when the server died fails, soon and for good: nobody may run it a second time.
    assert lost == ["failed"], lost
    await run(c.peer, c.dialect["echo"], f"{c.nonce}-again")
    assert not (observable and await running()), "the lost call was run again"
    if c.plan["pushes"]:
        await listening(c)


def flat(error):
    """One line for an error, looking into the groups that task groups raise."""
    while getattr(error, "exceptions", None):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"

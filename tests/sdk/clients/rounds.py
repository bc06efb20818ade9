"""What a server of 2026-07-28 asks of the client, under the names and with the meaning of `rounds.mjs`."""

from contextlib import suppress

import anyio
from modern import seen
from scenarios import flat, run, until


async def failure(peer, tool, text):
    """What a call that must fail says, as an error or as a result that is marked as one."""
    try:
        reply, failed = await peer.call(tool, {"text": text})
    except Exception as error:
        return flat(error)
    assert failed, f"{tool} answered {reply}"
    return reply


async def elicit_twice(c):
    reply = "answer to first $ / answer to second $"
    await run(c.peer, {"tool": "elicit-twice", "args": {"text": "$"}, "reply": reply}, c.nonce)
    rounds = await seen(c, c.nonce)
    assert len({request["id"] for request in rounds}) == len(rounds) == 3, rounds
    first, second, third = (request["params"] for request in rounds)
    assert not {"requestState", "inputResponses"} & set(first), first
    accepted = {"action": "accept", "content": {"answer": f"answer to first {c.nonce}"}}
    assert second["inputResponses"] == {"one": accepted}, second
    assert list(third["inputResponses"]) == ["other"], third
    assert second["requestState"] != third["requestState"]


async def many_inputs(c):
    text = f"inputs {c.nonce}"
    reply = f'answer to {text} / sampled {text} / ["file:///rig/{c.peer.nonce}"]'
    await run(c.peer, {"tool": "survey", "args": {"text": text}, "reply": reply}, c.nonce)
    assert len(await seen(c, c.nonce)) == 2, "requests upstream"


async def rounds_at_once(c):
    async def survey(text):
        reply = f'answer to {text} / sampled {text} / ["file:///rig/{c.peer.nonce}"]'
        await run(c.peer, {"tool": "survey", "args": {"text": text}, "reply": reply}, c.nonce)

    async with anyio.create_task_group() as calls:
        for turn in (1, 2, 3):
            calls.start_soon(survey, f"{c.nonce}-{turn}")
        calls.start_soon(run, c.peer, c.dialect["echo"], c.nonce)


async def progress_in_rounds(c):
    """A call tells of its progress before it asks and after it has been answered: to its caller, it is one call."""
    told, step = [], {"tool": "working", "args": {"text": "$"}, "reply": "answer to $"}
    async with anyio.create_task_group() as calls:

        def heard(progress):
            told.append(progress)
            if progress == 2:
                calls.start_soon(run, c.peer, {"tool": "release", "args": {"key": "$"}}, c.nonce)

        await run(c.peer, step, c.nonce, on_progress=heard)
    assert told == [1, 2], told


async def restart_mid_round(c):
    """No server holds a round: another one can take the answer."""
    peer, held = await c.open(c.plan["url"], c.nonce), f"hold {c.nonce}"
    reply = f"answer to {held}" if c.plan["asks"] == "elicit" else f"sampled {held}"
    async with anyio.create_task_group() as calls:
        calls.start_soon(run, peer, {"tool": c.plan["asks"], "args": {"text": held}, "reply": reply}, c.nonce)
        await asked(peer, held)
        await c.control("restart")
        peer.user.held.set()
    await peer.close()


async def state_only(c):
    """A state and no question: the call is repeated without troubling the client."""
    asked = len(c.peer.user.asked)
    await run(c.peer, {"tool": "later", "args": {"text": "$"}, "reply": "$"}, c.nonce)
    assert len(await seen(c, c.nonce)) == 2, "requests upstream"
    assert len(c.peer.user.asked) == asked


async def prompt_asks(c):
    assert await c.peer.prompt("asks", {"text": c.nonce}) == f"answer to {c.nonce}"


async def resource_asks(c):
    assert await c.peer.read(f"mem://asks/{c.nonce}") == f"answer to {c.nonce}"


async def elicit_by_url(c):
    """The revision before wanted an id with it, and a handler that finds none refuses."""
    peer = await c.open(c.plan["url"], c.nonce)
    await run(peer, {"tool": "elicit-url", "args": {"text": "$"}, "reply": "accept"}, c.nonce)
    assert peer.user.asked == [c.nonce, f"https://example.com/{c.nonce}"], peer.user.asked
    await peer.close()


async def elicit_declined(c):
    for action in ("decline", "cancel"):
        await run(c.peer, {"tool": "elicit", "args": {"text": f"{action} $"}, "reply": action}, c.nonce)


async def elicit_fails(c):
    """The revision has no place for a client's error: an elicitation that fails is one that was cancelled,"""
    await run(c.peer, {"tool": "elicit", "args": {"text": "refuse $"}, "reply": "cancel"}, c.nonce)


async def sampling_fails(c):
    """and a sampling that fails fails the call, with the client's own words."""
    said = await failure(c.peer, "sample", f"refuse {c.nonce}")
    assert "the rig refuses" in said, said
    await run(c.peer, c.dialect["echo"], c.nonce)


async def cannot_elicit(c):
    peer = await c.open(c.plan["url"], c.nonce, bare=True)
    for tool, word in (("elicit", "elicitation"), ("sample", "sampling")):
        said = await failure(peer, tool, c.nonce)
        assert word in said.lower(), said
    await run(peer, c.dialect["echo"], c.nonce)
    await peer.close()


def asked(peer, question):
    async def check():
        return question in peer.user.asked

    return until("the client to be asked", check)


async def cancel_mid_round(c):
    held = f"hold {c.nonce}"
    await c.peer.call_and_cancel(c.plan["asks"], {"text": held}, lambda: asked(c.peer, held))
    c.peer.user.held.set()
    await run(c.peer, c.dialect["echo"], f"{c.nonce}-echo")
    states = [request["state"] for request in await seen(c, held)]
    assert states == ["ended"], f"requests upstream: {states}"


async def leave_mid_round(c):
    peer, held = await c.open(c.plan["url"], c.nonce), f"hold {c.nonce}"

    async def doomed():
        # How the SDK tells its caller that the session has gone differs; that it has is all that counts.
        with suppress(Exception):
            await peer.call(c.plan["asks"], {"text": held})

    async with anyio.create_task_group() as group:
        group.start_soon(doomed)
        await asked(peer, held)
        await peer.close()
        group.cancel_scope.cancel()
    other = await c.open(c.plan["url"], c.nonce)
    await run(other, c.dialect["echo"], f"{c.nonce}-echo")
    await other.close()
    # 2.3 answers what it is asked before it leaves, with an error, which for an elicitation is a cancel.
    answers = [request["params"].get("inputResponses") for request in await seen(c, held)]
    assert answers in ([None], [None, {"q": {"action": "cancel"}}]), answers

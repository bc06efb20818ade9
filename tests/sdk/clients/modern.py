"""The scenarios before a server of 2026-07-28 only, under the names and with the meaning of `modern.mjs`."""

import base64
import json
import re
from contextlib import suppress

import anyio
from scenarios import flat, listening, run, until

LEVEL = "io.modelcontextprotocol/logLevel"


async def seen(c, nonce):
    """The requests the server saw that carry the nonce."""
    return [request for request in (await c.control("state"))["requests"] if nonce in json.dumps(request["params"])]


async def failure(peer, tool, text):
    """What a call that must fail says, as an error or as a result that is marked as one."""
    try:
        reply, failed = await peer.call(tool, {"text": text})
    except Exception as error:
        return flat(error)
    assert failed, f"{tool} answered {reply}"
    return reply


def heard(peer, method):
    return [params for name, params in peer.notes if name == method]


async def instructions(c):
    assert c.peer.instructions == c.dialect["instructions"], c.peer.instructions
    assert c.peer.capabilities.resources.subscribe
    assert getattr(c.peer.capabilities.tools, "listChanged", None) or c.peer.capabilities.tools.list_changed


async def log_level(c):
    """Only who has asked for log messages gets any, and none below the level."""
    peer, level = await c.open(c.plan["url"], c.nonce), c.dialect["log"]["level"]

    async def log(text):
        await run(peer, {"tool": "log", "args": {"text": text}, "reply": "logged"}, c.nonce)

    async def told():
        return heard(peer, "notifications/message")

    await log(f"before {c.nonce}")
    await peer.set_level(level)
    await log(f"after {c.nonce}")
    await until("the log message", told)
    assert [params.data for params in await told()] == [f"after {c.nonce}"], await told()
    levels = [request["meta"].get(LEVEL) for request in await seen(c, c.nonce)]
    assert levels == [None, level], levels
    await peer.close()


async def unsubscribe(c):
    """An update right after the answer to a subscription counts, and none counts after the subscription's end."""
    uri = f"mem://note/{c.nonce}"

    async def touch():
        await run(c.peer, {"tool": "touch", "args": {"uri": uri}, "reply": "touched"}, c.nonce)

    async def updates():
        return sum(str(params.uri) == uri for params in heard(c.peer, "notifications/resources/updated"))

    async def ended():
        return uri not in json.dumps((await c.control("state"))["listening"])

    await c.peer.subscribe(uri)
    await touch()
    await until("the first update", updates)
    await c.peer.unsubscribe(uri)
    await until("the subscription to end upstream", ended)
    before = await updates()
    await touch()
    await listening(c)
    assert await updates() == before, "updates after unsubscribing"


async def one_call(c):
    await run(c.peer, c.dialect["echo"], f"{c.nonce}-warm")
    before = (await c.control("state"))["posts"]
    for turn in range(5):
        await run(c.peer, c.dialect["echo"], f"{c.nonce}-{turn}")
    posts = (await c.control("state"))["posts"] - before
    assert posts == 5, f"{posts} requests upstream for five calls"


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


VALUES = ["plain", "Zürich 漢字 👩‍👩‍👧", " padded ", "=?base64?AA==?=", "", "two\r\nlines", "\ttab", 'a,b;c="d"', "\u007f"]
COUNTS = [42, 0, -7, 9007199254740991]


def mirrored(header):
    found = header and re.fullmatch(r"=\?base64\?(.*)\?=", header)
    return base64.b64decode(found[1]).decode() if found else header


async def headers(c):
    """Every argument that a tool wants in a header is there, as it is in the body; one call stays one request.

    An old client need not have listed the tools before.
    """
    peer, given = await c.open(c.plan["url"], c.nonce), []
    if c.plan.get("speaks"):
        await peer.tools()
    for i, region in enumerate(VALUES):
        place = {"city": f"{c.nonce}-{i}"}
        args = {"region": region, "count": COUNTS[i % len(COUNTS)], "urgent": i % 2 == 0, "place": place}
        given.append(args)
        text, failed = await peer.call("headers", args | ({} if i % 3 else {"nothing": None}))
        assert not failed, text
        assert json.loads(text) == {"nothing": None} | args, text
    found = [request["headers"] for request in await seen(c, c.nonce)]
    read = [
        {
            "region": mirrored(one.get("mcp-param-region")),
            "count": int(one.get("mcp-param-count", "-1")),
            "urgent": one.get("mcp-param-urgent") == "true",
            "place": {"city": mirrored(one.get("mcp-param-city"))},
        }
        for one in found
    ]
    assert read == given, read
    left = [name for one in found for name in one if re.search("nothing|absent", name)]
    assert not left, f"headers of arguments that are null or absent: {left}"
    await peer.close()


async def hidden_tools(c):
    found = await c.peer.tools()
    assert "headers" in found, found
    assert "bad-header" not in found, "a tool with an invalid x-mcp-header was listed"


async def odd_results(c):
    """After the list, from which some SDKs learn what to hold a result against."""
    assert "list-names" in await c.peer.tools()
    text, failed = await c.peer.call("list-names", {})
    assert (text, failed) == (c.dialect["names"], False), text


async def missing_resource(c):
    try:
        text = await c.peer.read(f"mem://nowhere/{c.nonce}")
    except Exception as error:
        code = getattr(getattr(error, "error", error), "code", None)
        assert code == (-32602 if c.plan.get("speaks") == "2026-07-28" else -32002), flat(error)
    else:
        raise AssertionError(f"read {text}")


async def plain_results(c):
    """Read off the wire between client and ferry: nothing reaches an old client that only the new revision knows."""
    peer, dialect = await c.open(c.plan["cuttable"], c.nonce), c.dialect
    await peer.tools()
    await peer.prompts()
    await peer.resources()
    await peer.read(dialect["resource"]["uri"])
    await peer.prompt(dialect["prompt"]["name"], {"name": c.nonce})
    await peer.subscribe(dialect["subscribe"]["uri"])
    shared, c.peer = c.peer, peer
    await listening(c)
    c.peer = shared
    await run(peer, dialect["echo"], c.nonce)
    wire = (await c.control("wire"))["wire"]
    assert c.nonce in wire, "the wire was not watched"
    words = ("resultType", "ttlMs", "cacheScope", "io.modelcontextprotocol/", "requestState", "subscriptions/")
    found = [word for word in words if word in wire]
    assert not found, found
    await peer.close()


async def stays_in_handshake(c):
    """Before a server of both eras."""
    await run(c.peer, c.dialect["echo"], c.nonce)
    eras = (await c.control("state"))["eras"]
    assert eras["handshake"] > 0, "the server was not asked"
    assert eras["modern"] == 0, f"{eras['modern']} requests of the modern era"


async def upgrade(c):
    """A server that is upgraded to 2026-07-28 and rolled back, under a ferry and a client that go on."""
    await run(c.peer, c.dialect["echo"], c.nonce)
    for server in ("ts2.4-modern", "py1.30-stateful-sse"):
        await c.control(f"become/{server}")
        await run(c.peer, c.dialect["echo"], f"{c.nonce} {server}")
        await listening(c)
        if c.plan["asks"] == "elicit":
            await run(c.peer, c.dialect["elicit"], f"{c.nonce} {server}")

"""The scenarios before a server of 2026-07-28 only, under the names and with the meaning of `modern.mjs`."""

import base64
import json
import re

from scenarios import flat, listening, run, until

LEVEL = "io.modelcontextprotocol/logLevel"


async def seen(c, nonce):
    """The requests the server saw that carry the nonce."""
    return [request for request in (await c.control("state"))["requests"] if nonce in json.dumps(request["params"])]


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

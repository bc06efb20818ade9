"""The tool set of the Python servers: the same names, arguments and replies as `ts-tools.mjs`.

`register` puts it on a FastMCP of `mcp` 1.30 or an MCPServer of 2.3, which agree on what is used here;
what they do not agree on comes in as `types` and is done in `python_130.py` and `python_23.py`. `serve`
runs the app on $PORT (0 picks one), tells the port on stdout and answers the side channel GET /control.
"""

import json
import os
import socket

import anyio
import uvicorn
from pydantic import BaseModel
from starlette.responses import JSONResponse

BIG = "".join(f"{i:09d};" for i in range(100_000))
NAMES = ["Ada", "Alan", "Grace"]


class World:
    """What the scenarios ask about; one per process, shared by all sessions."""

    def __init__(self):
        self.counter = 0
        self.level = None
        self.running = set()
        self.cancelled = set()
        self.gates = {}
        self.subscribed = {}  # session object id -> uris; sessions of this rig are few and short

    def gate(self, key):
        """What holds a call until another call opens the gate of that key; it can be opened from now on."""
        gate = self.gates[key] = anyio.Event()

        async def opened():
            with anyio.fail_after(30):
                await gate.wait()

        return opened()


class EventStore:
    """Keeps every event, so that a stream closed early or lost can be resumed."""

    def __init__(self, message_class):
        self.events = []
        self.message_class = message_class

    async def store_event(self, stream_id, message):
        self.events.append((stream_id, message))
        return str(len(self.events))

    async def replay_events_after(self, last_event_id, send_callback):
        last = int(last_event_id)
        stream = self.events[last - 1][0]
        for number, (owner, message) in enumerate(self.events[last:], last + 1):
            if owner == stream and message is not None:  # None marks a priming event
                await send_callback(self.message_class(message, str(number)))
        return stream


class Answer(BaseModel):
    answer: str


def adder(mcp, Context):
    """A decorator that adds a tool; the context is recognised by its annotation, which here differs per SDK."""

    def tool(function):
        if "ctx" in function.__annotations__:
            function.__annotations__["ctx"] = Context
        return mcp.tool(structured_output=False)(function)

    return tool


def register(mcp, world, types, Context, ToolError, more=dict):
    """Adds tools, prompt, resource and completion; handlers of the low level are the caller's.

    `more` makes what only this server can tell at GET /control.
    """
    register_ordinary(mcp, world, types, Context, ToolError)
    register_asking(mcp, world, types, Context)

    @mcp.custom_route("/control", methods=["GET"])
    async def control(_request):
        return JSONResponse(report(world) | {"sessions": list(mcp.session_manager._server_instances)} | more())


def register_ordinary(mcp, world, types, Context, ToolError):
    """What needs nothing of the client, and so is the same in every revision."""
    tool = adder(mcp, Context)

    @tool
    def echo(text: str) -> str:
        return text

    @tool
    def add(a: int, b: int) -> str:
        return str(a + b)

    @tool
    def big() -> str:
        return BIG

    @tool
    def fail(text: str) -> str:
        raise ToolError(text)

    @tool
    async def slow(key: str) -> str:
        world.running.add(key)
        try:
            # Ends early only by a cancel; the limit makes a lost one visible.
            await anyio.sleep(80)
        except anyio.get_cancelled_exc_class():
            world.cancelled.add(key)
            raise
        return "not cancelled"

    @tool
    async def progress(steps: int, key: str, ctx: "Context") -> str:
        opened = world.gate(key)
        for done in range(1, steps + 1):
            await ctx.report_progress(done, steps)
        await opened
        return "done"

    @tool
    async def release(key: str) -> str:
        world.gates.pop(key).set()
        return "released"

    @tool
    async def log(text: str, ctx: "Context") -> str:
        for level, data in (("debug", f"quiet {text}"), ("error", text)):
            await ctx.session.send_log_message(level, data, related_request_id=ctx.request_id)
        return "logged"

    @mcp.resource("mem://counter")
    def counter() -> str:
        return str(world.counter)

    @mcp.prompt()
    def greet(name: str) -> str:
        return f"Hello, {name}!"

    @mcp.completion()
    async def complete(ref, argument, context):
        return types.Completion(values=[name for name in NAMES if name.startswith(argument.value)])


def register_asking(mcp, world, types, Context):
    """What asks or tells the client something of its own accord, over the session."""
    tool = adder(mcp, Context)

    @tool
    async def sample(text: str, ctx: "Context") -> str:
        message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text=text))
        reply = await ctx.session.create_message([message], max_tokens=10, related_request_id=ctx.request_id)
        return reply.content.text

    @tool
    async def elicit(text: str, ctx: "Context") -> str:
        reply = await ctx.elicit(text, Answer)
        return reply.data.answer if reply.action == "accept" else reply.action

    @tool
    async def roots(ctx: "Context") -> str:
        reply = await ctx.session.list_roots()
        return json.dumps([str(root.uri) for root in reply.roots])

    @tool
    async def ping(ctx: "Context") -> str:
        await ctx.session.send_ping()
        return "pong"

    @tool
    async def bump(ctx: "Context") -> str:
        world.counter += 1
        # Unrelated to this call on purpose: these travel on the listen stream.
        for uri in world.subscribed.get(session_key(ctx.session), ()):
            await ctx.session.send_resource_updated(uri)
        await ctx.session.send_tool_list_changed()
        return str(world.counter)

    @tool
    async def early(text: str, ctx: "Context") -> str:
        await ctx.close_sse_stream()
        await anyio.sleep(0.3)
        return text


def report(world):
    """What GET /control tells of any server."""
    return {"level": world.level, "running": sorted(world.running), "cancelled": sorted(world.cancelled)}


def session_key(session):
    """Tells one client's session from another's inside this process."""
    return id(getattr(session, "_connection", session))


def serve(app):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(os.environ.get("PORT", "0"))))
    listener.listen(128)
    print(f"port {listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])

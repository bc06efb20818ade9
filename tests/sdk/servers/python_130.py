"""A Python `mcp` 1.30 server with the rig's tool set: `python_130.py stateful|stateless sse|json`."""

import sys

from mcp import types
from mcp.server.fastmcp import Context, FastMCP
from mcp.server.fastmcp.exceptions import ToolError
from mcp.server.streamable_http import EventMessage

from py_tools import EventStore, World, register, serve, session_key

mode, replies = sys.argv[1:]
resumable = (mode, replies) == ("stateful", "sse")
world = World()
mcp = FastMCP(
    "rig-python",
    stateless_http=mode == "stateless",
    json_response=replies == "json",
    event_store=EventStore(EventMessage) if resumable else None,
    retry_interval=100 if resumable else None,
    log_level="WARNING",
)
register(mcp, world, types, Context, ToolError)
low = mcp._mcp_server


@low.subscribe_resource()
async def subscribe(uri):
    world.subscribed.setdefault(session_key(low.request_context.session), set()).add(str(uri))


@low.set_logging_level()
async def set_level(level):
    world.level = level


serve(mcp.streamable_http_app())

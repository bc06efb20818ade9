"""A Python `mcp` 2.3 server with the rig's tool set; stateful, SSE, resumable; of both eras, as that SDK is."""

import warnings

from mcp import types
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.streamable_http import EventMessage

from py_recorder import Recorder
from py_tools import EventStore, World, register, serve, session_key

# Logging and roots are deprecated in 2026-07-28; old clients are what this rig is about.
warnings.simplefilter("ignore", DeprecationWarning)

world = World()
mcp = MCPServer("rig-python", log_level="WARNING")
register(mcp, world, types, Context, ToolError, more=lambda: {"eras": recorder.eras})
low = mcp._lowlevel_server


async def subscribe(ctx, params):
    world.subscribed.setdefault(session_key(ctx.session), set()).add(str(params.uri))
    return types.EmptyResult()


async def set_level(_ctx, params):
    world.level = params.level
    return types.EmptyResult()


low.add_request_handler("resources/subscribe", types.SubscribeRequestParams, subscribe)
low.add_request_handler("logging/setLevel", types.SetLevelRequestParams, set_level)
recorder = Recorder(mcp.streamable_http_app(event_store=EventStore(EventMessage), retry_interval=100))
serve(recorder)

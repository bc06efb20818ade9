"""A Python `mcp` 2.3 server of revision 2026-07-28 only.

The SDK has no switch for that: what stands before it refuses every request of the handshake era, as a gateway that
routes by the version header would do.
"""

import json
import warnings

from mcp import types
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPDeprecationWarning
from starlette.responses import JSONResponse

from py_modern_tools import INSTRUCTIONS, register_modern
from py_recorder import Recorder
from py_tools import World, register_ordinary, report, serve

# Logging and roots are deprecated in 2026-07-28; old clients are what this rig is about.
warnings.simplefilter("ignore", MCPDeprecationWarning)

MODERN = "2026-07-28"
REFUSAL = {"code": -32022, "message": "Unsupported protocol version", "data": {"supported": [MODERN], "requested": "?"}}
REFUSED = json.dumps({"jsonrpc": "2.0", "id": None, "error": REFUSAL}).encode()

world = World()
mcp = MCPServer("rig-modern-python", instructions=INSTRUCTIONS, version="1.0.0", log_level="WARNING")
register_ordinary(mcp, world, types, Context, ToolError)
register_modern(mcp, world)


@mcp.custom_route("/control", methods=["GET"])
async def control(_request):
    # Where there are no sessions, an open listen stream is all that the server holds for a client.
    held = {"sessions": [f"listen {number}" for number in recorder.streams]}
    told = report(world) | recorder.report() | held
    del told["level"]  # each request says for itself which log messages it wants
    return JSONResponse(told)


app = mcp.streamable_http_app()


async def modern_only(scope, receive, send):
    headers = dict(scope.get("headers", []))
    if scope["type"] != "http" or scope["path"] == "/control" or headers.get(b"mcp-protocol-version") == MODERN.encode():
        return await app(scope, receive, send)
    await send({"type": "http.response.start", "status": 400, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": REFUSED})


recorder = Recorder(modern_only)
serve(recorder)

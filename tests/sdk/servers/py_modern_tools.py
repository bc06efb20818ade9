"""What revision 2026-07-28 made possible, in Python: the same names, arguments and replies as `modern-tools.mjs`.

Several rounds of input, several inputs at once, arguments in headers, results that are no objects.
"""

import json
from typing import Annotated, Any

from mcp import types
from mcp.server.mcpserver import Context
from pydantic import BaseModel, Field, WithJsonSchema

from py_tools import NAMES, adder

INSTRUCTIONS = "Ask before you bump. Żółć 漢字."
FORM = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
Asks = types.InputRequiredResult


# What is asked of the client, and how its answers read.
def elicit_of(message):
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=FORM))


def sample_of(prompt):
    said = types.SamplingMessage(role="user", content=types.TextContent(type="text", text=prompt))
    return types.CreateMessageRequest(params=types.CreateMessageRequestParams(messages=[said], max_tokens=10))


def elicited(given):
    return given and (given.content["answer"] if given.content else given.action)


def sampled(given):
    return given and given.content.text


def rooted(given):
    return given and json.dumps([str(root.uri) for root in given.roots], separators=(",", ":"))


def asks(requests=None, state=None):
    return Asks(input_requests=requests, request_state=state)


def answers(ctx, *keys):
    given = ctx.input_responses or {}
    return [given.get(key) for key in keys]


def register_modern(mcp, world):
    register_changes(mcp, world)
    register_rounds(mcp, world)
    register_headers(mcp)


def register_changes(mcp, world):
    tool = adder(mcp, Context)

    @tool
    async def bump(ctx: Context) -> str:
        world.counter += 1
        await ctx.notify_resource_updated("mem://counter")
        await ctx.notify_tools_changed()
        return str(world.counter)

    @tool
    async def touch(uri: str, ctx: Context) -> str:
        await ctx.notify_resource_updated(uri)
        return "touched"

    # Neither the schema of the result nor the result is an object, which older revisions do not know.
    # The SDK would wrap both, so they are given to it by hand.
    @mcp.tool(name="list-names", structured_output=False)
    def list_names() -> types.CallToolResult:
        text = types.TextContent(type="text", text=json.dumps(NAMES, separators=(",", ":")))
        return types.CallToolResult(content=[text], structured_content=NAMES)

    schema = {"type": "array", "items": {"type": "string"}}
    vars(mcp._tool_manager.get_tool("list-names"))["output_schema"] = schema


def register_rounds(mcp, world):
    tool = adder(mcp, Context)

    @tool
    async def elicit(text: str, ctx: Context) -> str | Asks:
        (q,) = answers(ctx, "q")
        return elicited(q) or asks({"q": elicit_of(text)})

    @mcp.tool(name="elicit-url", structured_output=False)
    async def elicit_url(text: str, ctx: Context) -> str | Asks:
        (q,) = answers(ctx, "q")
        page = types.ElicitRequestURLParams(message=text, url=f"https://example.com/{text}")
        return elicited(q) or asks({"q": types.ElicitRequest(params=page)})

    @tool
    async def sample(text: str, ctx: Context) -> str | Asks:
        (q,) = answers(ctx, "q")
        return sampled(q) or asks({"q": sample_of(text)})

    @tool
    async def roots(ctx: Context) -> str | Asks:
        (q,) = answers(ctx, "q")
        return rooted(q) or asks({"q": types.ListRootsRequest()})

    @mcp.tool(name="elicit-twice", structured_output=False)
    async def elicit_twice(text: str, ctx: Context) -> str | Asks:
        one, other = answers(ctx, "one", "other")
        if other:
            return f"{ctx.request_state} / {elicited(other)}"
        if one:
            return asks({"other": elicit_of(f"second {text}")}, elicited(one))
        return asks({"one": elicit_of(f"first {text}")}, "begun")

    @tool
    async def survey(text: str, ctx: Context) -> str | Asks:
        form, model, roots = answers(ctx, "form", "model", "roots")
        if form and model and roots:
            return " / ".join((elicited(form), sampled(model), rooted(roots)))
        requests = {"form": elicit_of(text), "model": sample_of(text), "roots": types.ListRootsRequest()}
        return asks(requests, "survey")

    @tool
    async def working(text: str, ctx: Context) -> str | Asks:
        (q,) = answers(ctx, "q")
        await ctx.report_progress(2 if q else 1, 2)
        if not q:
            return asks({"q": elicit_of(text)})
        await world.gate(text)
        return elicited(q)

    # Asks for nothing but to be called again.
    @tool
    async def later(text: str, ctx: Context) -> str | Asks:
        return ctx.request_state or asks(state=text)

    @mcp.prompt(name="asks")
    async def prompt_asks(text: str, ctx: Context) -> str | Asks:
        (q,) = answers(ctx, "q")
        return elicited(q) or asks({"q": elicit_of(text)})

    @mcp.resource("mem://asks/{key}")
    async def resource_asks(key: str, ctx: Context) -> str | Asks:
        (q,) = answers(ctx, "q")
        return elicited(q) or asks({"q": elicit_of(key)})


def mirror(of, name, kind):
    return Annotated[of, WithJsonSchema({"type": kind, "x-mcp-header": name})]


class Place(BaseModel):
    city: mirror(str | None, "City", "string") = None


def register_headers(mcp):
    @mcp.tool(structured_output=False)
    def headers(
        region: mirror(str, "Region", "string"),
        count: mirror(int, "Count", "integer"),
        urgent: mirror(bool, "Urgent", "boolean"),
        place: Annotated[dict[str, Any], WithJsonSchema(Place.model_json_schema())] = {},
        # Declared as a string, and yet takes null: the header is left out then.
        nothing: mirror(str | None, "Nothing", "string") = None,
        absent: mirror(str | None, "Absent", "string") = None,
    ) -> str:
        given = {"region": region, "count": count, "urgent": urgent, "place": place, "nothing": nothing}
        return json.dumps(given, separators=(",", ":"), ensure_ascii=False)

    # Clients must not show this one: numbers may not be mirrored, and the name is none of a header. The SDK does not
    # let one register such a tool, so it is spoilt afterwards.
    @mcp.tool(name="bad-header", structured_output=False)
    def bad_header(ratio: float) -> str:
        return "called"

    mcp._tool_manager.get_tool("bad-header").parameters["properties"]["ratio"]["x-mcp-header"] = "Not A Token"

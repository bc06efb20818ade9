"""The Python SDKs of the rig behind one small face, so that `scenarios.py` is written once.

Each peer is a real client over a transport of its own SDK. A peer lives in a task of its own,
because the SDKs insist that a session is left in the task that entered it.
"""

from contextlib import asynccontextmanager
from importlib.metadata import version

import anyio
from mcp import ClientSession, types
from mcp.client.sse import sse_client

VERSION = tuple(int(part) for part in version("mcp").split("."))
uri_of = str if VERSION >= (2,) else types.AnyUrl


def either(thing, *names):
    """The first attribute there is: 2.x renamed `isError` to `is_error` and so on."""
    return next(getattr(thing, name) for name in names if hasattr(thing, name))


class User:
    """What the user of a client does with what a server asks.

    The first word of the question says it, and the answers name what was asked, so that a reply of another client's
    cannot pass for one's own.
    """

    def __init__(self):
        self.asked = []
        self.held = anyio.Event()

    async def refuses(self, question):
        self.asked.append(question)
        if question.startswith("hold "):
            await self.held.wait()
        return question.startswith("refuse ")

    async def samples(self, _context, params):
        content = params.messages[-1].content
        content = content[0] if isinstance(content, list) else content
        if await self.refuses(content.text):
            return REFUSED
        said = types.TextContent(type="text", text=f"sampled {content.text}")
        return types.CreateMessageResult(role="assistant", content=said, model="rig")

    async def elicits(self, _context, params):
        if await self.refuses(params.message):
            return REFUSED
        if getattr(params, "url", None):
            self.asked.append(params.url)
            return types.ElicitResult(action="accept")
        action = params.message.split(" ", 1)[0]
        if action in ("decline", "cancel"):
            return types.ElicitResult(action=action)
        schema = either(params, "requestedSchema", "requested_schema")
        field = next(iter(schema["properties"]))
        return types.ElicitResult(action="accept", content={field: f"answer to {params.message}"})


REFUSED = types.ErrorData(code=-32603, message="the rig refuses")


def roots_of(nonce):
    return types.ListRootsResult(roots=[types.Root(uri=f"file:///rig/{nonce}", name="rig")])


class Peer:
    """`mcp` 1.9 and later through ClientSession, 2.3 also through the high-level Client."""

    def __init__(self, transport, nonce, high_level=False, bare=False):
        self.transport, self.nonce = transport, nonce
        self.high_level = high_level  # a mode of `mcp.Client`
        self.bare = bare  # a client that can do nothing for a server, and says so
        self.user = User()
        self.notes = []  # (method, params)
        self.last_error = None
        self._leave, self._left = anyio.Event(), anyio.Event()

    # Life: `await group.start(peer.live)` connects, `await peer.close()` leaves.
    async def live(self, *, task_status):
        started = False
        try:
            async with self.connected() as self.api:
                started = True
                task_status.started()
                await self._leave.wait()
        except Exception as error:
            # A failed connect is the opener's to see; a session lost later shows in the calls.
            if not started:
                raise
            self.last_error = error
        finally:
            self._left.set()

    async def close(self):
        self._leave.set()
        await self._left.wait()

    @asynccontextmanager
    async def connected(self):
        if self.high_level:
            from mcp import Client

            async with Client(self.transport(), mode=self.high_level, **self.callbacks()) as client:
                self.server, self.version = client.server_info.name, client.protocol_version
                self.capabilities, self.instructions = client.server_capabilities, client.instructions
                yield client
            return
        async with self.transport() as streams, ClientSession(*streams[:2], **self.callbacks()) as session:
            self.take(await session.initialize())
            yield session

    def take(self, answer):
        self.server = either(answer, "serverInfo", "server_info").name
        self.version = either(answer, "protocolVersion", "protocol_version")
        self.capabilities, self.instructions = answer.capabilities, getattr(answer, "instructions", None)

    def callbacks(self):
        async def roots(_context):
            return roots_of(self.nonce)

        async def heard(message):
            if isinstance(message, Exception):
                self.last_error = message
            self.note(getattr(message, "root", message))

        made = {"message_handler": heard}
        if not self.bare:
            made |= {"sampling_callback": self.user.samples, "list_roots_callback": roots}
            made |= {"elicitation_callback": self.user.elicits} if hasattr(types, "ElicitResult") else {}
        return made

    def note(self, message):
        if hasattr(message, "method"):
            self.notes.append((message.method, message.params))

    @property
    def asked(self):
        """The version this SDK asks for over the old transport."""
        return "2025-11-25" if VERSION >= (2,) else types.LATEST_PROTOCOL_VERSION

    async def tools(self):
        return [tool.name for tool in (await self.api.list_tools()).tools]

    async def prompts(self):
        return [prompt.name for prompt in (await self.api.list_prompts()).prompts]

    async def resources(self):
        return [str(resource.uri) for resource in (await self.api.list_resources()).resources]

    async def read(self, uri):
        return (await self.api.read_resource(uri_of(uri))).contents[0].text

    async def call(self, tool, arguments, on_progress=None):
        more = {}
        if on_progress:

            async def heard(progress, _total, *_message):
                on_progress(progress)

            more["progress_callback"] = heard
        return self.outcome(await self.api.call_tool(tool, arguments, **more))

    def outcome(self, result):
        text = "".join(getattr(part, "text", "") for part in result.content)
        return text, bool(either(result, "isError", "is_error"))

    async def prompt(self, name, arguments):
        return (await self.api.get_prompt(name, arguments)).messages[0].content.text

    async def complete(self, prompt, argument, value):
        ref = types.PromptReference(type="ref/prompt", name=prompt)
        return (await self.api.complete(ref, {"name": argument, "value": value})).completion.values

    async def ping(self):
        return await self.api.send_ping()

    async def set_level(self, level):
        await self.api.set_logging_level(level)

    async def subscribe(self, uri):
        await self.api.subscribe_resource(uri_of(uri))

    async def unsubscribe(self, uri):
        await self.api.unsubscribe_resource(uri_of(uri))

    async def call_and_cancel(self, tool, arguments, begun):
        """Starts the call, waits for `begun`, then gives the call up and tells the server."""
        async with anyio.create_task_group() as group:
            request_id = getattr(self.api, "_request_id", None)
            group.start_soon(self.call, tool, arguments)
            await begun()
            if VERSION < (2,):
                # 1.x sends no cancel of its own; 2.x does when the waiting task is cancelled.
                params = types.CancelledNotificationParams(requestId=request_id, reason="the rig changed its mind")
                note = types.CancelledNotification(method="notifications/cancelled", params=params)
                await self.api.send_notification(types.ClientNotification(note))
            group.cancel_scope.cancel()


class Peer12(Peer):
    """`mcp` 1.2: no callbacks; whoever uses it must read `incoming_messages` or the session stalls."""

    @asynccontextmanager
    async def connected(self):
        async with self.transport() as streams, ClientSession(*streams) as session:
            async with anyio.create_task_group() as group:
                group.start_soon(self.listen, session)
                self.take(await session.initialize())
                yield session
                group.cancel_scope.cancel()

    async def listen(self, session):
        async for message in session.incoming_messages:
            if isinstance(message, Exception):
                self.last_error = message
            elif hasattr(message, "respond"):
                asked = message.request.root
                answer = roots_of(self.nonce) if asked.method == "roots/list" else types.EmptyResult()
                await message.respond(types.ClientResult(answer))
            else:
                self.note(message.root)
                if message.root.method == "notifications/progress" and self.on_progress:
                    self.on_progress(message.root.params.progress)

    on_progress = None

    async def call(self, tool, arguments, on_progress=None):
        if not on_progress:
            return self.outcome(await self.api.call_tool(tool, arguments))
        self.on_progress = on_progress
        params = types.CallToolRequestParams(name=tool, arguments=arguments, _meta={"progressToken": "rig"})
        request = types.CallToolRequest(method="tools/call", params=params)
        return self.outcome(await self.api.send_request(types.ClientRequest(request), types.CallToolResult))


class ModernPeer(Peer):
    """2026-07-28, where a client opens a stream for what it wants to be told."""

    @asynccontextmanager
    async def connected(self):
        async with super().connected() as self.client, anyio.create_task_group() as self.streams:
            self.subscriptions = {}
            await self.listen(tools_list_changed=True)
            yield self.client
            self.streams.cancel_scope.cancel()

    async def listen(self, **what):
        scope, opened = anyio.CancelScope(), anyio.Event()

        async def hear():
            with scope:
                async with self.client.listen(**what) as stream:
                    opened.set()
                    async for _event in stream:  # the message handler has heard it, too
                        pass

        self.streams.start_soon(hear)
        await opened.wait()
        return scope

    async def subscribe(self, uri):
        self.subscriptions[uri] = await self.listen(resource_subscriptions=[uri])

    async def unsubscribe(self, uri):
        self.subscriptions.pop(uri).cancel()


def peer(name, url, nonce, bare=False, **transport):
    if name.endswith("-modern"):
        from mcp.client.streamable_http import streamable_http_client

        return ModernPeer(lambda: streamable_http_client(url), nonce, "auto", bare)
    if name.endswith("-http"):
        from mcp.client.streamable_http import streamablehttp_client

        return Peer(lambda: streamablehttp_client(url, **transport), nonce, bare=bare)
    made = Peer12 if VERSION < (1, 9) else Peer
    return made(lambda: sse_client(url, **transport), nonce, "auto" if name.endswith("-Client") else False, bare)

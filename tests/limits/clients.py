"""Legacy clients by hand for the checks of limits: one that does what it is told, and a neighbour that must not suffer."""

import asyncio
import contextlib
import json
import socket
import time

from rig import patiently


def request(method, path, body=None, headers=()):
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Accept: text/event-stream, application/json"]
    lines += [f"{name}: {value}" for name, value in dict(headers).items()]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


async def read_head(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin1")
    status = int(head.split(" ")[1])
    fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
    return status, {name.lower(): value for name, value in fields.items()}


async def exchange(port, raw, source=None):
    """One request on a socket of its own; (0, {}) when it is closed without an answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=source)
    try:
        writer.write(raw)
        return await patiently(read_head(reader))
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0, {}
    finally:
        writer.transport.abort()


class Client:
    """A legacy client. What it is not told to read it does not read."""

    def __init__(self, port):
        self.port, self.last_id, self.comments = port, 0, []
        self.waiting, self.ended, self.poster = {}, False, None

    @classmethod
    async def open(cls, port, headers=(), buffer=None):
        """The stream and its endpoint, nothing said yet. `buffer` is how much the kernel may take off it."""
        client = cls(port)
        plain = socket.socket()
        if buffer:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        plain.setblocking(False)
        await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", port))
        client.reader, client.writer = await asyncio.open_connection(sock=plain, limit=buffer or 2**16)
        client.writer.write(request("GET", "/sse", headers=headers))
        status, fields = await patiently(read_head(client.reader))
        if status != 200:
            client.writer.transport.abort()
            raise Refused(status, fields)
        client.endpoint = (await client.chunk()).split(b"data: ")[1].strip().decode()
        return client

    @classmethod
    async def ready(cls, port, **options):
        """Initialized, and read from now on."""
        client = await cls.open(port, **options)
        client.listening = asyncio.create_task(client.listen())
        await client.ask("initialize", {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "limits", "version": "1"}})
        await client.post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return client

    async def chunk(self):
        size = int(await self.reader.readline(), 16)
        data = await self.reader.readexactly(size)
        await self.reader.readexactly(2)
        if size == 0:
            raise asyncio.IncompleteReadError(b"", None)
        return data

    async def listen(self):
        rest = b""
        try:
            while True:
                rest += await self.chunk()
                # Comments end with one line end, events with an empty line.
                while rest.startswith(b":") and b"\n" in rest:
                    self.comments.append(time.monotonic())
                    rest = rest.split(b"\n", 1)[1].lstrip(b"\n")
                while b"\n\n" in rest:
                    event, rest = rest.split(b"\n\n", 1)
                    message = json.loads(event.split(b"data: ", 1)[1])
                    if future := self.waiting.pop(message.get("id"), None):
                        future.set_result(message)
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            self.ended = True
            for future in self.waiting.values():
                future.cancel()

    async def post(self, message, keep=True):
        """On this client's one posting socket, opened again when it was closed."""
        raw = message if isinstance(message, bytes) else json.dumps(message).encode()
        for attempt in range(2):
            if not self.poster:
                self.poster = await asyncio.open_connection("127.0.0.1", self.port)
            reader, writer = self.poster
            try:
                writer.write(request("POST", self.endpoint, raw))
                status, fields = await patiently(read_head(reader))
                await reader.readexactly(int(fields.get("content-length", 0)))
                return status
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.transport.abort()
                self.poster = None
                if attempt:
                    raise

    async def ask(self, method, params):
        self.last_id += 1
        future = self.waiting[self.last_id] = asyncio.get_running_loop().create_future()
        status = await self.post({"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params})
        if status != 202:
            self.waiting.pop(self.last_id)
            raise NotAccepted(status)
        return await patiently(future)

    async def call(self, tool, **arguments):
        return await self.ask("tools/call", {"name": tool, "arguments": arguments})

    async def echo(self, text="hello"):
        """A call that must succeed; how long it took."""
        begun = time.monotonic()
        answer = await self.call("echo", text=text)
        assert answer["result"]["content"][0]["text"] == text, answer
        return time.monotonic() - begun

    def close(self):
        self.writer.transport.abort()
        if self.poster:
            self.poster[1].transport.abort()


class Refused(Exception):
    """A stream was not opened; with what status and headers."""

    def __init__(self, status, headers):
        super().__init__(f"GET /sse: {status}")
        self.status, self.headers = status, headers


class NotAccepted(Exception):
    """A message was refused, with this status."""


class Neighbour:
    """A well-behaved client that calls once in a while; afterwards it says how long its slowest call took."""

    @classmethod
    @contextlib.asynccontextmanager
    async def beside(cls, port, patient=False):
        client = await Client.ready(port)
        neighbour = cls()
        neighbour.calls, neighbour.refused, neighbour.slowest = 0, 0, 0.0

        async def go_on():
            while True:
                try:
                    neighbour.slowest = max(neighbour.slowest, await client.echo(f"call {neighbour.calls}"))
                    neighbour.calls += 1
                except NotAccepted as refused:
                    if not patient or refused.args != (503,):
                        raise
                    neighbour.refused += 1
                await asyncio.sleep(0.2)

        task = asyncio.create_task(go_on())
        try:
            yield neighbour
        finally:
            broken = task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            client.close()
        if broken:
            task.result()
        assert neighbour.calls > 3, f"the neighbour came to {neighbour.calls} calls only"

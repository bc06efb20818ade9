"""What the checks of limits share: a ferry as a process, an upstream that does as it is told, and a legacy client by hand.

All on asyncio, because thousands of sockets are open at once. Standard library only.
"""

import asyncio
import contextlib
import json
import os
import re
import resource
import signal
import socket
import sys
import time

PATIENCE_S = 30  # for one answer, on a machine that others use too
BINARY = os.environ.get("MCP_FERRY_BIN", "target/release/mcp-ferry")


def raise_descriptors():
    """As many descriptors as may be, for this process; a ferry raises its own."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Ferry:
    """The real program. `before` goes before its command line, as `prlimit --nofile=64` does."""

    @classmethod
    @contextlib.asynccontextmanager
    async def run(cls, upstream, *flags, before=(), env=None):
        ferry = cls()
        command = [*before, BINARY, "--upstream", upstream.url, "--listen", "127.0.0.1:0", *flags]
        ferry.process = await asyncio.create_subprocess_exec(
            *command, stderr=asyncio.subprocess.PIPE, env={**os.environ, "NO_COLOR": "1", **(env or {})}
        )
        ferry.log = []
        ferry.port = None
        ferry.reading = asyncio.create_task(ferry.read())
        try:
            await eventually("the ferry to listen", lambda: ferry.port, alive=ferry)
            # What stands before may have been a wrapper, not the ferry itself.
            ferry.pid = ferry.find()
            yield ferry
            ferry.check_alive()
        finally:
            if ferry.process.returncode is None:
                ferry.process.send_signal(signal.SIGKILL)
            await ferry.process.wait()
            ferry.reading.cancel()

    async def read(self):
        async for line in self.process.stderr:
            self.log.append(line.decode(errors="replace").rstrip())
            if told := re.search(r"listening on http://127\.0\.0\.1:(\d+)", self.log[-1]):
                self.port = int(told[1])

    def find(self):
        children = open(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read().split()
        return int(children[0]) if children else self.process.pid

    def check_alive(self):
        assert self.process.returncode is None, f"the ferry ended with {self.process.returncode}: {self.log[-5:]}"

    def status(self, field):
        """A field of /proc/PID/status in KiB."""
        text = open(f"/proc/{self.pid}/status").read()
        return int(re.search(rf"^{field}:\s+(\d+)", text, re.M)[1])

    def rss(self):
        return self.status("VmRSS")

    def reset_peak(self):
        with open(f"/proc/{self.pid}/clear_refs", "w") as file:
            file.write("5")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))


async def eventually(what, condition, seconds=PATIENCE_S, alive=None):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if alive:
            alive.check_alive()
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        await asyncio.sleep(0.05)
    return found


class Upstream:
    """A Streamable HTTP server: sessionless, JSON answers, and tools that are what a check needs.

    `tools` maps a tool's name to `async (arguments) -> text`; one that is an async generator is answered with an event
    stream of the messages that it yields, as bytes, for as long as somebody reads.
    """

    @classmethod
    @contextlib.asynccontextmanager
    async def run(cls, **tools):
        upstream = cls()
        upstream.tools = {"echo": lambda arguments: arguments["text"], **tools}
        upstream.seen = 0
        upstream.streams = 0
        upstream.connections = set()
        server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, limit=2**26, backlog=4096)
        upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
        try:
            yield upstream
        finally:
            server.close()
            for writer in list(upstream.connections):
                writer.transport.abort()

    async def serve(self, reader, writer):
        self.connections.add(writer)
        # Little in the kernel, so that what is not read shows at once.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = re.search(rb"content-length: (\d+)", head, re.I)
                body = await reader.readexactly(int(length[1])) if length else b""
                self.seen += 1
                await self.answer(writer, head.split(b" ", 1)[0], body)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.connections.discard(writer)
            writer.close()

    async def answer(self, writer, method, body):
        if method != b"POST":
            return await self.reply(writer, "405 Method Not Allowed", b"")
        message = json.loads(body)
        if "id" not in message:
            return await self.reply(writer, "202 Accepted", b"")
        if message["method"] == "initialize":
            server = {"name": "limits", "version": "1"}
            result = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": server}
            return await self.result(writer, message, result)
        params = message["params"]
        made = self.tools[params["name"]](params["arguments"])
        if hasattr(made, "__aiter__"):
            return await self.stream(writer, made)
        text = await made if asyncio.iscoroutine(made) else made
        return await self.result(writer, message, {"content": [{"type": "text", "text": text}]})

    async def result(self, writer, message, result):
        answer = {"jsonrpc": "2.0", "id": message["id"], "result": result}
        await self.reply(writer, "200 OK", json.dumps(answer).encode())

    async def reply(self, writer, status, body):
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    async def stream(self, writer, messages):
        self.streams += 1
        try:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
            async for message in messages:
                writer.write(b"data: " + message + b"\n\n")
                await writer.drain()
            writer.close()
        finally:
            self.streams -= 1


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
        return await asyncio.wait_for(read_head(reader), PATIENCE_S)
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
        status, fields = await asyncio.wait_for(read_head(client.reader), PATIENCE_S)
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
                status, fields = await asyncio.wait_for(read_head(reader), PATIENCE_S)
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
        assert status == 202, f"POST: {status}"
        return await asyncio.wait_for(future, PATIENCE_S)

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


class Neighbour:
    """A well-behaved client that calls once in a while; afterwards it says how long its slowest call took."""

    @classmethod
    @contextlib.asynccontextmanager
    async def beside(cls, port):
        client = await Client.ready(port)
        neighbour = cls()
        neighbour.calls, neighbour.slowest = 0, 0.0

        async def go_on():
            while True:
                neighbour.slowest = max(neighbour.slowest, await client.echo(f"call {neighbour.calls}"))
                neighbour.calls += 1
                await asyncio.sleep(0.2)

        task = asyncio.create_task(go_on())
        try:
            yield neighbour
        finally:
            if task.done():
                task.result()
            task.cancel()
            client.close()
        assert neighbour.calls > 3, f"the neighbour came to {neighbour.calls} calls only"


def main(*checks):
    """Runs the checks of one file, prints a line each, and says by the exit code whether all held."""
    raise_descriptors()
    failed = 0
    for check in checks:
        begun = time.monotonic()
        try:
            detail = asyncio.run(asyncio.wait_for(check(), 120))
            print(f"ok    {check.__name__} ({time.monotonic() - begun:.0f} s){f': {detail}' if detail else ''}", flush=True)
        except Exception as error:  # one broken check must not hide the others
            failed += 1
            print(f"FAIL  {check.__name__}: {type(error).__name__}: {error}", flush=True)
    sys.exit(1 if failed else 0)

"""What the checks of limits share: a ferry as a process, an upstream that does as it is told, and a runner.

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
import traceback

PATIENCE_S = 60  # for one answer, on a machine that others use too
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


async def patiently(awaited, seconds=PATIENCE_S):
    """What is awaited, within a time. Not by `asyncio.wait_for`: until Python 3.12 that loses a cancel that comes in the
    same turn as the answer, and a task that was cancelled then goes on for ever."""
    async with asyncio.timeout(seconds):
        return await awaited


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


def where(error):
    """The ways to an error and to what caused it, innermost last; of a check that ran out of its time, what it waited for."""
    ways = []
    while error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [f"{os.path.basename(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames if "limits" in frame.filename]
        ways.append(f"{type(error).__name__} at {' > '.join(own)}")
        error = error.__cause__ or error.__context__
    return "; because of ".join(ways)


def main(*checks):
    """Runs the checks of one file, prints a line each, and says by the exit code whether all held."""
    raise_descriptors()
    failed = 0
    for check in checks:
        begun = time.monotonic()
        try:
            detail = asyncio.run(patiently(check(), 300))
            print(f"ok    {check.__name__} ({time.monotonic() - begun:.0f} s){f': {detail}' if detail else ''}", flush=True)
        except Exception as error:  # one broken check must not hide the others
            failed += 1
            took = time.monotonic() - begun
            print(f"FAIL  {check.__name__} ({took:.0f} s): {type(error).__name__}: {error}\n      {where(error)}", flush=True)
    sys.exit(1 if failed else 0)

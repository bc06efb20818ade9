"""A peer that vanishes without a word, as a machine does whose power or network is gone: F5 and F17, with real links.

Three network namespaces in a row, client - ferry - upstream; then a link goes down. The ferry must notice by itself,
within its 45 s: keep-alives every 15 s, and 30 s without an acknowledgement. Run by tests/vanish.sh as root.
"""

import asyncio
import json
import os
import subprocess
import sys
import time

BINARY, PREFIX = os.path.abspath(sys.argv[1]), sys.argv[2]
PEER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peer.py")
RULE_S = 45
MACHINE_S = 3  # for a busy machine, on top of the rule
FERRY_PORT, UPSTREAM_PORT = 8080, 9000


def ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f"`ip {' '.join(words)}` failed: {done.stderr.strip()}. This test needs network namespaces; "
            "run it as root, in a container with the right to make them (CAP_NET_ADMIN and CAP_SYS_ADMIN)"
        )


class Program:
    """A process in a namespace, and what it said, with the time of each line."""

    def __init__(self, process):
        self.process, self.lines = process, []
        self.reading = asyncio.create_task(self.read())

    async def read(self):
        async for line in self.process.stdout:
            self.lines.append((time.monotonic(), line.decode(errors="replace").strip()))

    def said(self, words):
        return [(when, line) for when, line in self.lines if line.startswith(words) or f" {words}" in line]

    async def wait_for(self, words, seconds, count=1):
        deadline = time.monotonic() + seconds
        while len(self.said(words)) < count:
            assert self.process.returncode is None, f"it ended early: {self.lines[-5:]}"
            assert time.monotonic() < deadline, f"no `{words}` within {seconds} s; it said: {self.lines[-8:]}"
            await asyncio.sleep(0.05)
        return self.said(words)[count - 1]


class Row:
    """client - ferry - upstream, each in its namespace."""

    def __init__(self, name):
        self.names = {part: f"{PREFIX}-{name}-{part}" for part in ("c", "f", "u")}
        self.programs = []

    async def __aenter__(self):
        for name in self.names.values():
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        for net, (near, far) in enumerate([("c", "f"), ("f", "u")], 1):
            a, b = self.names[near], self.names[far]
            ip("-n", a, "link", "add", f"to-{far}", "type", "veth", "peer", "name", f"to-{near}", "netns", b)
            for name, link, host in [(a, f"to-{far}", 1), (b, f"to-{near}", 2)]:
                ip("-n", name, "address", "add", f"10.77.{net}.{host}/24", "dev", link)
                ip("-n", name, "link", "set", link, "up")
        self.upstream = await self.start("u", sys.executable, PEER, "upstream", "10.77.2.2", str(UPSTREAM_PORT))
        await self.upstream.wait_for("listening", 20)
        url = f"http://10.77.2.2:{UPSTREAM_PORT}/mcp"
        self.ferry = await self.start("f", BINARY, "--upstream", url, "--listen", f"0.0.0.0:{FERRY_PORT}")
        await self.ferry.wait_for("listening on", 20)
        return self

    async def start(self, part, *command):
        program = Program(
            await asyncio.create_subprocess_exec(
                *("ip", "netns", "exec", self.names[part], *command),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, "NO_COLOR": "1"},
            )
        )
        self.programs.append(program)
        return program

    async def client(self, tool):
        program = await self.start("c", sys.executable, PEER, "client", "10.77.1.2", str(FERRY_PORT), tool)
        await program.wait_for("ready", 20)
        return program

    def link(self, part, state):
        ip("-n", self.names[part], "link", "set", "to-f", state)
        return time.monotonic()

    async def __aexit__(self, *_):
        for program in self.programs:
            if program.process.returncode is None:
                program.process.kill()
            await program.process.wait()
        for name in self.names.values():
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


async def a_client_that_vanishes_leaves_no_session_behind():
    async with Row("one") as row:
        await row.client("none")
        await row.client("never")
        await row.upstream.wait_for("session-begins", 20, count=2)
        await row.upstream.wait_for("call never", 20)
        gone = row.link("c", "down")
        times = []
        for count in (1, 2):
            when, _ = await row.upstream.wait_for("session-ends", RULE_S + MACHINE_S - (time.monotonic() - gone), count)
            times.append(when - gone)
        begun = {line.split()[1] for _, line in row.upstream.said("session-begins")}
        ended = {line.split()[1] for _, line in row.upstream.said("session-ends")}
        assert begun == ended, f"{begun} began, {ended} ended"
        # The one that was calling took its call back.
        await row.upstream.wait_for("notifications/cancelled", 1)
        return f"sessions ended after {times[0]:.0f} s and {times[1]:.0f} s"


async def an_upstream_that_vanishes_ends_its_calls_as_unknown():
    async with Row("two") as row:
        client = await row.client("never")
        await row.upstream.wait_for("call never", 20)
        gone = row.link("u", "down")
        when, line = await client.wait_for("message", RULE_S + MACHINE_S)
        answer = json.loads(line.split(" ", 1)[1])
        assert answer["id"] == 2 and answer["error"]["data"]["ferry"]["executed"] == "unknown", answer
        # It comes back, and so does service; the old call has had its answer.
        row.link("u", "up")
        client.process.stdin.write(b"\n")
        _, line = await client.wait_for("message", 30, count=2)
        answer = json.loads(line.split(" ", 1)[1])
        assert answer["id"] == 3 and "result" in answer, answer
        return f"its call ended after {when - gone:.0f} s, and the next one after its return was answered"


async def main():
    checks = [a_client_that_vanishes_leaves_no_session_behind, an_upstream_that_vanishes_ends_its_calls_as_unknown]
    # Together, because each is mostly waiting.
    outcomes = await asyncio.gather(*(check() for check in checks), return_exceptions=True)
    failed = 0
    for check, outcome in zip(checks, outcomes):
        if isinstance(outcome, BaseException):
            failed += 1
            print(f"FAIL  {check.__name__}: {type(outcome).__name__}: {outcome}")
        else:
            print(f"ok    {check.__name__}: {outcome}")
    print(f"{len(checks) - failed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(asyncio.run(main()))

"""F28, one core and thousands of idle streams, while calls are made: keep-alives come in time all the same."""

import asyncio
import time

from rig import Client, Ferry, Neighbour, Upstream, main

STREAMS = 4000
INTERVAL_S = 5
LATE_S = 5  # after the interval, by rule F28


class Idle(asyncio.Protocol):
    """A stream that only notes when bytes came; cheap, because the machine is small."""

    def __init__(self, port):
        self.port, self.last, self.longest, self.bytes = port, None, 0.0, 0
        self.closed = False

    def connection_made(self, transport):
        self.transport = transport
        transport.write(b"GET /sse HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n")

    def data_received(self, data):
        now = time.monotonic()
        if self.last:
            self.longest = max(self.longest, now - self.last)
        self.last = now
        self.bytes += len(data)

    def connection_lost(self, _error):
        self.closed = True


async def thousands_of_idle_streams_on_one_core_are_kept_alive():
    flags = ["--keep-alive", f"{INTERVAL_S}s"]
    async with Upstream.run() as upstream, Ferry.run(upstream, *flags, before=["taskset", "-c", "0"]) as ferry:
        loop = asyncio.get_running_loop()
        streams = []
        async with Neighbour.beside(ferry.port) as neighbour:
            for _ in range(0, STREAMS, 100):
                opening = [loop.create_connection(lambda: Idle(ferry.port), "127.0.0.1", ferry.port) for _ in range(100)]
                streams += [stream for _, stream in await asyncio.gather(*opening)]
            # Busy meanwhile, so that the one core has more to do than to wait.
            callers = [await Client.ready(ferry.port) for _ in range(10)]

            deadline = time.monotonic() + 3 * INTERVAL_S

            async def go_on(client):
                while time.monotonic() < deadline:
                    await client.echo()

            await asyncio.gather(*map(go_on, callers))
        now = time.monotonic()
        longest = max(max(stream.longest, now - stream.last) for stream in streams)
        closed = sum(stream.closed for stream in streams)
        for stream in streams:
            stream.transport.abort()
        assert not closed, f"{closed} streams ended"
        assert longest < INTERVAL_S + LATE_S, f"a stream heard nothing for {longest:.1f} s"
        return f"{STREAMS} streams, longest silence {longest:.1f} s; the slowest call took {neighbour.slowest * 1000:.0f} ms"


main(thousands_of_idle_streams_on_one_core_are_kept_alive)

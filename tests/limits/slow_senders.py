"""Slowloris: thousands of sockets that send a byte now and then, of a head or of a body, and never come to an end."""

import asyncio
import time

from clients import Client, Neighbour, request
from rig import Ferry, Upstream, main

SOCKETS = 2000
DRIP_S = 0.5


async def drip(port, beginning, limit_s):
    """Opens the sockets, lets each send its beginning and then a byte at a time; when all were closed, in seconds."""
    sockets = []
    for first in range(0, SOCKETS, 100):
        opening = [asyncio.open_connection("127.0.0.1", port) for _ in range(first, first + 100)]
        sockets += await asyncio.gather(*opening)
        for _, writer in sockets[first:]:
            writer.write(beginning)
    begun = time.monotonic()
    gone = [asyncio.create_task(reader.read()) for reader, _ in sockets]

    async def send():
        while True:
            for _, writer in sockets:
                if not writer.transport.is_closing():
                    writer.write(b"x")
            await asyncio.sleep(DRIP_S)

    sending = asyncio.create_task(send())
    try:
        # Some seconds more than the limit, for a machine that is busy.
        _, left = await asyncio.wait(gone, timeout=limit_s + 10)
        assert not left, f"{len(left)} of {SOCKETS} sockets are still open {limit_s + 10} s later"
        return time.monotonic() - begun
    finally:
        sending.cancel()
        for _, writer in sockets:
            writer.transport.abort()
        await asyncio.gather(*gone, return_exceptions=True)


async def heads_that_drip_are_closed_in_time():
    async with Upstream.run() as upstream, Ferry.run(upstream, "--header-timeout", "3s") as ferry:
        before = upstream.seen
        async with Neighbour.beside(ferry.port) as neighbour:
            took = await drip(ferry.port, b"GET /sse HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ", 3)
        assert neighbour.slowest < 5, f"a neighbour's call took {neighbour.slowest:.1f} s"
        assert upstream.seen - before <= neighbour.calls + 4, "something of it went upstream"
        return f"{SOCKETS} closed after {took:.1f} s; the neighbour's slowest call took {neighbour.slowest * 1000:.0f} ms"


async def bodies_that_drip_are_closed_in_time():
    async with Upstream.run() as upstream, Ferry.run(upstream, "--body-timeout", "3s") as ferry:
        victim = await Client.ready(ferry.port)
        begun = request("POST", victim.endpoint, b" " * 100_000)
        begun = begun[: -100_000] + b'{"jsonrpc"'
        async with Neighbour.beside(ferry.port) as neighbour:
            took = await drip(ferry.port, begun, 3)
        assert neighbour.slowest < 5, f"a neighbour's call took {neighbour.slowest:.1f} s"
        await victim.echo()
        return f"{SOCKETS} closed after {took:.1f} s; the neighbour's slowest call took {neighbour.slowest * 1000:.0f} ms"


main(heads_that_drip_are_closed_in_time, bodies_that_drip_are_closed_in_time)

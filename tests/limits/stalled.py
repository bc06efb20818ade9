"""A thousand clients that stop reading, before an upstream that floods them: memory stays under its formula."""

import asyncio
import json
import time

from rig import Client, Ferry, Neighbour, Upstream, eventually, main

CLIENTS = 1000
KIB = 1024
CLIENT_BUFFER = 64 * KIB
# What may come on top of a client's buffer before its upstream is paused: one turn of reading, of up to 32 pieces of
# what the upstream sent, which here are of 8 KiB.
TURN = 256 * KIB
# What a connection needs that waits for nothing (the budget is 24 KiB with an open stream upstream).
IDLE = 24 * KIB
SPARE = 16 * 1024 * KIB
MESSAGE = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x" * 8000}}).encode()


async def flood(_arguments):
    while True:
        yield MESSAGE


async def stalled_clients(ferry, upstream, count):
    """Opened with as little room in the kernel as it gives, made to call, and read no more."""

    async def one():
        client = await Client.open(ferry.port, buffer=4 * KIB)
        client.writer.transport.pause_reading()
        params = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "stalled", "version": "1"}}
        await client.post({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params})
        await client.post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        await client.post({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "flood", "arguments": {}}})
        client.poster[1].close()
        return client

    clients = []
    for _ in range(0, count, 50):
        clients += await asyncio.gather(*(one() for _ in range(50)))
    return clients


async def flooded(budget, *flags):
    """The highest memory above the base, and its bound, in bytes."""
    stall = "6s"
    flags = ["--client-buffer", f"{CLIENT_BUFFER // KIB}KiB", "--client-stall-timeout", stall, *flags]
    async with Upstream.run(flood=flood) as upstream, Ferry.run(upstream, *flags) as ferry:
        async with Neighbour.beside(ferry.port) as neighbour:
            await asyncio.sleep(1)
            base = ferry.rss() * KIB
            ferry.reset_peak()
            clients = await stalled_clients(ferry, upstream, CLIENTS)
            begun = time.monotonic()
            await eventually("every flood to be over", lambda: upstream.streams == 0, seconds=60, alive=ferry)
            took = time.monotonic() - begun
            await eventually("the sockets to be closed", lambda: ferry.descriptors() < 40)
        peak = ferry.status("VmHWM") * KIB - base
        for client in clients:
            client.close()
        assert neighbour.slowest < 5, f"a neighbour's call took {neighbour.slowest:.1f} s"
        # The formula that the README states.
        bound = min(budget, CLIENTS * (CLIENT_BUFFER + TURN)) + CLIENTS * IDLE + SPARE
        assert peak < bound, f"{peak >> 20} MiB above base, the bound is {bound >> 20} MiB"
        return (
            f"{peak >> 20} MiB above base, bound {bound >> 20} MiB; all closed {took:.1f} s after the last began to "
            f"stall ({stall}); the neighbour's slowest call took {neighbour.slowest * 1000:.0f} ms"
        )


async def memory_is_bounded_by_the_clients_buffers():
    return await flooded(1 << 30)


async def memory_is_bounded_by_the_budget_of_all():
    return await flooded(32 << 20, "--max-buffered", "32MiB")


main(memory_is_bounded_by_the_clients_buffers, memory_is_bounded_by_the_budget_of_all)

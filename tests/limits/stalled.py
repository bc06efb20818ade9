"""A thousand clients that stop reading, before an upstream that floods them: memory stays under its formula."""

import asyncio
import json
import time

from clients import Client, Neighbour, Refused
from rig import Ferry, Upstream, eventually, main

KIB = 1024
# What may come on top of a client's buffer before its upstream is paused: one turn of reading, which ends after 64 KiB
# with the piece that reached it, itself of 64 KiB at most.
TURN = 128 * KIB
# What every connection needs beside, and no budget counts: idle it takes 24 KiB with an open stream upstream, the answer
# that it reads has a socket buffer of up to 64 KiB, and what is below a grain of 16 KiB is not counted.
BESIDE = (24 + 64 + 16) * KIB
SPARE = 8 * 1024 * KIB
MESSAGE = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x" * 8000}}).encode()


async def flood(_arguments):
    while True:
        yield MESSAGE


async def stalled_clients(ferry, count):
    """Opened with as little room in the kernel as it gives, made to call, and read no more.

    Returns those that call, and how many were let in at all: one that was told to wait held its turn too.
    """
    opened = 0

    async def one():
        nonlocal opened
        try:
            client = await Client.open(ferry.port, buffer=4 * KIB)
            opened += 1
        except Refused as refused:
            # The budget of all is used up, and new streams are told so.
            assert refused.status == 503 and int(refused.headers["retry-after"]) >= 1, refused
            return None
        client.writer.transport.pause_reading()
        params = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "stalled", "version": "1"}}
        flooding = {"name": "flood", "arguments": {}}
        for message in [
            {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params},
            {"jsonrpc": "2.0", "method": "notifications/initialized"},
            {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": flooding},
        ]:
            status = await client.post(message)
            assert status in (202, 503), status
            if status == 503:
                client.close()
                return None
        client.poster[1].close()
        return client

    clients = []
    for _ in range(0, count, 50):
        clients += await asyncio.gather(*(one() for _ in range(50)))
    return [client for client in clients if client], opened


async def flooded(clients_wanted, client_buffer, budget, sheds=False):
    """Holds the highest memory above the base to its bound, everybody else to being served, and the flood to its end."""
    stall = "6s"
    flags = ["--client-buffer", f"{client_buffer // KIB}KiB", "--max-buffered", f"{budget // KIB}KiB"]
    flags += ["--client-stall-timeout", stall]
    async with Upstream.run(flood=flood) as upstream, Ferry.run(upstream, *flags) as ferry:
        async with Neighbour.beside(ferry.port, patient=True) as neighbour:
            await asyncio.sleep(1)
            base = ferry.rss() * KIB
            ferry.reset_peak()
            clients, count = await stalled_clients(ferry, clients_wanted)
            begun = time.monotonic()
            await eventually("every flood to be over", lambda: upstream.streams == 0, seconds=60, alive=ferry)
            took = time.monotonic() - begun
            await eventually("the sockets to be closed", lambda: ferry.descriptors() < 40)
        peak = ferry.status("VmHWM") * KIB - base
        for client in clients:
            client.close()
        # Its own buffers are no concern of others; only when all memory is used up others are told to wait.
        assert not neighbour.refused or sheds, f"{neighbour.refused} calls of a neighbour were refused"
        assert neighbour.slowest < 5, f"a neighbour's call took {neighbour.slowest:.1f} s"
        # The formula: what may wait, a turn that each may be ahead of that, and what each needs beside.
        bound = min(budget, count * client_buffer) + count * (TURN + BESIDE) + SPARE
        assert peak < bound, f"{count} let in, {peak >> 20} MiB above base, the bound is {bound >> 20} MiB"
        return (
            f"{count} of {clients_wanted} let in; {peak >> 20} MiB above base, bound {bound >> 20} MiB; all closed {took:.1f} s after the last began to "
            f"stall ({stall}); the neighbour's slowest call took {neighbour.slowest * 1000:.0f} ms, {neighbour.refused} were refused"
        )


async def memory_is_bounded_by_the_clients_buffers():
    return await flooded(1000, 64 * KIB, 1024 * 1024 * KIB)


async def memory_is_bounded_by_the_budget_of_all():
    # Their own buffers would be twice the bound.
    return await flooded(300, 1024 * KIB, 32 * 1024 * KIB, sheds=True)


main(memory_is_bounded_by_the_clients_buffers, memory_is_bounded_by_the_budget_of_all)

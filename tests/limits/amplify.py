"""What a message costs in memory while it is in flight, from a byte to 16 MiB, both ways: less than three times its size.

Small messages are sent many at a time, and a fixed sum is allowed for each: its sockets, its exchange, its bookkeeping.
"""

import asyncio
import json

from clients import Client
from rig import Ferry, Upstream, main, patiently

KIB, MIB = 1024, 1024 * 1024
# (size of a message's text, how many are in flight at a time)
SIZES = [(1, 200), (KIB, 200), (64 * KIB, 100), (MIB, 12), (16 * MIB, 2)]
GOAL = 3
# Beside the payload: a socket pair, buffers and an exchange per message, and what the allocator holds in reserve.
EACH = 48 * KIB
ALWAYS = 4 * MIB
FLAGS = ["--max-request-body", "32MiB", "--max-message", "32MiB", "--client-buffer", "64MiB", "--max-in-flight", "1000"]


async def measured(direction, size, count):
    """The highest memory above the base while `count` messages are in flight, as a multiple of what they are in all."""
    gate = asyncio.Event()
    waiting = 0

    async def held(arguments):
        nonlocal waiting
        waiting += 1
        await gate.wait()
        return "x" * arguments["size"]

    async with Upstream.run(held=held) as upstream, Ferry.run(upstream, *FLAGS) as ferry:
        client = await Client.ready(ferry.port)
        await client.echo("x" * KIB)
        await asyncio.sleep(0.3)
        base = ferry.rss()
        ferry.reset_peak()
        up, down = (size, 1) if direction == "up" else (1, size)
        calls = []
        for n in range(count):
            client.last_id += 1
            params = {"name": "held", "arguments": {"size": down, "text": "x" * up}}
            message = {"jsonrpc": "2.0", "id": client.last_id, "method": "tools/call", "params": params}
            client.waiting[client.last_id] = future = asyncio.get_running_loop().create_future()
            calls.append(future)
            assert await client.post(json.dumps(message).encode()) == 202
        while waiting < count:
            await asyncio.sleep(0.01)
        if direction == "down":
            # All answers at once, for a client that does not read them yet.
            client.writer.transport.pause_reading()
            gate.set()
            await asyncio.sleep(1)
            client.writer.transport.resume_reading()
        gate.set()
        for answer in await patiently(asyncio.gather(*calls)):
            assert len(answer["result"]["content"][0]["text"]) == down
        grown = (ferry.status("VmHWM") - base) * KIB
        client.close()
        payload = size * count
        bound = GOAL * payload + EACH * count + ALWAYS
        assert grown < bound, f"{direction}, {count} of {size} bytes: {grown / MIB:.1f} MiB, the bound is {bound / MIB:.1f} MiB"
        return f"{count}×{size} B {grown / MIB:.1f} MiB ({grown / payload:.1f}x)" if size >= KIB else f"{count}×{size} B {grown / MIB:.1f} MiB"


async def messages_of_clients_cost_less_than_three_times_their_size():
    return ", ".join([await measured("up", size, count) for size, count in SIZES])


async def messages_of_the_upstream_cost_less_than_three_times_their_size():
    return ", ".join([await measured("down", size, count) for size, count in SIZES])


main(
    messages_of_clients_cost_less_than_three_times_their_size,
    messages_of_the_upstream_cost_less_than_three_times_their_size,
)

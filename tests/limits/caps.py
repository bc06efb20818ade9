"""The caps on connections and sockets: what is above them is refused in words, what is below is not touched."""

import asyncio

from rig import Client, Ferry, Refused, Upstream, main


async def refusal(port, **options):
    try:
        (await Client.open(port, **options)).close()
    except Refused as refused:
        return refused
    return None


async def streams_above_the_total_get_503_and_a_time():
    async with Upstream.run() as upstream, Ferry.run(upstream, "--max-connections", "5") as ferry:
        clients = [await Client.ready(ferry.port) for _ in range(5)]
        for _ in range(3):
            refused = await refusal(ferry.port)
            assert refused and refused.status == 503, refused
            assert int(refused.headers["retry-after"]) >= 1
        for client in clients:
            await client.echo()
        clients.pop().close()
        deadline = asyncio.get_running_loop().time() + 10
        while await refusal(ferry.port):
            assert asyncio.get_running_loop().time() < deadline, "the place was not given back"
            await asyncio.sleep(0.05)


async def streams_above_one_address_share_get_refused():
    flags = ["--max-connections-per-peer", "3", "--trusted-proxy", "127.0.0.0/8"]
    async with Upstream.run() as upstream, Ferry.run(upstream, *flags) as ferry:
        one = {"X-Forwarded-For": "203.0.113.7"}
        # The last address that is not a trusted proxy's counts, whatever the client wrote before it.
        forged = {"X-Forwarded-For": "198.51.100.1, 203.0.113.7, 127.0.0.9"}
        clients = [await Client.ready(ferry.port, headers=one) for _ in range(3)]
        for headers in [one, forged]:
            refused = await refusal(ferry.port, headers=headers)
            assert refused and refused.status in (429, 503), f"{headers}: {refused}"
            assert int(refused.headers["retry-after"]) >= 1
        for other in ["203.0.113.8", "2001:db8::1"]:
            assert not await refusal(ferry.port, headers={"X-Forwarded-For": other}), other
        # The proxy itself and loopback are excepted.
        clients += [await Client.ready(ferry.port) for _ in range(6)]
        for client in clients:
            await client.echo()
        # An IPv6 network of a customer's size is one address.
        for n in range(3):
            clients.append(await Client.ready(ferry.port, headers={"X-Forwarded-For": f"2001:db8:1:1::{n + 1}"}))
        assert await refusal(ferry.port, headers={"X-Forwarded-For": "2001:db8:1:1:ffff::9"})


async def sockets_above_the_cap_do_not_harm_those_below():
    async with Upstream.run() as upstream, Ferry.run(upstream, "--max-sockets", "10", "--header-timeout", "60s") as ferry:
        streams = [await Client.ready(ferry.port) for _ in range(5)]
        # Each has a socket to post on, so five places are left for idle ones, or for the newest of them.
        idle = [await asyncio.open_connection("127.0.0.1", ferry.port) for _ in range(30)]
        await asyncio.sleep(0.5)
        assert ferry.descriptors() < 5 + 10 + 25, f"{ferry.descriptors()} descriptors"
        for client in streams:
            await client.echo()
        for _, writer in idle:
            writer.transport.abort()
        await asyncio.sleep(0.5)
        streams.append(await Client.ready(ferry.port))
        for client in streams:
            await client.echo()


main(
    streams_above_the_total_get_503_and_a_time,
    streams_above_one_address_share_get_refused,
    sockets_above_the_cap_do_not_harm_those_below,
)

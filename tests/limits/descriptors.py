"""F25, no descriptor is left: open streams go on, new sockets are turned away, and all is well again afterwards."""

import asyncio

from rig import Client, Ferry, Upstream, eventually, main

LIMIT = 64
STREAMS = 12


async def running_out_of_descriptors_harms_nobody_who_is_there():
    before = ["prlimit", f"--nofile={LIMIT}:{LIMIT}"]
    async with Upstream.run() as upstream, Ferry.run(upstream, "--keep-alive", "1s", before=before) as ferry:
        clients = [await Client.ready(ferry.port) for _ in range(STREAMS)]
        base, lines = ferry.descriptors(), len(ferry.log)
        # More than there are places for; those that the ferry does not take wait in the listener's queue.
        crowd = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", ferry.port) for _ in range(2 * LIMIT)))
        await eventually("the descriptors to run out", lambda: ferry.descriptors() >= LIMIT - 2)
        seen = [len(client.comments) for client in clients]
        await asyncio.sleep(4)
        grown = [len(client.comments) - before for client, before in zip(clients, seen)]
        assert min(grown) >= 2, f"keep-alives in 4 s: {grown}"
        results, refused = 0, 0
        # Their sockets to post on are open. The upstream's may not be, and then the answer says so.
        for answer in await asyncio.gather(*(client.call("echo", text="hello") for client in clients)):
            if "result" in answer:
                results += 1
            else:
                assert answer["error"]["data"]["ferry"]["executed"] == "no", answer
                refused += 1
        said = len(ferry.log) - lines
        assert any("descriptor" in line for line in ferry.log[lines:]), "nobody was told of it"
        assert said <= 10, f"{said} lines were logged: {ferry.log[-3:]}"
        for _, writer in crowd:
            writer.transport.abort()
        await eventually("the descriptors to come back", lambda: ferry.descriptors() <= base + 8)
        clients += [await Client.ready(ferry.port) for _ in range(STREAMS)]
        for client in clients:
            await client.echo()
        for client in clients:
            client.close()
        await eventually("all to be back at base", lambda: ferry.descriptors() <= base - STREAMS)
        return f"{results} calls went through meanwhile, {refused} were refused as not executed; {said} lines logged"


main(running_out_of_descriptors_harms_nobody_who_is_there)

"""F24, the wall clock jumps by a day, forwards and backwards: nothing happens, because only monotonic time is used.

libfaketime gives the ferry another wall clock and leaves the monotonic one alone. That the jump arrived there shows in
the Date header of its answers.
"""

import asyncio
import glob
import tempfile
from email.utils import parsedate_to_datetime

from rig import Client, Ferry, Upstream, exchange, main, request

DAY_S = 86_400


async def slow(arguments):
    await asyncio.sleep(arguments["seconds"])
    return "done"


async def date(ferry):
    # Of a stream, because hyper, which writes the head of all else, remembers its date until a later one comes.
    _, fields = await exchange(ferry.port, request("GET", "/sse"))
    return parsedate_to_datetime(fields["date"]).timestamp()


async def a_jump_of_the_wall_clock_changes_nothing():
    libraries = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
    assert libraries, "libfaketime is not installed (Debian package faketime)"
    with tempfile.NamedTemporaryFile("w") as offset:

        def jump(by):
            offset.seek(0)
            offset.truncate()
            offset.write(by)
            offset.flush()

        jump("+0")
        env = {
            "LD_PRELOAD": libraries[0],
            "FAKETIME_TIMESTAMP_FILE": offset.name,
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        flags = ["--keep-alive", "1s", "--header-timeout", "60s", "--request-timeout", "1h"]
        async with Upstream.run(slow=slow) as upstream, Ferry.run(upstream, *flags, env=env) as ferry:
            client, idle = await Client.ready(ferry.port), await Client.ready(ferry.port)
            call = asyncio.create_task(client.call("slow", seconds=6))
            await asyncio.sleep(0.5)
            now = await date(ferry)
            lines = len(ferry.log)
            for by, expected in [("+1d", DAY_S), ("-1d", -DAY_S), ("+0", 0)]:
                heard = len(idle.comments)
                jump(by)
                moved = await date(ferry) - now
                assert abs(moved - expected) < 60, f"the clock moved by {moved} s instead of {expected}"
                await idle.echo()
                await asyncio.sleep(1.6)
                # A burst of them, or none, would be a clock that was believed.
                assert 1 <= len(idle.comments) - heard <= 5, f"{len(idle.comments) - heard} keep-alives"
                assert not client.ended and not idle.ended
            assert (await call)["result"]["content"][0]["text"] == "done"
            assert len(ferry.log) == lines, ferry.log[lines:]


main(a_jump_of_the_wall_clock_changes_nothing)

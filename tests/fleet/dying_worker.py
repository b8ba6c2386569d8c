"""A worker's process that stops at a step of its one job, says so, and waits to be killed there."""

from __future__ import annotations

import sys

import trio

from supervisor.connector.dialling import dial_directly
from supervisor.fleet.delivery import open_deliveries
from supervisor.fleet.registry import open_announcer
from supervisor.redis_link.link import open_redis
from supervisor.settings.fleet import RedisSettings
from tests.fleet.parts import MORTAL, record, take_one

STEPS = ("taken", "begun", "told", "finished")


async def main(url: str, prefix: str, last: str) -> None:
    me = record("dying")
    async with (
        open_redis(RedisSettings(url=url, prefix=prefix), dial_directly) as link,
        open_announcer(link, MORTAL, lambda: me),
        open_deliveries(link, MORTAL, "dying", me.lanes) as deliveries,
    ):
        delivery = await take_one(deliveries)
        for step in STEPS:
            if step == "begun":
                assert await deliveries.begin(delivery)
            if step == "told":
                await deliveries.event(delivery, b"e")
            if step == "finished":
                await deliveries.finish(delivery, b"of the dying")
            if step == last:
                print(step, flush=True)
                await trio.sleep_forever()


if __name__ == "__main__":
    url, prefix, last = sys.argv[1:]
    trio.run(main, url, prefix, last)

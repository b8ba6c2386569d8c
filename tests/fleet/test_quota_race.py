"""Two gateways are sent more than a user may hold, at once: together they keep what fits and not one file more."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

from supervisor.admission.pressure import HostLimits, Pressure
from supervisor.connector.dialling import dial_directly
from supervisor.files.service import FileLimits, FileService
from supervisor.identity.derived import DerivedIds
from supervisor.redis_link.link import open_redis
from supervisor.settings.fleet import RedisSettings
from supervisor.store.redis_marks import RedisMarks
from supervisor.store.redis_sessions import RedisSessions
from supervisor.store.s3 import open_s3
from tests.daemon import Answer
from tests.fleet_world import Fleet, run_fleet

FILE_BYTES: Final = 100_000
FILES: Final = 10
"""As many as fit."""
SETTINGS: Final = {
    "GAOLER_FILES_USER_BYTES": str(FILES * FILE_BYTES + FILE_BYTES // 2),
}


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with run_fleet(settings=SETTINGS) as world:
        world.start("gateway", "g1", "g2")
        yield world


def at_once(fleet: Fleet, contents: list[bytes], user: str) -> list[Answer]:
    """Upload all of them at once, each by the other gateway than the one before."""
    gateways = [each.daemon for each in fleet.gateways]

    def one(number: int) -> Answer:
        return gateways[number % 2].upload((f"{number}.bin", contents[number]), user=user)

    with ThreadPoolExecutor(len(contents)) as callers:
        return list(callers.map(one, range(len(contents))))


def told(answers: list[Answer]) -> Counter[tuple[int, str]]:
    return Counter((each.status, each.json.get("error", "")) for each in answers)


def objects(fleet: Fleet) -> int:
    found: dict[str, Any] = fleet.s3.client().list_objects_v2(Bucket=fleet.bucket)
    return int(found["KeyCount"])


def held(fleet: Fleet) -> list[int]:
    """Bytes of every account that there is, as the database counts them."""
    with fleet.redis.client() as client:
        names = client.scan_iter(match=f"{{{fleet.prefix}}}:account:*")
        return [int(client.hget(name, "bytes") or 0) for name in names]


async def sweep_later(fleet: Fleet) -> tuple[int, int]:
    """Sweep as a gateway does when the time is over for which what nobody names yet is let be."""
    with fleet.redis.client() as client:
        for mark in client.scan_iter(match=f"{{{fleet.prefix}}}:mark:*"):
            client.delete(mark)
    async with (
        open_redis(RedisSettings(url=fleet.redis.url, prefix=fleet.prefix), dial_directly) as link,
        open_s3(fleet.s3.settings(fleet.bucket), dial_directly, RedisMarks(link)) as blobs,
    ):
        files = FileService(
            RedisSessions(link, 1.0),
            blobs,
            FileLimits(1, 1, 1, 1.0),
            DerivedIds(b"0" * 32),
            pressure=Pressure(HostLimits(0, 0.0, 100.0, 0, 0)),
            clock=lambda: time.time() + 3600,
        )
        return await files.sweep()


async def test_a_users_uploads_by_two_gateways_at_once_are_never_more_than_the_quota(fleet: Fleet) -> None:
    contents = [os.urandom(FILE_BYTES) for _ in range(3 * FILES)]
    answers = at_once(fleet, contents, "ann")
    assert told(answers) == {(200, ""): FILES, (507, "quota_reached"): 2 * FILES}
    assert all("files.user_bytes" in each.json["message"] for each in answers if each.status == 507)
    assert held(fleet) == [FILES * FILE_BYTES]
    # What was refused is nobody's: it goes with the sweep, and what was kept is there, at the other gateway too.
    await sweep_later(fleet)
    assert objects(fleet) == FILES
    for number, answer in enumerate(answers):
        if answer.status == 200:
            address = f"/v1/download/{answer.json['session_id']}/{answer.json['files'][0]['fileId']}"
            other = fleet.gateways[1 - number % 2].daemon
            assert other.request("GET", address, headers={"User-Id": "ann"}).body == contents[number]
    # Each byte that is given back can be used again, once.
    kept = next(each.json["session_id"] for each in answers if each.status == 200)
    gateway = fleet.gateways[0].daemon
    assert gateway.request("DELETE", f"/v1/sessions/{kept}", headers={"User-Id": "ann"}).status in (200, 204)
    assert told(at_once(fleet, contents[:4], "ann")) == {(200, ""): 1, (507, "quota_reached"): 3}
    assert held(fleet) == [FILES * FILE_BYTES]

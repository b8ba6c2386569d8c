"""A program that becomes what a daemon is, view, network and filter, and then talks to Redis and S3 by its connector.

In: settings by key, as JSON; out: what came of it, as JSON.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import trio

from supervisor.connector.dialling import Dial
from supervisor.jailer import kernel
from supervisor.jailer.setup import become_ordinary_user
from supervisor.preparation.prepare import code_directories, own_filters, told_of_names
from supervisor.preparation.remote import read_remote_files, start_way_out
from supervisor.redis_link.link import RedisLink, open_redis
from supervisor.settings.loading import load
from supervisor.settings.tree import Settings
from supervisor.store.redis_marks import RedisMarks
from supervisor.store.s3 import open_s3

MIB = 1 << 20


async def use_redis(link: RedisLink) -> dict[str, Any]:
    content, key, total = os.urandom(MIB), link.key("large"), link.key("total")
    await link.call(lambda client: client.set(key, content))

    async def add() -> None:
        await link.call(lambda client: client.incrby(total, 7))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(add)
    async with link.open_line() as line:
        pong = await line.ask("PING") == b"PONG"
    same = await link.call(lambda client: client.get(key)) == content
    return {"same": same, "sum": int(await link.call(lambda client: client.get(total)) or 0), "pong": pong}


async def use_s3(settings: Settings, dial: Dial, link: RedisLink) -> dict[str, Any]:
    async with open_s3(settings.s3, dial, RedisMarks(link)) as blobs:
        async with blobs.writer() as writer:
            for _ in range(20):
                await writer.write(os.urandom(MIB))
            digest, size = await writer.commit()
        read = 0
        async with blobs.open(digest) as chunks:
            async for chunk in chunks:
                read += len(chunk)
    return {"written": size, "read": read}


async def use(settings: Settings, dial: Dial) -> dict[str, Any]:
    told: dict[str, Any] = {}
    async with open_redis(settings.redis, dial) as link:
        told["redis"] = await use_redis(link)
        if settings.s3.url:
            told["s3"] = await use_s3(settings, dial, link)
    return told


def refused(attempt: Any) -> str:
    try:
        attempt()
    except OSError as error:
        return type(error).__name__
    return "done"


def main() -> None:
    settings = load(file=None, environment={}, flags=json.load(sys.stdin)).settings
    filters, remote = own_filters(settings), read_remote_files(settings)
    connector = start_way_out(settings, filters["connector"], code_directories(), told_of_names(), as_root=True)
    assert connector is not None
    become_ordinary_user(settings.jailer.daemon_uid, settings.state_path / "root", code_directories(), [])
    ca = settings.redis.ca
    settings = remote.shown(settings)
    kernel.install_seccomp(filters["daemon"], all_threads=True)
    told: dict[str, Any] = {
        "new socket": refused(socket.socket),
        "files of root": refused(lambda: Path(ca).read_bytes()) if ca else "",
        "elsewhere": refused(lambda: connector.dial("127.0.0.1", 1, 5)),
        **trio.run(use, settings, connector.dial),
    }
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()

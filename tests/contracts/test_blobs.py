"""What every blob store promises, on a disk and on an S3 server; and what it does when the server does not."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from supervisor.connector.dialling import dial_directly
from supervisor.errors import NotFound
from supervisor.store import BlobStore, s3
from supervisor.store.disk import DiskBlobs, open_blobs
from supervisor.store.marks import LocalMarks
from supervisor.store.s3 import open_s3
from tests.s3_server import S3Server

PART = 5 << 20


async def nothing_is_named(digests: Sequence[str]) -> list[str]:
    return list(digests)


def marks(grace_seconds: float = 0.0) -> LocalMarks:
    return LocalMarks(nothing_is_named, grace_seconds)


@dataclass
class Kept:
    blobs: BlobStore
    left: Callable[[], list[str]]
    """Names of everything there is, finished or not."""


def left_in(server: S3Server, bucket: str) -> list[str]:
    client = server.client()
    objects = [each["Key"] for each in client.list_objects_v2(Bucket=bucket).get("Contents", ())]
    uploads = [each["Key"] for each in client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())]
    return objects + uploads


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[DiskBlobs]:
    async with open_blobs(tmp_path / "blobs", reserve_bytes=0) as store:
        yield store


@pytest.fixture(params=["disk", "s3"])
async def kept(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Kept]:
    if request.param == "disk":
        async with open_blobs(tmp_path / "blobs", reserve_bytes=0) as blobs:
            yield Kept(blobs, lambda: [path.name for path in (tmp_path / "blobs").rglob("*") if path.is_file()])
        return
    server: S3Server = request.getfixturevalue("s3_server")
    bucket = server.new_bucket()
    async with open_s3(server.settings(bucket, part_bytes=PART), dial_directly, marks()) as store:
        yield Kept(store, lambda: left_in(server, bucket))


async def store(blobs: BlobStore, content: bytes, step: int = 300_000) -> str:
    async with blobs.writer() as writer:
        for start in range(0, len(content), step):
            await writer.write(content[start : start + step])
        digest, written = await writer.commit()
    assert (digest, written) == (hashlib.sha256(content).hexdigest(), len(content))
    return digest


async def read(blobs: BlobStore, digest: str, start: int = 0) -> bytes:
    async with blobs.open(digest, start) as chunks:
        return b"".join([chunk async for chunk in chunks])


SIZES = [0, 1, 65_536, 65_537, 1_000_000, s3.WINDOW_BYTES - 1, s3.WINDOW_BYTES, s3.WINDOW_BYTES + 1]


@pytest.mark.parametrize("size", [*SIZES, PART, PART + 1, 2 * PART, 2 * PART + 1])
async def test_a_blob_comes_back_as_it_was_from_any_byte_on(kept: Kept, size: int) -> None:
    content = os.urandom(size)
    digest = await store(kept.blobs, content)
    assert await read(kept.blobs, digest) == content
    for start in {0, 1, size // 2, max(0, size - 1), size, size + 7}:
        assert await read(kept.blobs, digest, start) == content[start:]
    assert len(kept.left()) == 1


async def test_the_same_content_is_kept_once(kept: Kept) -> None:
    for content in (b"x" * 10, os.urandom(PART + 10)):
        before = len(kept.left())
        assert await store(kept.blobs, content) == await store(kept.blobs, content)
        assert len(kept.left()) == before + 1


@pytest.mark.parametrize("size", [10, 200_000, PART + 10])
async def test_an_uncommitted_or_cancelled_blob_leaves_nothing(kept: Kept, size: int) -> None:
    with trio.CancelScope() as scope:
        async with kept.blobs.writer() as writer:
            await writer.write(bytes(size))
            scope.cancel()
            await trio.lowlevel.checkpoint()
    async with kept.blobs.writer() as writer:
        await writer.write(bytes(size))
    with pytest.raises(KeyError):
        async with kept.blobs.writer() as writer:
            await writer.write(bytes(size))
            raise KeyError
    assert kept.left() == []


async def test_a_blob_that_is_not_there_is_not_found_and_no_name_becomes_a_path(kept: Kept) -> None:
    for start in (0, 5):
        with pytest.raises(NotFound):
            async with kept.blobs.open("a" * 64, start):
                pass
    for name in ("../../etc/passwd", "A" * 64, "a" * 63, "/" + "a" * 63):
        with pytest.raises(ValueError, match="digest"):
            async with kept.blobs.open(name):
                pass


async def test_old_blobs_are_found_and_removed_and_removing_twice_is_no_error(kept: Kept) -> None:
    digests = {await store(kept.blobs, content) for content in (b"", b"a", b"b" * 100_000)}
    assert await kept.blobs.old(time.time() - 100) == []
    assert set(await kept.blobs.old(time.time() + 100)) == digests
    for digest in digests:
        await kept.blobs.remove(digest, time.time() + 100)
        await kept.blobs.remove(digest, time.time() + 100)
        with pytest.raises(NotFound):
            await read(kept.blobs, digest)
    assert kept.left() == []


async def test_a_reader_that_leaves_in_the_middle_leaves_nothing_open(kept: Kept) -> None:
    digest = await store(kept.blobs, os.urandom(2 * s3.WINDOW_BYTES))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        async with kept.blobs.open(digest) as chunks:
            await anext(aiter(chunks))
    assert len(os.listdir("/proc/self/fd")) <= before + 1


async def test_on_a_disk_only_what_was_not_used_again_is_removed(disk: DiskBlobs) -> None:
    digest = await store(disk, b"x")
    os.utime(disk.path(digest), (1000, 1000))
    assert await disk.old(2000) == [digest]
    assert disk.refresh(digest)
    await disk.remove(digest, 2000)
    assert disk.path(digest).exists()
    os.utime(disk.path(digest), (1000, 1000))
    await disk.remove(digest, 2000)
    assert not disk.path(digest).exists()

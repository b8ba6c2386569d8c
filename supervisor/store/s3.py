"""File bytes in a bucket of an S3-compatible server, named by their SHA-256.

A blob that fits into ``s3.part_bytes`` is one request, straight to its name: an object appears whole or not at all. A
longer one goes in parts to ``incoming/``, because its name is known only at its end, and is then copied by the server.
What is read from its start is compared with its name, so that what the server has damaged is not taken for the file.

Reading is by ranges, each into memory and at once: a reader that pauses holds no connection, a broken answer is gone on
with where it broke. Times are the server's own. Who uses a blob again and who removes it are kept apart by marks.
"""

from __future__ import annotations

import email.utils
import hashlib
import logging
import re
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import trio

from supervisor.connector.dialling import Dial
from supervisor.errors import NotFound, StoreUnavailable
from supervisor.settings.fleet import S3Settings
from supervisor.store import BlobMarks
from supervisor.store.s3_client import UNAVAILABLE, PastEnd, S3Client, open_s3_client
from supervisor.store.s3_upload import Upload, copy

log: Final = logging.getLogger("gaoler.store")

WINDOW_BYTES: Final = 4 << 20
"""So much is asked for at once, and held in memory for each reader."""
PIECE_BYTES: Final = 256 * 1024
LOOK_FIRST_BYTES: Final = 128 * 1024
"""A larger blob is sent only if it is not there yet; a smaller one is sent sooner than looked for."""
PAGE_OBJECTS: Final = 1000
"""So many are listed by one request: the most that a server gives."""
LEFT_SECONDS: Final = 86_400.0
"""An upload that is older than this was left by a crash."""
REMOVE_SECONDS: Final = 30.0
"""A removal takes no longer; the mark of it has to last much longer."""
PLACE_ATTEMPTS: Final = 3

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class S3BlobWriter:
    """A :class:`supervisor.store.BlobWriter`. Made by :meth:`S3Blobs.writer`."""

    def __init__(self, blobs: S3Blobs) -> None:
        self._blobs = blobs
        self._hash = hashlib.sha256()
        self._pending = bytearray()
        self._size = 0
        self._upload: Upload | None = None

    async def write(self, data: bytes) -> None:
        """See :class:`supervisor.store.BlobWriter`."""
        self._pending += data
        self._size += len(data)
        # More than a part, so that the last one is not empty.
        while len(self._pending) > (part_bytes := self._part_bytes()):
            if self._upload is None:
                self._upload = Upload(self._blobs.s3, self._blobs.incoming + secrets.token_hex(16))
            await self._upload.send(await self._take(part_bytes))

    async def commit(self) -> tuple[str, int]:
        """See :class:`supervisor.store.BlobWriter`."""
        rest = await self._take(len(self._pending))
        digest = self._hash.hexdigest()
        if self._upload is None:
            await self._blobs.put(digest, rest)
        else:
            await self._upload.send(rest)
            del rest
            await self._upload.complete(self._size)
            await self._blobs.place(digest, self._upload.key, self._size)
        return digest, self._size

    def _part_bytes(self) -> int:
        # A server takes ten thousand parts of an upload: they grow for what would be longer.
        parts = self._upload.sent if self._upload is not None else 0
        return self._blobs.s3.settings.part_bytes * (1 + parts // 1000)

    async def _take(self, length: int) -> bytes:
        def work() -> bytes:
            part = bytes(memoryview(self._pending)[:length])
            del self._pending[:length]
            self._hash.update(part)
            return part

        return work() if length <= LOOK_FIRST_BYTES else await trio.to_thread.run_sync(work)

    async def aclose(self) -> None:
        """Leave nothing but a committed blob. Shielded and bounded."""
        if self._upload is not None:
            await self._upload.aclose(remove=True)


class _Window:
    """What has been read of an object and not yet given on: up to :data:`WINDOW_BYTES`."""

    def __init__(self, start: int) -> None:
        self.position = start
        self.total: int | None = None
        self.pieces: list[bytes] = []
        self.hash = hashlib.sha256()

    @property
    def at_end(self) -> bool:
        return self.total is not None and self.position >= self.total

    def take(self) -> list[bytes]:
        pieces, self.pieces = self.pieces, []
        return pieces

    def read(self, client: Any, bucket: str, key: str, end: int) -> None:
        """Read up to byte ``end``; what was read before something broke stays. For a thread."""
        if self.position >= end:
            return
        answer = client.get_object(Bucket=bucket, Key=key, Range=f"bytes={self.position}-{end - 1}")
        body = answer["Body"]
        try:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.get("ContentRange", ""))
            if found is not None and int(found[1]) == self.position:
                self.total = int(found[2])
            elif found is None and self.position == 0:
                # Everything, because it is short, or because the server knows no ranges.
                self.total = int(answer["ContentLength"])
            else:
                raise StoreUnavailable("the server's file storage does not give parts of files")
            while self.position < end and (data := body.read(min(PIECE_BYTES, end - self.position))):
                self.pieces.append(data)
                self.hash.update(data)
                self.position += len(data)
        finally:
            body.close()


class S3Blobs:
    """A :class:`supervisor.store.BlobStore`. Use :func:`open_s3`."""

    def __init__(self, s3: S3Client, marks: BlobMarks, clock: Callable[[], float]) -> None:
        self.s3 = s3
        self._marks = marks
        self._clock = clock
        self._bucket = s3.settings.bucket
        self._blobs = s3.settings.prefix + "blobs/"
        self.incoming = s3.settings.prefix + "incoming/"

    def name(self, digest: str) -> str:
        """Give the name of a blob's object; anything but a SHA-256 in hex is refused."""
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"not a SHA-256 digest: {digest!a}")
        return f"{self._blobs}{digest[:2]}/{digest[2:]}"

    async def holds(self, digest: str, size: int) -> bool:
        """Say whether the blob is there, whole."""
        key = self.name(digest)
        try:
            found = await self.s3.call(lambda client: client.head_object(Bucket=self._bucket, Key=key))
        except NotFound:
            return False
        return bool(found["ContentLength"] == size)

    async def put(self, digest: str, content: bytes) -> None:
        """Have the blob there, of which this is the content."""
        await self._marks.use(digest)
        if len(content) > LOOK_FIRST_BYTES and await self.holds(digest, len(content)):
            return
        key, encrypted = self.name(digest), self.s3.encryption()
        await self.s3.call(lambda client: client.put_object(Bucket=self._bucket, Key=key, Body=content, **encrypted))

    async def place(self, digest: str, source: str, size: int) -> None:
        """Have the blob there, which lies at ``source``; that one stays."""
        for _ in range(PLACE_ATTEMPTS):
            # Copying may take longer than a mark lasts: it is there only if it is after a mark.
            await self._marks.use(digest)
            if await self.holds(digest, size):
                return
            await copy(self.s3, source, self.name(digest), size)
        raise StoreUnavailable("the server's file storage does not keep what it is given")

    @asynccontextmanager
    async def writer(self) -> AsyncIterator[S3BlobWriter]:
        """See :class:`supervisor.store.BlobStore`."""
        writer = S3BlobWriter(self)
        try:
            yield writer
        finally:
            await writer.aclose()

    @asynccontextmanager
    async def open(self, digest: str, start: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        """See :class:`supervisor.store.BlobStore`.

        Raises:
            StoreUnavailable: no answer; or, before the last chunk of what is read from byte 0: it is not what it was.
        """
        window = _Window(start)
        await self._fill(window, digest)
        checked = digest if start == 0 else None
        async with aclosing(self._chunks(window, digest, checked)) as chunks:
            yield chunks

    async def _chunks(self, window: _Window, digest: str, checked: str | None) -> AsyncGenerator[bytes, None]:
        while True:
            if window.at_end and checked is not None and window.hash.hexdigest() != checked:
                log.error("what S3 has is damaged: object=%s", self.name(digest))
                raise StoreUnavailable("the file is damaged in the server's storage", retry_after_seconds=600.0)
            for piece in window.take():
                yield piece
            if window.at_end:
                return
            await self._fill(window, digest)

    async def _fill(self, window: _Window, digest: str) -> None:
        key, end = self.name(digest), window.position + WINDOW_BYTES
        if window.total is not None:
            end = min(end, window.total)
        try:
            await self.s3.call(lambda client: window.read(client, self._bucket, key, end))
        except PastEnd:
            # Of an empty object there is no range; and of another nothing after its end.
            window.total = window.position

    async def old(self, before: float) -> list[str]:
        """See :class:`supervisor.store.BlobStore`. Also removes uploads that a crash left."""
        found: list[str] = []
        ahead: float | None = None
        async for page in self._pages(self._blobs):
            if ahead is None:
                ahead = _date_of(page) - self._clock()
            for each in page.get("Contents", ()):
                digest = each["Key"][len(self._blobs) :].replace("/", "", 1)
                if _DIGEST.fullmatch(digest) and each["LastModified"].timestamp() < before + ahead:
                    found.append(digest)
        try:
            await self._remove_left()
        except StoreUnavailable:
            # Not every server lists uploads; nor is that a reason to keep what nobody names.
            log.warning("S3 does not say what crashes have left there")
        return found

    async def _pages(self, prefix: str) -> AsyncGenerator[dict[str, Any], None]:
        more: dict[str, str] = {}
        while True:
            asked = {"Bucket": self._bucket, "Prefix": prefix, "MaxKeys": PAGE_OBJECTS, **more}
            page = await self.s3.call(lambda client, asked=asked: client.list_objects_v2(**asked))  # type: ignore[misc]
            yield page
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    async def _remove_left(self) -> None:
        """Remove what uploads left that were neither finished nor given up."""
        bucket = self._bucket
        async for page in self._pages(self.incoming):
            for each in page.get("Contents", ()):
                if each["LastModified"].timestamp() < _date_of(page) - LEFT_SECONDS:
                    await self._delete(each["Key"])
        page = await self.s3.call(lambda client: client.list_multipart_uploads(Bucket=bucket, Prefix=self.incoming))
        for each in page.get("Uploads", ()):
            if each["Initiated"].timestamp() < _date_of(page) - LEFT_SECONDS:
                await Upload(self.s3, each["Key"], each["UploadId"]).abort()

    async def _delete(self, key: str) -> None:
        await self.s3.call(lambda client: client.delete_object(Bucket=self._bucket, Key=key))

    async def remove(self, digest: str, before: float) -> None:  # noqa: ARG002
        """See :class:`supervisor.store.BlobStore`. The marks know better than ``before`` whether it was used again.

        When the server does not say that it is gone, it may still go later: then the removal is not ended, and those
        who want the blob wait until the mark of it has run out.
        """
        key = self.name(digest)
        if not await self._marks.begin_removal(digest):
            return
        try:
            with trio.fail_after(REMOVE_SECONDS):
                await self._delete(key)
        except trio.TooSlowError:
            raise StoreUnavailable(UNAVAILABLE) from None
        with trio.CancelScope(shield=True):
            await self._marks.end_removal(digest)


def _date_of(page: dict[str, Any]) -> float:
    """Give the server's clock, as it says in an answer."""
    stated = page["ResponseMetadata"]["HTTPHeaders"].get("date", "")
    try:
        return email.utils.parsedate_to_datetime(stated).timestamp()
    except ValueError:
        raise StoreUnavailable("the server's file storage does not say what time it is") from None


@asynccontextmanager
async def open_s3(
    settings: S3Settings, dial: Dial, marks: BlobMarks, clock: Callable[[], float] = time.time
) -> AsyncIterator[S3Blobs]:
    """Open the store for the block; ``clock`` is the one that :meth:`S3Blobs.old` is asked by.

    Raises:
        ConfigurationError: the bucket is absent, or a setting is wrong; ``field`` is its key.
        StoreUnavailable: no answer.
    """
    async with open_s3_client(settings, dial) as s3:
        yield S3Blobs(s3, marks, clock)

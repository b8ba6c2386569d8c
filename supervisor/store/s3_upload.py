"""Objects that come in parts, and objects that the server copies."""

from __future__ import annotations

import logging
from typing import Any, Final

import trio

from supervisor.errors import NotFound, StoreUnavailable
from supervisor.store.s3_client import S3Client

log: Final = logging.getLogger("gaoler.store")

COPY_BYTES: Final = 5 << 30
"""The longest object that a server copies in one request; longer ones are copied in parts."""
COPY_PART_BYTES: Final = 1 << 30
CLOSE_SECONDS: Final = 10.0
"""Longest wait for the removal of what was not finished."""


class Upload:
    """An object that is sent in parts. :meth:`aclose` has to be called in the end."""

    def __init__(self, s3: S3Client, key: str, upload_id: str | None = None) -> None:
        self.key = key
        self._s3 = s3
        self._bucket = s3.settings.bucket
        self._id = upload_id
        self._parts: list[dict[str, Any]] = []
        self._asked = False
        self._complete = False

    @property
    def sent(self) -> int:
        """How many parts have been sent."""
        return len(self._parts)

    async def send(self, data: bytes) -> None:
        """Send the next part; all but the last have the same size, of at least 5 MiB."""
        upload, number = await self._begun(), len(self._parts) + 1
        answer = await self._s3.call(
            lambda client: client.upload_part(
                Bucket=self._bucket, Key=self.key, UploadId=upload, PartNumber=number, Body=data
            )
        )
        self._parts.append({"PartNumber": number, "ETag": _stated(answer, "ETag")})

    async def send_range(self, source: str, start: int, end: int) -> None:
        """Have the server copy bytes of another object as the next part; ``end`` is not one of them."""
        upload, number = await self._begun(), len(self._parts) + 1
        answer = await self._s3.call(
            lambda client: client.upload_part_copy(
                Bucket=self._bucket,
                Key=self.key,
                UploadId=upload,
                PartNumber=number,
                CopySource={"Bucket": self._bucket, "Key": source},
                CopySourceRange=f"bytes={start}-{end - 1}",
            )
        )
        self._parts.append({"PartNumber": number, "ETag": _stated(answer.get("CopyPartResult", {}), "ETag")})

    async def _begun(self) -> str:
        if self._id is None:
            encrypted, self._asked = self._s3.encryption(), True
            answer = await self._s3.call(
                lambda client: client.create_multipart_upload(Bucket=self._bucket, Key=self.key, **encrypted)
            )
            self._id = _stated(answer, "UploadId")
        return self._id

    async def complete(self, size: int) -> None:
        """Make one object of the parts, which have ``size`` bytes in all."""
        parts = {"Parts": self._parts}
        self._complete = True
        try:
            await self._s3.call(
                lambda client: client.complete_multipart_upload(
                    Bucket=self._bucket, Key=self.key, UploadId=self._id, MultipartUpload=parts
                )
            )
        except NotFound:
            # An answer was lost, and when asked again the server knows of no upload: there is an object instead.
            found = await self._s3.call(lambda client: client.head_object(Bucket=self._bucket, Key=self.key))
            if found["ContentLength"] != size:
                raise StoreUnavailable("the server's file storage has lost a part of what it was given") from None
        self._id, self._asked = None, False

    async def abort(self) -> None:
        """Leave nothing of the parts; an object that they have become stays."""
        if self._id is not None:
            begun = [self._id]
        elif self._asked:
            # It was begun and its number not heard: nobody else uses this key, so what is begun there is ours.
            listed = await self._s3.call(
                lambda client: client.list_multipart_uploads(Bucket=self._bucket, Prefix=self.key)
            )
            begun = [each["UploadId"] for each in listed.get("Uploads", ())]
        else:
            begun = []
        for upload in begun:
            await self._abort(upload)
        self._id, self._asked = None, False

    async def _abort(self, upload: str) -> None:
        try:
            await self._s3.call(
                lambda client: client.abort_multipart_upload(Bucket=self._bucket, Key=self.key, UploadId=upload)
            )
        except NotFound:
            pass  # it was completed

    async def aclose(self, *, remove: bool) -> None:
        """Leave nothing of the parts, and of the object neither if ``remove`` is said. Shielded and bounded.

        What could not be removed is when it is a day old, see :meth:`supervisor.store.s3.S3Blobs.old`.
        """
        with trio.move_on_after(CLOSE_SECONDS, shield=True):
            try:
                await self.abort()
                if remove and self._complete:
                    await self._s3.call(lambda client: client.delete_object(Bucket=self._bucket, Key=self.key))
                return
            except StoreUnavailable:
                pass  # said below
        log.warning("an upload could not be removed; it will be when it is a day old: %s", self.key)


def _stated(answer: dict[str, Any], key: str) -> str:
    """Give what an answer has to say; an answer may be cut short and still be one."""
    stated = answer.get(key)
    if not stated:
        raise StoreUnavailable("the server's file storage gives answers without content")
    return str(stated)


async def copy(s3: S3Client, source: str, target: str, size: int) -> None:
    """Have the server copy an object of ``size`` bytes."""
    bucket, encrypted = s3.settings.bucket, s3.encryption()
    origin = {"Bucket": bucket, "Key": source}
    if size <= COPY_BYTES:
        await s3.call(lambda client: client.copy_object(Bucket=bucket, Key=target, CopySource=origin, **encrypted))
        return
    upload = Upload(s3, target)
    try:
        for start in range(0, size, COPY_PART_BYTES):
            await upload.send_range(source, start, min(start + COPY_PART_BYTES, size))
        await upload.complete(size)
    finally:
        # Never the object: it may be another's by now, who has the same content.
        await upload.aclose(remove=False)

"""Multipart uploads as a stream: fields as they come, each file as an iterator of bytes, a buffer held at most."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from quart import Request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Event, Field, File, MultipartDecoder, NeedData

from http_api.body import pieces_of
from supervisor.errors import InvalidRequest

MAX_PARTS: Final = 512
MAX_FIELD_BYTES: Final = 4096
MAX_HEADER_BYTES: Final = 16 * 1024


_BEGINS_TO_END: Final = re.compile(rb"-?|--[^\S\r\n]*\r?|[^\S\r\n]*\r?")
"""What may stand behind a boundary when the rest of its line has not come yet."""


class Decoder(MultipartDecoder):
    """Werkzeug's (3.1), which let a file grow by a carriage return where a piece of the body ends behind a boundary."""

    def _last_partial_boundary_index(self, data: bytes | bytearray) -> int:
        index = super()._last_partial_boundary_index(data)
        mark = b"--" + self.boundary
        at = data.rfind(mark)
        if at > 0 and data[at - 1 : at] in (b"\r", b"\n") and _BEGINS_TO_END.fullmatch(data, at + len(mark)):
            begin = at - 2 if data[at - 2 : at] == b"\r\n" else at - 1
            return min(index, begin)
        return index


@dataclass(frozen=True, slots=True)
class FieldPart:
    """A plain field."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file; ``chunks`` has to be read to its end before the next part is asked for."""

    name: str
    filename: str
    content_type: str | None
    chunks: AsyncIterator[bytes]


class MultipartReader:
    """Reads the parts of one request, one after the other."""

    def __init__(self, request: Request) -> None:
        boundary = request.mimetype_params.get("boundary", "")
        if request.mimetype != "multipart/form-data" or not 0 < len(boundary) <= 200:
            raise InvalidRequest("the body has to be multipart/form-data with a boundary", field="Content-Type")
        self._decoder = Decoder(boundary.encode("latin-1", "replace"), max_parts=MAX_PARTS)
        self._pieces = pieces_of(request)

    async def parts(self) -> AsyncIterator[FieldPart | FilePart]:
        """Give the parts in their order.

        Raises:
            InvalidRequest: the body is malformed, cut off, or over a bound of its form.
        """
        while True:
            event = await self._next()
            if isinstance(event, Field):
                value = b"".join([chunk async for chunk in self._data(limit=MAX_FIELD_BYTES)])
                yield FieldPart(event.name, value.decode("utf-8", "replace"))
            elif isinstance(event, File):
                content_type = event.headers.get("content-type")
                yield FilePart(event.name, event.filename, content_type, self._data(limit=None))
            elif isinstance(event, Epilogue):
                return

    async def _data(self, *, limit: int | None) -> AsyncIterator[bytes]:
        size = 0
        while True:
            event = await self._next()
            if not isinstance(event, Data):
                raise InvalidRequest("the multipart body is malformed", field="body")
            size += len(event.data)
            if limit is not None and size > limit:
                raise InvalidRequest(f"a field has at most {limit} bytes", field="body")
            if event.data:
                yield event.data
            if not event.more_data:
                return

    async def _next(self) -> Event:
        """Give the next event, with more of the body as it is needed."""
        try:
            while isinstance(event := self._decoder.next_event(), NeedData):
                if len(self._decoder.buffer) > MAX_HEADER_BYTES:
                    raise InvalidRequest(f"the headers of a part have at most {MAX_HEADER_BYTES} bytes", field="body")
                self._decoder.receive_data(await anext(self._pieces, None))
        except RequestEntityTooLarge:
            raise InvalidRequest(f"a body has at most {MAX_PARTS} parts", field="body") from None
        except (ValueError, AttributeError):
            # AttributeError: werkzeug's decoder meets a part whose body does not begin with a line break.
            raise InvalidRequest("the multipart body is malformed or cut off", field="body") from None
        return event

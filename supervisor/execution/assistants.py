"""Work on hostile content for a caller, done where such work belongs: by small programs of ours inside a sandbox.

A regular expression can take for ever, a picture can be made for its decoder; neither is ever handled in the daemon.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from supervisor.errors import InvalidRequest, NotFound, SandboxFailed
from supervisor.execution.executor import Assistance, Executor
from supervisor.execution.results import shown_text
from supervisor.execution.values import Exited, Principal, SessionId, StoredFile, Tier, TimedOut
from supervisor.files.service import FileService
from supervisor.live.sessions import LiveSessions
from supervisor.workspace.names import name_fault
from supervisor.workspace.views import FileView, Picture, SearchHit, SearchResult, matching

PROGRAMS: Final = Path(__file__).resolve().parent.parent / "runtimes" / "programs"
SEARCH_SECONDS: Final = 5.0
SEARCHED_FILE_BYTES: Final = 16 << 20
PICTURE_SECONDS: Final = 15.0
PICTURE_BYTES: Final = 64 << 20
"""Larger ones are not looked at."""
PICTURES_BYTES: Final = 128 << 20
"""All that are looked at together: half of a workspace."""
PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE: Final = b"\xff\xd8\xff"
_SIZES: Final = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
"""Markers of a JPEG after which its height and width come (ITU T.81, table B.1)."""


class _Hit(Struct, frozen=True, forbid_unknown_fields=True):
    path: Annotated[str, Meta(min_length=1, max_length=1024)]
    line: Annotated[int, Meta(ge=1, le=1 << 40)]
    text: Annotated[str, Meta(max_length=400)]


class _Summary(Struct, frozen=True, forbid_unknown_fields=True):
    searched: Annotated[int, Meta(ge=0, le=1 << 20)]
    skipped: Annotated[int, Meta(ge=0, le=1 << 20)]
    truncated: bool


class _Fault(Struct, frozen=True, forbid_unknown_fields=True):
    error: Annotated[str, Meta(max_length=1000)]


class Assistants:
    """Runs our own programs over callers' files."""

    def __init__(self, executor: Executor, files: FileService, live: LiveSessions) -> None:
        self._executor = executor
        self._files = files
        self._live = live
        self._search = (PROGRAMS / "search.py").read_text(encoding="utf-8")
        self._pictures = (PROGRAMS / "pictures.py").read_text(encoding="utf-8")

    async def search(
        self,
        principal: Principal,
        session_id: SessionId,
        pattern: str,
        *,
        glob: str,
        regex: bool,
        ignore_case: bool,
        limit: int,
    ) -> SearchResult:
        """Find lines that match, in the text files that ``glob`` chooses; large and binary ones are skipped.

        Raises:
            NotFound: no such session.
            InvalidRequest: the pattern cannot be one, or takes too long.
        """
        await self._live.synchronise(session_id)
        stored = await self._files.listing(principal, session_id)
        chosen = {view.path for view in matching([FileView(file.name, directory=False) for file in stored], glob, None)}
        inputs = [file for file in stored if file.name in chosen and file.size_bytes <= SEARCHED_FILE_BYTES]
        left_out = len(chosen) - len(inputs)
        if not inputs:
            return SearchResult((), 0, left_out, truncated=False)
        wanted = {"pattern": pattern, "regex": regex, "ignore_case": ignore_case, "limit": limit}
        work = Assistance(self._search, msgspec.json.encode(wanted), SEARCH_SECONDS)
        result, _files = await self._executor.assist(principal, work, inputs, self._live.tier(session_id))
        if isinstance(result.outcome, TimedOut):
            raise InvalidRequest(f"the search took more than {SEARCH_SECONDS:g} s", field="pattern")
        lines = (result.stdout.untrusted_head + result.stdout.untrusted_tail).splitlines()
        if result.outcome != Exited(0) or not lines:
            raise SandboxFailed("the search could not be done")
        return _search_result(lines, left_out)

    async def shrink(
        self,
        principal: Principal,
        pictures: Sequence[tuple[str, bytes | StoredFile]],
        *,
        pixels: int,
        limit_bytes: int,
        tier: Tier,
    ) -> list[Picture | None]:
        """Make pictures small enough: PNG, JPEG, GIF, WebP and SVG become PNG or JPEG. ``None``: it cannot be read.

        Each comes with its media type, as bytes or as a stored file. ``tier``: of the sandbox that they come from.
        """
        inputs: list[StoredFile] = []
        room = PICTURES_BYTES
        for index, (media_type, content) in enumerate(pictures):
            name = f"p{index}{_SUFFIXES.get(media_type, '.img')}"
            size = len(content) if isinstance(content, bytes) else content.size_bytes
            if size > min(PICTURE_BYTES, room):
                continue
            room -= size
            if isinstance(content, bytes):
                blob = await self._files.store(_once(content))
                inputs.append(self._files.describe(SessionId(""), name, blob))
            else:
                inputs.append(replace(content, name=name))
        if not inputs:
            return [None] * len(pictures)
        limits = msgspec.json.encode({"pixels": pixels, "bytes": limit_bytes})
        work = Assistance(self._pictures, limits, PICTURE_SECONDS)
        _result, made = await self._executor.assist(principal, work, inputs, tier)
        by_number: dict[int, Picture] = {}
        for file in made:
            number = file.name.removeprefix("out/p").partition(".")[0]
            if number.isdecimal() and file.size_bytes <= limit_bytes:
                picture = as_picture(await self._content(file))
                if picture is not None and max(picture.width, picture.height) <= pixels:
                    by_number[int(number)] = picture
        return [by_number.get(index) for index in range(len(pictures))]

    async def _content(self, file: StoredFile) -> bytes:
        try:
            async with self._files.content(file) as chunks:
                return b"".join([chunk async for chunk in chunks])
        except NotFound:
            return b""


_SUFFIXES: Final = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "image/svg+xml": ".svg",
}


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _search_result(untrusted_lines: Sequence[bytes], left_out: int) -> SearchResult:
    """Read what our program has printed, next to code that may have made it say anything."""
    try:
        *rows, last = untrusted_lines
        if last.startswith(b'{"error"'):
            fault = msgspec.json.decode(last, type=_Fault)
            raise InvalidRequest(f"the pattern is no regular expression: {shown_text(fault.error)}", field="pattern")
        end = msgspec.json.decode(last, type=_Summary)
        hits = [msgspec.json.decode(row, type=_Hit) for row in rows]
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise SandboxFailed("the search could not be done") from None
    kept = tuple(SearchHit(hit.path, hit.line, hit.text) for hit in hits if name_fault(hit.path) is None)
    return SearchResult(kept, end.searched, end.skipped + left_out, end.truncated)


def as_picture(untrusted_data: bytes) -> Picture | None:
    """Recognise a PNG or JPEG by its first bytes and read its size; nothing is decoded. Pure."""
    if untrusted_data.startswith(PNG_SIGNATURE) and len(untrusted_data) >= 24 and untrusted_data[12:16] == b"IHDR":
        width, height = struct.unpack(">II", untrusted_data[16:24])
        return Picture(untrusted_data, "image/png", width, height)
    if untrusted_data.startswith(JPEG_SIGNATURE):
        size = _jpeg_size(untrusted_data)
        return None if size is None else Picture(untrusted_data, "image/jpeg", *size)
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Walk over the segments up to the frame header."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _SIZES:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    return None

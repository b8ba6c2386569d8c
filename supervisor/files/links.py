"""Links to files that a person can open without a credential: signed, for one version of one file, for a while."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct

from supervisor.errors import NotFound
from supervisor.execution.values import FileId, Principal, SessionId
from supervisor.identity.derived import DerivedIds

_PURPOSE: Final = "file link"
MAX_TOKEN: Final = 512


class _Link(Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    session: str
    file: str
    tenant: str
    expires: int


class FileLinks:
    """Makes and reads links. ``clock``: seconds since the epoch."""

    def __init__(self, ids: DerivedIds, seconds: float, *, clock: Callable[[], float]) -> None:
        self._ids = ids
        self._seconds = seconds
        self._clock = clock

    def make(self, principal: Principal, session_id: SessionId, file_id: FileId) -> str:
        """Give the token of a link to a file that the caller may see."""
        link = _Link(session_id, file_id, principal.tenant, int(self._clock() + self._seconds))
        body = base64.urlsafe_b64encode(msgspec.json.encode(link)).decode().rstrip("=")
        return f"{body}.{self._ids.signature(_PURPOSE, body)}"

    def read(self, token: str) -> tuple[Principal, SessionId, FileId]:
        """Give whose file it is, for as whom it may be read.

        Raises:
            NotFound: it is no link of this server, or its time is over.
        """
        body, _, signature = token.partition(".")
        try:
            if len(token) > MAX_TOKEN or not self._ids.signed(_PURPOSE, body, signature):
                raise NotFound("this link does not lead to a file, or not any more", field="link")
            padded = body + "=" * (-len(body) % 4)
            link = msgspec.json.decode(base64.urlsafe_b64decode(padded), type=_Link)
        except (binascii.Error, ValueError, msgspec.DecodeError):
            raise NotFound("this link does not lead to a file, or not any more", field="link") from None
        if self._clock() >= link.expires:
            raise NotFound("this link does not lead to a file, or not any more", field="link")
        return Principal(link.tenant, "link"), SessionId(link.session), FileId(link.file)

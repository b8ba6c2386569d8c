"""What all tools share: the registry, the types of their arguments, and how content comes in."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Final

from msgspec import Meta

from mcp_server.registry import Registry
from supervisor.errors import InvalidRequest, TooLarge
from supervisor.execution.values import Tier

REGISTRY: Final = Registry()

Session = Annotated[
    str,
    Meta(description="Session id (21 characters). Leave out for the session of this conversation.", max_length=64),
]
Path = Annotated[
    str,
    Meta(
        description="Path in the workspace, relative to /mnt/data or absolute below it.", min_length=1, max_length=512
    ),
]
TierWish = Annotated[
    Tier,
    Meta(
        description="microvm: a sandbox with a kernel of its own, if list_languages says that it is to be had here. "
        "It can only raise what applies anyway."
    ),
]

_NO_SPACE: Final = dict.fromkeys(map(ord, " \t\r\n"))


def content_of(text: str | None, encoded: str | None, limit_bytes: int) -> bytes:
    """Give the bytes of what came as text or as base64: exactly one of the two.

    Raises:
        InvalidRequest: none, both, or not base64.
        TooLarge: more than ``limit_bytes``.
    """
    if (text is None) == (encoded is None):
        raise InvalidRequest("give exactly one of text and base64", field="text")
    if encoded is None:
        assert text is not None
        try:
            data = text.encode()
        except UnicodeEncodeError:
            raise InvalidRequest("it is not valid Unicode", field="text") from None
    else:
        data = _decoded(encoded)
    if len(data) > limit_bytes:
        raise TooLarge(
            f"at most {limit_bytes} bytes in one call; append the rest with more calls, or upload over HTTP",
            field="text" if encoded is None else "base64",
        )
    return data


def _decoded(encoded: str) -> bytes:
    # Not split(): sixteen megabytes of short words make a list of half a gigabyte.
    compact = encoded.translate(_NO_SPACE)
    digits = compact.rstrip("=")
    padding = -len(digits) % 4
    try:
        if len(compact) - len(digits) > padding:
            raise binascii.Error("too much padding")  # the strict decoder below would take four
        return base64.b64decode(digits + "=" * padding, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(
            "it is not base64: the alphabet is A-Z a-z 0-9 + / with = at the end", field="base64"
        ) from None


def check_text(text: str, field: str, limit: int) -> str:
    """Refuse text that cannot be a program or command.

    Raises:
        InvalidRequest: it is too long, has a NUL, or is not valid Unicode.
    """
    if len(text) > limit:
        raise InvalidRequest(f"at most {limit} characters", field=field)
    if "\0" in text:
        raise InvalidRequest("it has a NUL character", field=field)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("it is not valid Unicode", field=field) from None
    return text

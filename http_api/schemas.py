"""JSON bodies of the contract: strict in types, lenient in what it does not know."""

from __future__ import annotations

import re
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta, Struct

from supervisor.errors import InvalidRequest
from supervisor.execution.values import Tier

_T = TypeVar("_T")
_AT: Final = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?$", re.DOTALL)
_MISSING: Final = re.compile(r"missing required field `([^`]+)`")


class FileBody(Struct, frozen=True):
    """``files[]`` of both eras: today's has ``storage_session_id``, that of LibreChat <= v0.8.5 only ``session_id``."""

    id: str
    name: str
    storage_session_id: str | None = None
    session_id: str | None = None
    resource_id: Annotated[str, Meta(max_length=128)] | None = None
    kind: Annotated[str, Meta(max_length=32)] | None = None
    version: int | None = None


Egress = Annotated[list[Annotated[str, Meta(max_length=260)]], Meta(max_length=64)]
"""Hosts that a request narrows the network down to."""


Environment = Annotated[dict[str, str], Meta(max_length=64)]
"""Variables of the program, beside the usual ones."""
Path = Annotated[str, Meta(min_length=1, max_length=512)]
"""Of a file, relative to ``/mnt/data`` or absolute below it."""


class ExecBody(Struct, frozen=True):
    """Body of ``POST /exec``. Unknown fields are ignored: clients leak some, one of them a key."""

    lang: Annotated[str, Meta(max_length=64)] | None = None
    """May be left out with ``main``, whose extension tells it."""
    code: str | None = None
    args: list[str | int | float | bool] | str | None = None
    user_id: str | None = None
    entity_id: str | None = None
    session_id: str | None = None
    files: Annotated[list[FileBody], Meta(max_length=256)] | None = None
    timeout: Annotated[float, Meta(ge=1, le=3_600_000)] | None = None
    """Milliseconds."""
    stdin: Annotated[str, Meta(max_length=65_536)] | None = None
    stateful: bool | None = None
    """Keep the interpreter for the next execution in this session, or do not."""
    runtime_session_hint: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{0,128}$")] | None = None
    egress: Egress | None = None
    """Narrow the network down to these hosts, of those that the operator allows; empty: no network."""
    env: Environment | None = None
    main: Path | None = None
    """Run this file, of ``files`` or of the session, instead of ``code``."""
    sources: Annotated[list[Path], Meta(max_length=50)] | None = None
    """Further files to be compiled with ``main``."""
    tier: Tier | None = None
    """Have a sandbox of this tier: it may be higher than what applies, never lower."""


def decode(body: bytes, kind: type[_T]) -> _T:
    """Decode a JSON body.

    Raises:
        InvalidRequest: it is not JSON, or a field is missing or of the wrong type; ``field`` names it.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        text = str(error)
        match = _AT.match(text)
        path = (match["path"] if match else None) or ""
        what = match["what"] if match else text
        missing = _MISSING.search(text)
        if missing:
            path = f"{path}.{missing[1]}" if path else missing[1]
        raise InvalidRequest(what, field=path or "body") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}", field="body") from None

"""The names of resources: ``gaoler://session/ID/files/PATH`` and what goes with it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from supervisor.errors import NotFound
from supervisor.execution.values import SessionId, is_id

LANGUAGES: Final = "gaoler://languages"
POLICY: Final = "gaoler://policy"
MAX_URI: Final = 2048


@dataclass(frozen=True, slots=True)
class SessionFile:
    """A file."""

    session: SessionId
    path: str


@dataclass(frozen=True, slots=True)
class SessionFiles:
    """The list of a session's files."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class SessionOutput:
    """Output: all that is kept, or that of one execution, or one stream of it, or one form of something shown."""

    session: SessionId
    number: int | None = None
    stream: str | None = None
    shown: int | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Fixed:
    """One of those that everybody sees."""

    uri: str


Address = SessionFile | SessionFiles | SessionOutput | Fixed


def files(session: SessionId) -> str:
    """Name the list of files."""
    return f"gaoler://session/{session}/files"


def file(session: SessionId, path: str) -> str:
    """Name a file."""
    return f"gaoler://session/{session}/files/{quote(path, safe='/')}"


def output(session: SessionId, number: int | None = None) -> str:
    """Name the recent output of a session, or of one execution."""
    return f"gaoler://session/{session}/output" + ("" if number is None else f"/{number}")


def shown(session: SessionId, number: int, index: int, kind: str) -> str:
    """Name one form of something that was shown."""
    return f"{output(session, number)}/shown/{index}/{quote(kind, safe='/')}"


def quoted_name(path: str) -> str:
    """Give the last part of a path as a part of a URL."""
    return quote(path.rpartition("/")[2], safe="")


def parse(uri: str) -> Address:  # noqa: C901, PLR0911 - a table of forms
    """Read a name.

    Raises:
        NotFound: there is nothing of this form.
    """
    if uri in (LANGUAGES, POLICY):
        return Fixed(uri)
    try:
        parts = urlsplit(uri[: MAX_URI + 1])
    except ValueError:
        raise _unknown() from None
    if len(uri) > MAX_URI or parts.scheme != "gaoler" or parts.netloc != "session" or parts.query or parts.fragment:
        raise _unknown()
    session, *rest = [unquote(part) for part in parts.path.split("/")][1:] or [""]
    if not is_id(session) or not rest:
        raise _unknown()
    match rest:
        case ["files"]:
            return SessionFiles(SessionId(session))
        case ["files", *path]:
            return SessionFile(SessionId(session), "/".join(path))
        case ["output"]:
            return SessionOutput(SessionId(session))
        case ["output", number] if number.isdecimal():
            return SessionOutput(SessionId(session), int(number))
        case ["output", number, "stdout" | "stderr" as stream] if number.isdecimal():
            return SessionOutput(SessionId(session), int(number), stream)
        case ["output", number, "shown", index, *kind] if number.isdecimal() and index.isdecimal():
            return SessionOutput(SessionId(session), int(number), shown=int(index), kind="/".join(kind))
        case _:
            raise _unknown()


def _unknown() -> NotFound:
    return NotFound("there is no such resource", field="uri")

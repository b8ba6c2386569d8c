"""What the doors are shown of files and processes, and the pure rules of paths in a workspace."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

from supervisor.errors import Conflict, InvalidRequest
from supervisor.execution.values import FileId

WORKSPACE: Final = "/mnt/data"
MAX_PATTERN: Final = 256
MAX_PATTERN_PARTS: Final = 20

Status = Literal["running", "exited", "signalled", "killed", "lost"]


@dataclass(frozen=True, slots=True)
class FileView:
    """A file or directory of a session. Of a directory only ``path`` says something."""

    path: str
    directory: bool
    size_bytes: int = 0
    content_type: str = ""
    modified_at: float = 0.0
    executable: bool = False
    read_only: bool = False
    file_id: FileId | None = None


@dataclass(frozen=True, slots=True)
class TextPart:
    """Lines of a text file: ``first_line`` (from 1) to ``last_line``. ``cut``: the last one is not whole."""

    file: FileView
    untrusted_text: str
    first_line: int
    last_line: int
    total_lines: int
    cut: bool


@dataclass(frozen=True, slots=True)
class BytesPart:
    """Bytes of a file from ``offset``."""

    file: FileView
    untrusted_data: bytes
    offset: int


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """A background program as its caller may know it. ``killed``: by us, its time was over; ``lost``: its sandbox."""

    id: str
    command: str
    status: Status
    exit_code: int | None
    signal: int | None
    started_at: float
    seconds: float
    output_bytes: int


@dataclass(frozen=True, slots=True)
class ProcessOutput:
    """A part of what a program has written, standard output and error in the order in which they came.

    ``position`` is that of the first byte; ``omitted_bytes`` were written before it and not read in time.
    """

    info: ProcessInfo
    untrusted_data: bytes
    position: int
    omitted_bytes: int

    @property
    def next_position(self) -> int:
        """Where to read on."""
        return self.position + len(self.untrusted_data)


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A line that matches. ``untrusted_text`` is cut to a length fit to be shown."""

    path: str
    line: int
    untrusted_text: str


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search has found. ``truncated``: there is more."""

    hits: tuple[SearchHit, ...]
    files_searched: int
    files_skipped: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that is fit to be shown: PNG or JPEG, with its size in pixels."""

    untrusted_data: bytes
    media_type: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class NetworkAnswer:
    """Whether a sandbox may reach an address, why, and what to ask the operator for.

    ``rule``: the one that allows it, or that comes nearest; ``missing``: the code of what
    no rule allows first; ``write``: what the operator would write.
    """

    allowed: bool
    reason: str
    advice: str
    rule: str | None = None
    missing: str | None = None
    write: str = ""


def parents(name: str) -> list[str]:
    """Give the directories that a file is in, the outermost first."""
    parts = name.split("/")[:-1]
    return ["/".join(parts[: end + 1]) for end in range(len(parts))]


def workspace_name(path: str) -> str:
    """Give a path of the workspace as the name that files have there; the workspace itself is empty.

    Raises:
        InvalidRequest: it leads out of the workspace.
    """
    text = path.strip()
    if text == WORKSPACE or text.startswith(f"{WORKSPACE}/"):
        text = text[len(WORKSPACE) + 1 :]
    elif text.startswith("/"):
        raise InvalidRequest(f"files are below {WORKSPACE}; this path leads elsewhere", field="path")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidRequest(f"a path has no '..'; files are below {WORKSPACE}", field="path")
    return "/".join(parts)


def check_free(name: str, files: Collection[str], directories: Collection[str], *, field: str = "path") -> None:
    """Refuse a name for a file that a directory has, or one below a file: no workspace could hold both.

    Raises:
        Conflict: it is not free; the message says what is in the way.
    """
    for parent in parents(name):
        if parent in files:
            raise Conflict(f"{shown(parent)} is a file, not a directory", field=field)
    if name in directories or any(each.startswith(f"{name}/") for each in (*files, *directories)):
        raise Conflict(f"{shown(name)} is a directory", field=field)


def matching(views: Iterable[FileView], pattern: str, depth: int | None) -> list[FileView]:
    """Choose by a glob (``*`` and ``?`` inside a part, ``**`` for any parts) and by how deep they are.

    A pattern without a slash is for the last part, wherever it is.

    Raises:
        InvalidRequest: the pattern is too long.
    """
    if len(pattern) > MAX_PATTERN:
        raise InvalidRequest(f"a pattern has at most {MAX_PATTERN} characters", field="glob")
    name = workspace_name(pattern) if pattern else ""
    parts = tuple(name.split("/")) if name else ("**",)
    # One "**" after another means the same as one, and costs more.
    parts = tuple(part for at, part in enumerate(parts) if part != "**" or parts[at - 1 : at] != ("**",))
    if len(parts) > MAX_PATTERN_PARTS:
        raise InvalidRequest(f"a pattern has at most {MAX_PATTERN_PARTS} parts", field="glob")
    if len(parts) == 1 and parts != ("**",):
        parts = ("**", *parts)
    return [
        view
        for view in views
        if (depth is None or view.path.count("/") < depth) and _match(tuple(view.path.split("/")), parts)
    ]


def _match(path: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Both are short: a path has ten parts at most."""

    @cache
    def match(at: int, by: int) -> bool:
        if by == len(pattern):
            return at == len(path)
        if pattern[by] == "**":
            return match(at, by + 1) or (at < len(path) and match(at + 1, by))
        return at < len(path) and fnmatch.fnmatchcase(path[at], pattern[by]) and match(at + 1, by + 1)

    return match(0, 0)


def shown(name: str) -> str:
    """Quote a path for a message: no control characters, bounded."""
    text = f"{WORKSPACE}/{name}" if name else WORKSPACE
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text[:300])

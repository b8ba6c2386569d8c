"""What the file tools are given, and what they give back."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from mcp_server.registry import Input, Output
from mcp_server.tools.common import Path, Session

MAX_LINES = 100_000
MAX_PATTERN = 1000


class ReadFile(Input, frozen=True):
    """Arguments of ``read_file``."""

    path: Path
    session: Session | None = None
    encoding: Annotated[Literal["text", "base64"], Meta(description="Default: text.")] = "text"
    first_line: Annotated[int, Meta(description="Text: from this line on, from 1.", ge=1)] = 1
    lines: Annotated[int, Meta(description="Text: so many lines at most.", ge=1, le=MAX_LINES)] = 2000
    offset: Annotated[int, Meta(description="base64: from this byte on.", ge=0)] = 0
    length: Annotated[int, Meta(description="base64: so many bytes at most.", ge=1)] | None = None


class WriteFile(Input, frozen=True):
    """Arguments of ``write_file``."""

    path: Path
    text: Annotated[str, Meta(description="The content as text.")] | None = None
    base64: Annotated[str, Meta(description="The content as base64, for what is no text.")] | None = None
    append: Annotated[bool, Meta(description="Add to the end instead of replacing.")] = False
    mode: (
        Annotated[str, Meta(description="Octal mode: 755 makes it executable, 644 not.", pattern=r"^0?[0-7]{3}$")]
        | None
    ) = None
    session: Session | None = None


class EditFile(Input, frozen=True):
    """Arguments of ``edit_file``."""

    path: Path
    old_text: Annotated[str, Meta(description="What is there now, exactly.", min_length=1)]
    new_text: Annotated[str, Meta(description="What shall be there instead.")]
    replace_all: Annotated[bool, Meta(description="Replace it everywhere.")] = False
    session: Session | None = None


class ListFiles(Input, frozen=True):
    """Arguments of ``list_files``."""

    session: Session | None = None
    glob: Annotated[
        str, Meta(description="As *.csv (in any directory), src/*.py or src/**; default: all.", max_length=256)
    ] = ""
    depth: Annotated[int, Meta(description="Only so many levels deep.", ge=1, le=20)] | None = None


class StatFile(Input, frozen=True):
    """Arguments of ``stat_file``."""

    path: Path
    session: Session | None = None


class SearchFiles(Input, frozen=True):
    """Arguments of ``search_files``."""

    pattern: Annotated[str, Meta(description="A regular expression of Python.", min_length=1, max_length=MAX_PATTERN)]
    glob: Annotated[str, Meta(description="Only files that match, as *.py.", max_length=256)] = ""
    literal: Annotated[bool, Meta(description="Take the pattern as plain text.")] = False
    ignore_case: bool = False
    limit: Annotated[int, Meta(description="Most lines to give.", ge=1, le=1000)] = 200
    session: Session | None = None


class MoveFile(Input, frozen=True):
    """Arguments of ``move_file``."""

    source: Path
    target: Path
    overwrite: Annotated[bool, Meta(description="Replace a file that is there.")] = False
    session: Session | None = None


class DeleteFile(Input, frozen=True):
    """Arguments of ``delete_file``."""

    path: Path
    recursive: Annotated[bool, Meta(description="Delete a directory with all in it.")] = False
    session: Session | None = None


class MakeDirectory(Input, frozen=True):
    """Arguments of ``make_directory``."""

    path: Path
    session: Session | None = None


class FileInfo(Output, frozen=True):
    """A file or directory."""

    path: str
    kind: str
    size: int
    type: str
    modified: str | None
    executable: bool
    uri: str | None
    url: str | None = None


class FileContent(Output, frozen=True):
    """A part of a file. ``content`` is text, or base64 as ``encoding`` says."""

    session: str
    file: FileInfo
    encoding: str
    content: str
    complete: bool
    first_line: int | None = None
    last_line: int | None = None
    total_lines: int | None = None
    offset: int | None = None
    next_offset: int | None = None


class FileReply(Output, frozen=True):
    """A file after a change."""

    session: str
    file: FileInfo
    replaced: int = 0


class FileList(Output, frozen=True):
    """Files and directories of a session."""

    session: str
    entries: list[FileInfo]
    total: int
    truncated: bool


class Hit(Output, frozen=True):
    """A line that matches."""

    path: str
    line: int
    text: str


class SearchReply(Output, frozen=True):
    """What was found."""

    session: str
    hits: list[Hit]
    files_searched: int
    files_skipped: int
    truncated: bool


class MoveReply(Output, frozen=True):
    """What was moved, under its new names."""

    session: str
    moved: list[FileInfo]


class DeleteReply(Output, frozen=True):
    """What was deleted."""

    session: str
    path: str
    files: int
    bytes: int

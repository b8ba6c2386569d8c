"""Files of a session."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from msgspec import Meta

from mcp_server import results, uris
from mcp_server.registry import Call, Input, Output, Reply, text
from mcp_server.tools.common import REGISTRY, Path, Session, check_text, content_of
from supervisor.errors import InvalidRequest
from supervisor.execution import SessionId
from supervisor.views import FileView, matching

MAX_LINES: Final = 100_000
MAX_LISTED: Final = 1000
MAX_PATTERN: Final = 1000
READ_FACTOR: Final = 4
"""A file that is asked for may be so many times longer than output that comes by itself."""


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


@REGISTRY.tool(ReadFile, FileContent, title="Read a file", rate="download", read_only=True, idempotent=True)
async def read_file(call: Call, given: ReadFile) -> Reply:
    """Read a file of the session: text by lines, or any bytes as base64.

    Long files come in parts: complete is false then, and last_line or next_offset says where to go on. To work with
    the data of a file use execute_code instead of reading it.

    Examples: {"path": "data.csv", "lines": 20}, {"path": "chart.png", "encoding": "base64"}
    """
    session_id = await call.session(given.session)
    limit = call.door.settings.text_bytes * READ_FACTOR
    if given.encoding == "text":
        part = await call.door.files.read_text(
            call.principal, session_id, given.path, first_line=given.first_line, lines=given.lines, limit=limit
        )
        complete = part.first_line <= 1 and part.last_line >= part.total_lines and not part.cut
        reply = FileContent(
            session_id,
            _info(call, session_id, part.file),
            "text",
            part.untrusted_text,
            complete,
            first_line=part.first_line,
            last_line=part.last_line,
            total_lines=part.total_lines,
        )
        where = f"lines {part.first_line} to {part.last_line} of {part.total_lines}"
        head = f"[gaoler] {_quoted(part.file.path)}: {where}" + (", the last one cut" if part.cut else "")
        return Reply(reply, [text(head), text(part.untrusted_text)])
    length = min(given.length or limit, call.door.settings.base64_bytes)
    found = await call.door.files.read_bytes(call.principal, session_id, given.path, offset=given.offset, length=length)
    end = given.offset + len(found.untrusted_data)
    encoded = base64.b64encode(found.untrusted_data).decode()
    complete = given.offset == 0 and end >= found.file.size_bytes
    reply = FileContent(
        session_id,
        _info(call, session_id, found.file),
        "base64",
        encoded,
        complete,
        offset=given.offset,
        next_offset=None if end >= found.file.size_bytes else end,
    )
    head = f"[gaoler] {_quoted(found.file.path)}: bytes {given.offset} to {end} of {found.file.size_bytes}, as base64"
    return Reply(reply, [text(head), text(encoded)])


@REGISTRY.tool(WriteFile, FileReply, title="Write a file", rate="upload", destructive=True, idempotent=True)
async def write_file(call: Call, given: WriteFile) -> Reply:
    r"""Write a file into the session, from text or base64. Directories are made as needed; what is there is replaced.

    Running code sees it at /mnt/data/PATH. To change a part of a file use edit_file.

    Example: {"path": "notes/todo.md", "text": "- buy milk\n"}
    """
    session_id = await call.session_or_new(given.session)
    data = content_of(given.text, given.base64, call.door.settings.base64_bytes)
    executable = None if given.mode is None else bool(int(given.mode, 8) & 0o100)
    view = await call.door.files.write(
        call.principal, session_id, given.path, data, append=given.append, executable=executable
    )
    return _changed(call, session_id, view, f"written, {view.size_bytes} bytes")


@REGISTRY.tool(EditFile, FileReply, title="Edit a file", rate="upload", destructive=True)
async def edit_file(call: Call, given: EditFile) -> Reply:
    r"""Replace text in a file, exactly. old_text has to be there once, with all spaces; else add lines around it.

    Example: {"path": "app.py", "old_text": "port = 80\n", "new_text": "port = 8080\n"}
    """
    session_id = await call.session(given.session)
    limit = call.door.settings.base64_bytes
    check_text(given.old_text, "old_text", limit)
    check_text(given.new_text, "new_text", limit)
    if given.old_text == given.new_text:
        raise InvalidRequest("it is the same as old_text", field="new_text")
    view, count, line = await call.door.files.edit(
        call.principal, session_id, given.path, given.old_text, given.new_text, every=given.replace_all
    )
    return _changed(call, session_id, view, f"replaced {count} time(s), first in line {line}", replaced=count)


@REGISTRY.tool(ListFiles, FileList, title="List files", rate="listing", read_only=True, idempotent=True)
async def list_files(call: Call, given: ListFiles) -> Reply:
    """List the files and directories of the session, with sizes and types.

    Examples: {}, {"glob": "*.csv"}, {"glob": "src/**", "depth": 2}
    """
    session_id = await call.session(given.session)
    found = matching(await call.door.files.entries(call.principal, session_id), given.glob, given.depth)
    shown = found[:MAX_LISTED]
    infos = [_info(call, session_id, view) for view in shown]
    lines = [_in_words(view) for view in shown]
    if len(found) > len(shown):
        lines.append(f"... and {len(found) - len(shown)} more: use glob or depth")
    reply = FileList(session_id, infos, len(found), len(found) > len(shown))
    head = f"[gaoler] {len(found)} entries in /mnt/data of session {session_id}"
    return Reply(reply, [text("\n".join([head, *lines]))])


@REGISTRY.tool(StatFile, FileReply, title="Describe a file", rate="listing", read_only=True, idempotent=True)
async def stat_file(call: Call, given: StatFile) -> Reply:
    """Tell size, type and time of a file or directory, with a link that a person can open."""
    session_id = await call.session(given.session)
    view = await call.door.files.stat(call.principal, session_id, given.path)
    info = _info(call, session_id, view, link=True)
    return Reply(
        FileReply(session_id, info), [text(f"[gaoler] {_in_words(view)}" + (f" {info.url}" if info.url else ""))]
    )


@REGISTRY.tool(SearchFiles, SearchReply, title="Search in files", rate="exec", read_only=True, idempotent=True)
async def search_files(call: Call, given: SearchFiles) -> Reply:
    r"""Find lines in the text files of the session by a regular expression (or plain text with literal).

    Example: {"pattern": "def \\w+_test", "glob": "*.py"}
    """
    session_id = await call.session(given.session)
    found = await call.door.assistants.search(
        call.principal,
        session_id,
        check_text(given.pattern, "pattern", MAX_PATTERN),
        glob=given.glob,
        regex=not given.literal,
        ignore_case=given.ignore_case,
        limit=given.limit,
    )
    hits = [Hit(hit.path, hit.line, hit.untrusted_text) for hit in found.hits]
    head = f"[gaoler] {len(hits)} lines in {found.files_searched} files" + (
        ", and there are more" if found.truncated else ""
    )
    if found.files_skipped:
        head += f"; {found.files_skipped} binary or large files were skipped"
    lines = [f"{json.dumps(hit.path, ensure_ascii=False)}:{hit.line}: {hit.text}" for hit in hits]
    reply = SearchReply(session_id, hits, found.files_searched, found.files_skipped, found.truncated)
    return Reply(reply, [text(head), *([text("\n".join(lines))] if lines else [])])


@REGISTRY.tool(MoveFile, MoveReply, title="Move or rename", rate="upload", destructive=True)
async def move_file(call: Call, given: MoveFile) -> Reply:
    """Move or rename a file, or a directory with all in it."""
    session_id = await call.session(given.session)
    moved = await call.door.files.move(
        call.principal, session_id, given.source, given.target, overwrite=given.overwrite
    )
    infos = [_info(call, session_id, view) for view in moved]
    return Reply(
        MoveReply(session_id, infos), [text("\n".join(f"[gaoler] now {_in_words(view)}" for view in moved[:50]))]
    )


@REGISTRY.tool(DeleteFile, DeleteReply, title="Delete", rate="upload", destructive=True)
async def delete_file(call: Call, given: DeleteFile) -> Reply:
    """Delete a file, or with recursive a directory with all in it. It cannot be undone."""
    session_id = await call.session(given.session)
    files, size = await call.door.files.delete(call.principal, session_id, given.path, recursive=given.recursive)
    return Reply(
        DeleteReply(session_id, given.path, files, size), [text(f"[gaoler] deleted {files} file(s), {size} bytes")]
    )


@REGISTRY.tool(MakeDirectory, FileReply, title="Make a directory", rate="upload", idempotent=True)
async def make_directory(call: Call, given: MakeDirectory) -> Reply:
    """Make a directory, with its parents; one that is there is no error. write_file makes directories by itself."""
    session_id = await call.session_or_new(given.session)
    view = await call.door.files.make_directory(call.principal, session_id, given.path)
    return _changed(call, session_id, view, "is there")


def _changed(call: Call, session_id: SessionId, view: FileView, what: str, *, replaced: int = 0) -> Reply:
    info = _info(call, session_id, view)
    said = f"[gaoler] {_quoted(view.path)} {what} · session {session_id}"
    return Reply(FileReply(session_id, info, replaced), [text(said)])


def _info(call: Call, session_id: SessionId, view: FileView, *, link: bool = False) -> FileInfo:
    modified = None
    if view.modified_at:
        modified = datetime.fromtimestamp(view.modified_at, UTC).isoformat(timespec="seconds")
    url = None
    if link and view.file_id is not None:
        url = results.link_to(call, session_id, view.file_id, view.path)
    return FileInfo(
        view.path,
        "directory" if view.directory else "file",
        view.size_bytes,
        view.content_type,
        modified,
        view.executable,
        None if view.directory else uris.file(session_id, view.path),
        url,
    )


def _quoted(path: str) -> str:
    return json.dumps(path, ensure_ascii=False)


def _in_words(view: FileView) -> str:
    if view.directory:
        return f"{_quoted(view.path)}/"
    return f"{_quoted(view.path)} ({view.size_bytes} bytes, {view.content_type})"

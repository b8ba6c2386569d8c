"""Files of a session."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Final

from mcp_server import results, uris
from mcp_server.registry import Call, Reply, text
from mcp_server.tools.common import REGISTRY, check_text, content_of
from mcp_server.tools.file_types import (
    MAX_PATTERN,
    DeleteFile,
    DeleteReply,
    EditFile,
    FileContent,
    FileInfo,
    FileList,
    FileReply,
    Hit,
    ListFiles,
    MakeDirectory,
    MoveFile,
    MoveReply,
    ReadFile,
    SearchFiles,
    SearchReply,
    StatFile,
    WriteFile,
)
from supervisor.errors import InvalidRequest
from supervisor.execution.values import SessionId
from supervisor.workspace.views import FileView, matching

MAX_LISTED: Final = 1000
READ_FACTOR: Final = 4
"""A file that is asked for may be so many times longer than output that comes by itself."""


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

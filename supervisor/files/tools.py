"""The files of a session as tools and editors need them: read a part, write, edit, look around, move, delete.

They work on what is kept, not in the sandbox: a session needs no sandbox to be looked at, both doors see the same, and
nothing that code could have shaped is ever opened as a path. If a background program runs in the session, workspace
and kept files are brought together before a reader looks and after a writer has written.
"""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import wraps
from typing import Any, Final, Protocol, TypeVar, cast
from weakref import WeakValueDictionary

import trio

from supervisor.errors import Conflict, InvalidRequest, NotFound, TooLarge
from supervisor.execution.values import FileId, Principal, SessionId, StoredFile, new_id
from supervisor.files.service import FileService
from supervisor.store import FileChange
from supervisor.workspace.names import check_name
from supervisor.workspace.text_part import Cutter, check_text
from supervisor.workspace.views import BytesPart, FileView, TextPart, check_free, parents, shown, workspace_name

MAX_EDIT_BYTES: Final = 8 << 20
"""Files up to this size are edited as a whole, in memory."""


_F = TypeVar("_F", bound=Callable[..., Any])


def _in_turn(change: _F) -> _F:
    """One change of a session's files at a time: each looks before it writes, and another's could be lost."""

    @wraps(change)
    async def wait_and_change(
        self: FileTools, principal: Principal, session_id: SessionId, *args: Any, **rest: Any
    ) -> Any:
        async with self.turn(session_id):
            return await change(self, principal, session_id, *args, **rest)

    return cast("_F", wait_and_change)


class Synchroniser(Protocol):
    """Knows where the sandboxes of sessions are."""

    async def synchronise(self, session_id: SessionId) -> None:
        """Bring workspace and kept files together, if background programs run in the session."""


Turns = Callable[[SessionId], AbstractAsyncContextManager[Any]]
"""Gives a lock for changes of a session's files, to be held for a block."""


class OwnTurns:
    """The :data:`Turns` of a daemon that shares its store with nobody."""

    def __init__(self) -> None:
        self._turns: WeakValueDictionary[SessionId, trio.Lock] = WeakValueDictionary()

    def __call__(self, session_id: SessionId) -> trio.Lock:
        """Give the lock."""
        turn = self._turns.get(session_id)
        if turn is None:
            turn = self._turns[session_id] = trio.Lock()
        return turn


class FileTools:
    """Works on the files of sessions. Whatever is not the caller's is ``NotFound``."""

    def __init__(self, files: FileService, live: Synchroniser, turns: Turns | None = None) -> None:
        self._files = files
        self._live = live
        self.turn = turns or OwnTurns()

    # -- looking --

    async def read_text(
        self, principal: Principal, session_id: SessionId, path: str, *, first_line: int, lines: int, limit: int
    ) -> TextPart:
        """Read at most ``lines`` lines from ``first_line`` on, of at most ``limit`` bytes together.

        Raises:
            NotFound: no such session or file.
            InvalidRequest: the path cannot be one, or the file is no UTF-8 text.
        """
        file = await self._file(principal, session_id, path)
        cutter = Cutter(first_line, lines, limit)
        decoder = codecs.getincrementaldecoder("utf-8")()
        async with self._files.content(file) as chunks:
            async for chunk in chunks:
                check_text(decoder, chunk, file)
                cutter.feed(chunk)
                await trio.lowlevel.checkpoint()
        check_text(decoder, b"", file, final=True)
        text = bytes(cutter.taken)
        count = text.count(b"\n") + (not text.endswith(b"\n") and bool(text))
        return TextPart(
            _view(file),
            text.decode("utf-8", "ignore" if cutter.cut else "strict"),
            first_line if count else 0,
            first_line + count - 1 if count else 0,
            cutter.lines,
            cutter.cut,
        )

    async def read_bytes(
        self, principal: Principal, session_id: SessionId, path: str, *, offset: int, length: int
    ) -> BytesPart:
        """Read at most ``length`` bytes from ``offset`` on.

        Raises:
            NotFound: no such session or file.
        """
        file = await self._file(principal, session_id, path)
        found = bytearray()
        if offset < file.size_bytes:
            async with self._files.content(file, offset) as chunks:
                async for chunk in chunks:
                    found += chunk[: length - len(found)]
                    if len(found) >= length:
                        break
        return BytesPart(_view(file), bytes(found), offset)

    async def entries(self, principal: Principal, session_id: SessionId) -> list[FileView]:
        """List all files and directories by path.

        Raises:
            NotFound: no such session.
        """
        await self._live.synchronise(session_id)
        files, empty = await self._contents(principal, session_id)
        directories = set(empty)
        for file in files:
            directories.update(parents(file.name))
        for name in empty:
            directories.update(parents(name))
        views = [_view(file) for file in files] + [FileView(name, directory=True) for name in directories]
        return sorted(views, key=lambda view: view.path)

    async def stat(self, principal: Principal, session_id: SessionId, path: str) -> FileView:
        """Describe a file or directory.

        Raises:
            NotFound: no such session, file or directory.
        """
        name = workspace_name(path)
        for view in await self.entries(principal, session_id):
            if view.path == name:
                return view
        if not name:
            return FileView("", directory=True)
        raise NotFound(f"there is no {shown(name)}", field="path")

    # -- changing --

    @_in_turn
    async def write(
        self,
        principal: Principal,
        session_id: SessionId,
        path: str,
        data: bytes,
        *,
        append: bool = False,
        executable: bool | None = None,
        content_type: str | None = None,
    ) -> FileView:
        """Write a file, or append to it; directories are made as needed. ``executable``: ``None`` leaves it.

        Raises:
            NotFound: no such session.
            InvalidRequest, Conflict: the path cannot be one, or something else has it.
            TooLarge, StorageFull: no room.
        """
        return await self._write(
            principal, session_id, path, data, append=append, executable=executable, content_type=content_type
        )

    async def _write(
        self,
        principal: Principal,
        session_id: SessionId,
        path: str,
        data: bytes,
        *,
        append: bool = False,
        executable: bool | None = None,
        content_type: str | None = None,
    ) -> FileView:
        self._files.check_host()
        name = check_name(workspace_name(path), field="path")
        if append:
            await self._live.synchronise(session_id)
        files, directories = await self._contents(principal, session_id)
        by_name = {file.name: file for file in files}
        check_free(name, by_name, directories)
        old = by_name.get(name)
        if old is not None and old.read_only:
            raise Conflict(f"{shown(name)} is read-only", field="path")

        async def content() -> AsyncIterator[bytes]:
            if append and old is not None:
                async with self._files.content(old) as chunks:
                    async for chunk in chunks:
                        yield chunk
            yield data

        blob = await self._files.store(content())
        if executable is None:
            executable = old is not None and old.executable
        file = self._files.describe(session_id, name, blob, content_type=content_type, executable=executable)
        if old is not None:
            file = replace(file, created_at=old.created_at)
        await self._change(session_id, FileChange(put=[file]))
        return _view(file)

    @_in_turn
    async def edit(
        self, principal: Principal, session_id: SessionId, path: str, old: str, new: str, *, every: bool
    ) -> tuple[FileView, int, int]:
        """Replace text that is there exactly once, or ``every`` time; also give how often, and its first line.

        Raises:
            NotFound: no such session or file, or the text is not in it.
            Conflict: it is there more than once.
            InvalidRequest: the file is no text.
            TooLarge: it is too large to be edited.
        """
        file = await self._file(principal, session_id, path)
        if file.size_bytes > MAX_EDIT_BYTES:
            raise TooLarge(f"a file of more than {MAX_EDIT_BYTES >> 20} MiB is edited by running code", field="path")
        async with self._files.content(file) as chunks:
            data = b"".join([chunk async for chunk in chunks])
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise InvalidRequest(f"{file.name} is not UTF-8 text", field="path") from None
        count = text.count(old)
        if not count:
            raise NotFound(
                f"old_text is not in {shown(file.name)}: it has to match exactly, with all spaces and line ends",
                field="old_text",
            )
        if count > 1 and not every:
            raise Conflict(
                f"old_text is {count} times in {shown(file.name)}: add lines around it until it is there once, "
                "or set replace_all",
                field="old_text",
            )
        size = len(data) + count * (len(new.encode()) - len(old.encode()))
        if size > MAX_EDIT_BYTES:
            raise TooLarge(
                f"the file would have {size} bytes; edited ones have at most {MAX_EDIT_BYTES}", field="new_text"
            )
        line = text.count("\n", 0, text.index(old)) + 1
        changed = text.replace(old, new).encode()
        view = await self._write(principal, session_id, path, changed, content_type=file.content_type)
        return view, count, line

    @_in_turn
    async def move(
        self, principal: Principal, session_id: SessionId, source: str, target: str, *, overwrite: bool
    ) -> list[FileView]:
        """Give a file, or a directory with all in it, another name; give what was moved.

        Raises:
            NotFound: no such session or source.
            InvalidRequest, Conflict: the target cannot be one, or is there already.
        """
        await self._live.synchronise(session_id)
        old, new = workspace_name(source), check_name(workspace_name(target), field="target")
        files, directories = await self._contents(principal, session_id)
        by_name = {file.name: file for file in files}
        moved = [file for file in files if file.name == old or file.name.startswith(f"{old}/")]
        moved_directories = {each for each in directories if each == old or each.startswith(f"{old}/")}
        if not old or not (moved or moved_directories):
            raise NotFound(f"there is no {shown(old)}", field="source")
        if new == old or new.startswith(f"{old}/"):
            raise InvalidRequest("it cannot be moved into itself", field="target")
        replaced = by_name.get(new)
        is_file = old in by_name
        if replaced is not None and not (overwrite and is_file):
            raise Conflict(f"{shown(new)} is there already", field="target")
        if replaced is not None and replaced.read_only:
            raise Conflict(f"{shown(new)} is read-only", field="target")
        check_free(new, by_name, directories if is_file else frozenset(), field="target")
        if not is_file and any(each.startswith(f"{new}/") for each in (*by_name, *directories)):
            raise Conflict(f"{shown(new)} is there already", field="target")
        put = [
            replace(file, id=FileId(new_id()), name=check_name(new + file.name[len(old) :], field="target"))
            for file in moved
        ]
        change = FileChange(
            put=put,
            drop=[file.id for file in moved],
            add_directories=_emptied(old, [*files, *put], moved, directories - moved_directories)
            | {check_name(new + name[len(old) :], field="target") for name in moved_directories},
            drop_directories=frozenset(moved_directories),
        )
        await self._change(session_id, change)
        return [_view(file) for file in put] or [FileView(new, directory=True)]

    @_in_turn
    async def delete(
        self, principal: Principal, session_id: SessionId, path: str, *, recursive: bool
    ) -> tuple[int, int]:
        """Delete a file or a directory; give how many files and how many bytes.

        Raises:
            NotFound: there is no such thing.
            Conflict: a directory that is not empty, and not ``recursive``.
        """
        await self._live.synchronise(session_id)
        name = workspace_name(path)
        files, directories = await self._contents(principal, session_id)
        under = [file for file in files if file.name.startswith(f"{name}/") or not name]
        own = [file for file in files if file.name == name]
        empty = {each for each in directories if each == name or each.startswith(f"{name}/") or not name}
        if not (under or own or empty):
            raise NotFound(f"there is no {shown(name)}", field="path")
        if (under or empty - {name}) and not recursive:
            raise Conflict(f"{shown(name)} is a directory with {len(under)} files: set recursive", field="path")
        gone = [*under, *own]
        change = FileChange(
            drop=[file.id for file in gone],
            add_directories=_emptied(name, files, gone, directories - empty),
            drop_directories=frozenset(empty),
        )
        await self._change(session_id, change)
        return len(gone), sum(file.size_bytes for file in gone)

    @_in_turn
    async def make_directory(self, principal: Principal, session_id: SessionId, path: str) -> FileView:
        """Make a directory with its parents; one that is there is no error.

        Raises:
            NotFound: no such session.
            InvalidRequest, Conflict: the path cannot be one, or a file has it.
        """
        name = check_name(workspace_name(path), field="path")
        files, directories = await self._contents(principal, session_id)
        by_name = {file.name: file for file in files}
        check_free(f"{name}/.", by_name, directories)
        await self._change(session_id, FileChange(add_directories=frozenset({name})))
        return FileView(name, directory=True)

    # -- inside --

    async def _contents(self, principal: Principal, session_id: SessionId) -> tuple[list[StoredFile], frozenset[str]]:
        held = await self._files.contents(await self._files.open_session(principal, session_id))
        return held.files, held.directories

    async def _file(self, principal: Principal, session_id: SessionId, path: str) -> StoredFile:
        await self._live.synchronise(session_id)
        name = workspace_name(path)
        files, directories = await self._contents(principal, session_id)
        for file in files:
            if file.name == name:
                return file
        if not name or name in directories or any(file.name.startswith(f"{name}/") for file in files):
            raise InvalidRequest(f"{shown(name)} is a directory", field="path")
        close = [file.name for file in files if file.name.rpartition("/")[2] == name.rpartition("/")[2]][:3]
        hint = f"; did you mean {', '.join(map(shown, close))}?" if close else "; list_files shows what is there"
        raise NotFound(f"there is no file {shown(name)}{hint}", field="path")

    async def _change(self, session_id: SessionId, change: FileChange) -> None:
        await self._files.change(session_id, change)
        await self._live.synchronise(session_id)


def _view(file: StoredFile) -> FileView:
    return FileView(
        path=file.name,
        directory=False,
        size_bytes=file.size_bytes,
        content_type=file.content_type,
        modified_at=file.modified_at,
        executable=file.executable,
        read_only=file.read_only,
        file_id=file.id,
    )


def _emptied(name: str, files: list[StoredFile], gone: list[StoredFile], directories: frozenset[str]) -> frozenset[str]:
    """Give the directory that something was in, if it has nothing else: it stays, as in any file system."""
    parent = name.rpartition("/")[0]
    left = {file.name for file in files} - {file.name for file in gone} | directories
    return frozenset() if not parent or any(each.startswith(f"{parent}/") for each in left) else frozenset({parent})

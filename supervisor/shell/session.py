"""A lasting session of a daemon: entries are run in it, files go in and out."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import trio

from supervisor.commands.api_client import Api, Refused, segment
from supervisor.errors import GaolerError, InvalidRequest

NOTE: Final = "[gaoler] "
MAX_UPLOAD_BYTES: Final = 1 << 30
_T = TypeVar("_T")
Show = Callable[[str, str], None]
"""Takes the name of a stream and a piece of text."""


@dataclass(slots=True)
class Session:
    """One session. ``made``: files that programs made and nobody has fetched."""

    api: Api
    language: str
    id: str = ""
    timeout_seconds: float | None = None
    tier: str | None = None
    made: dict[str, int] = field(default_factory=dict)

    async def begin(self) -> None:
        """Make it, or look that it is there.

        Raises:
            GaolerError: there is none; the language is not installed.
        """
        if self.id:
            await self.api.ask("GET", f"/v1/sessions/{segment(self.id)}")
        else:
            self.id = (await self.api.ask("POST", "/v1/sessions", {"language": self.language}))["session_id"]

    async def execute(self, code: str, show: Show) -> dict[str, Any]:
        """Run an entry and show what it writes; give the answer, without what was shown. Cancelling interrupts it.

        Raises:
            GaolerError: it is refused.
        """
        body: dict[str, Any] = {"lang": self.language, "code": code, "session_id": self.id, "stateful": True}
        if self.timeout_seconds is not None:
            body["timeout"] = self.timeout_seconds * 1000
        if self.tier is not None:
            body["tier"] = self.tier
        payload = msgspec.json.encode(body)
        headers = {"Content-Type": "application/json"}
        async with self.api.open("POST", "/v1/exec?stream=1", payload, headers) as answer:
            async for name, data in answer.events():
                if name == "output":
                    if data.get("omitted"):
                        show("stderr", f"\n[{data['omitted']} bytes are left out]\n")
                    show(data["stream"], data["text"])
                elif name == "error":
                    raise Refused(int(data.get("status", 500)), data["message"], hint=data.get("hint") or "")
                elif name == "result":
                    self._note_files(data)
                    found: dict[str, Any] = data
                    return found
        raise GaolerError("the daemon hung up before the end: it may have been stopped")

    def _note_files(self, answer: dict[str, Any]) -> None:
        for each in answer["files"]:
            if not each.get("inherited"):
                self.made[each["name"]] = each["size"]
        for name in answer["deleted_files"]:
            self.made.pop(name, None)

    async def files(self) -> list[dict[str, Any]]:
        """List what is in ``/mnt/data``."""
        found: list[dict[str, Any]] = (await self.api.ask("GET", f"/v1/sessions/{segment(self.id)}"))["files"]
        return found

    async def put(self, source: Path, name: str) -> int:
        """Put a file of this host into ``/mnt/data``; give its size.

        Raises:
            InvalidRequest: it cannot be read, or its name cannot be.
        """
        if any(each in name for each in '"\r\n'):
            raise InvalidRequest("a file's name has no quotes and line breaks")
        try:
            content = await trio.Path(source).read_bytes()
        except OSError as error:
            raise InvalidRequest(f"{source}: {error.strerror}") from None
        if len(content) > MAX_UPLOAD_BYTES:
            raise InvalidRequest(f"{source} is larger than {MAX_UPLOAD_BYTES} bytes")
        boundary = f"gaoler-{secrets.token_hex(16)}"
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        payload = head.encode("utf-8", "surrogateescape") + content + f"\r\n--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        async with self.api.open("POST", f"/v1/sessions/{segment(self.id)}/files", payload, headers) as answer:
            await answer.whole(1 << 20)
        return len(content)

    async def get(self, name: str, target: Path, *, replace: bool) -> int:
        """Write a file of ``/mnt/data`` to this host; give its size. No link is followed.

        Raises:
            FileExistsError: there is one, and ``replace`` does not say so.
            OSError: it cannot be written.
            GaolerError: there is no such file.
        """
        path = "/".join(segment(part) for part in name.split("/"))
        async with self.api.open("GET", f"/v1/sessions/{segment(self.id)}/files/{path}") as answer:
            if replace:
                await trio.Path(target).unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(target, flags, 0o644), "wb") as file:
                count = await _write_all(answer.pieces(), file.write)
        self.made.pop(name, None)
        return count

    async def drop(self) -> None:
        """Delete it with its files."""
        await self.api.ask("DELETE", f"/v1/sessions/{segment(self.id)}")


async def _write_all(pieces: AsyncIterator[bytes], write: Callable[[bytes], int]) -> int:
    count = 0
    async for piece in pieces:
        count += write(piece)
    return count


def notes(answer: dict[str, Any]) -> list[str]:
    """Give what the daemon says beside what the program wrote: limits, lost variables, files that were not kept."""
    return [line for line in answer["stderr"].splitlines() if line.startswith(NOTE)]


async def until_interrupted(work: Callable[[], Awaitable[_T]]) -> _T | None:
    """Do something until its end or Ctrl-C; ``None``: it was interrupted."""
    found: _T | None = None
    async with trio.open_nursery() as nursery:

        async def watch(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            with trio.open_signal_receiver(signal.SIGINT) as signals:
                task_status.started()
                async for _ in signals:
                    nursery.cancel_scope.cancel()

        await nursery.start(watch)
        found = await work()
        nursery.cancel_scope.cancel()
    return found

"""What the door needs of the rest: protocols and its own settings. It imports no implementation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from supervisor.execution.protocols import Executor, Programs, Rates
from supervisor.execution.values import (
    FileId,
    Owner,
    Principal,
    SessionId,
    SessionInfo,
    StoredFile,
    Tier,
)
from supervisor.identity.credentials import Credentials
from supervisor.identity.derived import DerivedIds
from supervisor.runtimes.language_view import Languages
from supervisor.workspace.views import (
    BytesPart,
    FileView,
    NetworkAnswer,
    Picture,
    ProcessInfo,
    ProcessOutput,
    SearchResult,
    TextPart,
)


class Sessions(Protocol):
    """Keeps sessions and files; what is not the caller's is ``NotFound``."""

    async def create_session(
        self, owner: Owner, session_id: SessionId | None = None, *, language: str | None = None
    ) -> SessionId:
        """Make a session; with ``session_id``, unless it is there."""

    async def session(self, principal: Principal, session_id: SessionId) -> SessionInfo:
        """Look a session up."""

    async def sessions(self, principal: Principal, limit: int) -> list[SessionInfo]:
        """List the caller's own, the newest first."""

    async def delete_session(self, principal: Principal, session_id: SessionId) -> None:
        """Forget a session with its files."""

    async def listing(self, principal: Principal, session_id: SessionId) -> tuple[StoredFile, ...]:
        """List a session's files."""

    async def find_by_name(self, principal: Principal, session_id: SessionId, name: str) -> StoredFile:
        """Look a file up by its name in a session."""

    def open(
        self, principal: Principal, session_id: SessionId, file_id: FileId
    ) -> AbstractAsyncContextManager[tuple[StoredFile, AsyncIterator[bytes]]]:
        """Read a file."""


class Files(Protocol):
    """Work on the files of a session."""

    async def read_text(
        self, principal: Principal, session_id: SessionId, path: str, *, first_line: int, lines: int, limit: int
    ) -> TextPart:
        """Read lines."""

    async def read_bytes(
        self, principal: Principal, session_id: SessionId, path: str, *, offset: int, length: int
    ) -> BytesPart:
        """Read bytes."""

    async def entries(self, principal: Principal, session_id: SessionId) -> list[FileView]:
        """List files and directories."""

    async def stat(self, principal: Principal, session_id: SessionId, path: str) -> FileView:
        """Describe one."""

    async def write(
        self,
        principal: Principal,
        session_id: SessionId,
        path: str,
        data: bytes,
        *,
        append: bool = False,
        executable: bool | None = None,
    ) -> FileView:
        """Write one."""

    async def edit(
        self, principal: Principal, session_id: SessionId, path: str, old: str, new: str, *, every: bool
    ) -> tuple[FileView, int, int]:
        """Replace text; give how often and where first."""

    async def move(
        self, principal: Principal, session_id: SessionId, source: str, target: str, *, overwrite: bool
    ) -> list[FileView]:
        """Move."""

    async def delete(
        self, principal: Principal, session_id: SessionId, path: str, *, recursive: bool
    ) -> tuple[int, int]:
        """Delete; give how many files and bytes."""

    async def make_directory(self, principal: Principal, session_id: SessionId, path: str) -> FileView:
        """Make a directory."""


class Process(Protocol):
    """A program in the background."""

    async def read(
        self, *, position: int | None, limit: int, wait_seconds: float, until: bytes | None = None
    ) -> ProcessOutput:
        """Read what it has written."""

    async def write(self, data: bytes, *, close: bool) -> int:
        """Write to its standard input."""

    async def signal(self, number: int) -> None:
        """Signal it."""

    async def wait_ended(self, seconds: float) -> None:
        """Wait for its end."""


class Processes(Protocol):
    """Programs in the background of sessions."""

    async def start(
        self, principal: Principal, session_id: SessionId, command: str, tier: Tier | None = None
    ) -> ProcessInfo:
        """Start a shell command."""

    async def list(self, principal: Principal, session_id: SessionId) -> list[ProcessInfo]:
        """List those of a session."""

    async def get(self, principal: Principal, session_id: SessionId, process_id: str) -> Process:
        """Give one."""

    async def state(self, session_id: SessionId) -> str:
        """Say whether the session has a sandbox in memory: ``live`` or ``resting``."""

    async def close(self, principal: Principal, session_id: SessionId) -> None:
        """End a session's sandbox, with all that runs in it, without saving its variables."""


class Assistants(Protocol):
    """Work on hostile content, done in sandboxes."""

    async def search(
        self,
        principal: Principal,
        session_id: SessionId,
        pattern: str,
        *,
        glob: str,
        regex: bool,
        ignore_case: bool,
        limit: int,
    ) -> SearchResult:
        """Find lines."""

    async def shrink(
        self,
        principal: Principal,
        pictures: Sequence[tuple[str, bytes | StoredFile]],
        *,
        pixels: int,
        limit_bytes: int,
        tier: Tier,
    ) -> list[Picture | None]:
        """Make pictures small enough, in a sandbox of this tier at least."""


class Links(Protocol):
    """Links to files."""

    def make(self, principal: Principal, session_id: SessionId, file_id: FileId) -> str:
        """Give the token of one."""


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """Settings of this door. Sizes in bytes, times in seconds."""

    body_bytes: int
    code_characters: int
    base64_bytes: int
    sessions: int
    sessions_per_user: int
    idle_seconds: float
    resume_seconds: float
    text_bytes: int
    image_pixels: int
    image_bytes: int
    inline_bytes: int
    display_bytes: int
    recent_bytes: int
    wall_seconds: float
    queue_seconds: float
    allowed_hosts: frozenset[str]
    allowed_origins: frozenset[str]
    public_url: str
    authorization_server: str
    stateful: bool


@dataclass(frozen=True, slots=True)
class Door:
    """Everything that the tools work with."""

    version: str
    credentials: Credentials
    rates: Rates
    ids: DerivedIds
    executor: Executor
    programs: Programs
    sessions: Sessions
    files: Files
    processes: Processes
    assistants: Assistants
    links: Links
    explain_network: Callable[[str, str | None], NetworkAnswer]
    recognise_picture: Callable[[bytes], Picture | None]
    """Reads the size of a PNG or JPEG from its header; nothing is decoded."""
    languages: Languages
    policy_words: str
    settings: DoorSettings

    async def admit(self, principal: Principal, kind: str) -> None:
        """Count a call of this kind.

        Raises:
            Busy: it is one too many.
        """
        await self.rates.check(principal, kind)

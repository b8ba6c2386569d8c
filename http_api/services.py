"""What the door needs of the rest: three protocols and its own settings. It imports no implementation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from supervisor.execution import (
    ExecutionRequest,
    ExecutionResult,
    FileId,
    Listener,
    Owner,
    Principal,
    SessionId,
    StoredFile,
)


class Executor(Protocol):
    """Runs code."""

    async def execute(self, request: ExecutionRequest, listener: Listener | None = None) -> ExecutionResult:
        """Run a request to its end; cancelling kills. ``listener`` is told output as it is produced.

        Raises:
            GaolerError: a refusal or our own fault.
        """


class Files(Protocol):
    """Keeps sessions and files; what is not the caller's is ``NotFound``."""

    async def create_session(self, owner: Owner) -> SessionId:
        """Make a session."""

    async def drop_session(self, session_id: SessionId) -> None:
        """Forget a session that this request has made."""

    async def delete_session(self, principal: Principal, session_id: SessionId) -> None:
        """Forget a session."""

    async def receive(
        self,
        session_id: SessionId,
        name: str,
        content_type: str | None,
        chunks: AsyncIterator[bytes],
        *,
        read_only: bool,
    ) -> StoredFile:
        """Store an upload in a session that this request has made."""

    async def listing(self, principal: Principal, session_id: SessionId) -> tuple[StoredFile, ...]:
        """List a session."""

    async def find(self, principal: Principal, session_id: SessionId, file_id: FileId) -> StoredFile:
        """Look a file up."""

    def open(
        self, principal: Principal, session_id: SessionId, file_id: FileId
    ) -> AbstractAsyncContextManager[tuple[StoredFile, AsyncIterator[bytes]]]:
        """Read a file."""

    async def delete_file(self, principal: Principal, session_id: SessionId, file_id: FileId) -> None:
        """Forget a file."""


class Health(Protocol):
    """Says how the daemon is."""

    @property
    def ready(self) -> bool:
        """Executions can be run."""

    @property
    def version(self) -> str:
        """Version of the daemon."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Names of the installed languages."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A credential: its name, for logs and limits; the tenant it belongs to; the secret."""

    name: str
    tenant: str
    secret: str


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """Settings of this door. No keys means that nobody is asked for one."""

    keys: tuple[ApiKey, ...]
    body_bytes: int
    code_characters: int


@dataclass(frozen=True, slots=True)
class Door:
    """Everything that the routes work with."""

    executor: Executor
    files: Files
    health: Health
    settings: DoorSettings

"""What the door needs of the rest: three protocols and its own settings. It imports no implementation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from http_api.admin.services import Administration
from supervisor.execution.protocols import Executor, Programs, Rates
from supervisor.execution.values import (
    FileId,
    Owner,
    Principal,
    SessionId,
    SessionInfo,
    StoredFile,
)
from supervisor.identity.credentials import Credentials
from supervisor.identity.operators import Operators
from supervisor.runtimes.language_view import Languages


class Files(Protocol):
    """Keeps sessions and files; what is not the caller's is ``NotFound``."""

    async def create_session(
        self, owner: Owner, session_id: SessionId | None = None, *, language: str | None = None
    ) -> SessionId:
        """Make a session; with ``session_id``, unless it is there."""

    async def session(self, principal: Principal, session_id: SessionId) -> SessionInfo:
        """Look a session up."""

    def shared_session(self, owner: Owner) -> SessionId:
        """Name the session of an owner's files that are in all of its workspaces."""

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

    async def listing_or_none(self, principal: Principal, session_id: SessionId) -> tuple[StoredFile, ...]:
        """List a session; of one that is not there, or another's, there are no files."""

    async def listing(self, principal: Principal, session_id: SessionId) -> tuple[StoredFile, ...]:
        """List a session."""

    async def find(self, principal: Principal, session_id: SessionId, file_id: FileId) -> StoredFile:
        """Look a file up."""

    async def find_by_name(self, principal: Principal, session_id: SessionId, name: str) -> StoredFile:
        """Look a file up by its name in a session."""

    async def drop_files(self, files: Sequence[StoredFile]) -> None:
        """Forget files that this request has stored."""

    def open(
        self, principal: Principal, session_id: SessionId, file_id: FileId
    ) -> AbstractAsyncContextManager[tuple[StoredFile, AsyncIterator[bytes]]]:
        """Read a file."""

    async def delete_file(self, principal: Principal, session_id: SessionId, file_id: FileId) -> None:
        """Forget a file."""


class Links(Protocol):
    """Links to files."""

    def read(self, token: str) -> tuple[Principal, SessionId, FileId]:
        """Give what a link leads to, and as whom it may be read."""


class Operation(Protocol):
    """What operators ask; who they are has been checked."""

    def egress(self) -> dict[str, Any]:
        """Give the rules of the network."""

    async def put_egress(self, name: str, payload: bytes) -> dict[str, Any]:
        """Replace the rules of a name; they hold when this returns."""

    async def drop_egress(self, name: str) -> dict[str, Any]:
        """Go back to the rules of the file."""

    async def metrics(self) -> str:
        """Give all figures as text."""


class Check(Protocol):
    """One thing that has to be there."""

    @property
    def name(self) -> str:
        """What it is."""

    @property
    def ok(self) -> bool:
        """It is there."""

    @property
    def reason(self) -> str:
        """Why it is not, or more about it."""


class Health(Protocol):
    """Says how the daemon is."""

    @property
    def role(self) -> str:
        """Of the process."""

    async def checks(self) -> Sequence[Check]:
        """Look at everything that its work needs."""

    @property
    def status(self) -> str:
        """``ok``, or why no code can be run."""

    @property
    def version(self) -> str:
        """Version of the daemon."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Names of the installed languages."""


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """Settings of this door. ``stateful``: the policy keeps interpreters for those who ask."""

    body_bytes: int
    code_characters: int
    base64_bytes: int
    cors_origins: frozenset[str]
    documentation: bool
    dashboard: bool
    stateful: bool


@dataclass(frozen=True, slots=True)
class Door:
    """Everything that the routes work with."""

    credentials: Credentials
    operators: Operators
    rates: Rates
    executor: Executor
    programs: Programs
    files: Files
    links: Links
    operation: Operation
    administration: Administration
    health: Health
    languages: Languages
    settings: DoorSettings

    async def admit(self, principal: Principal, kind: str) -> None:
        """Count a call of this kind.

        Raises:
            Busy: it is one too many.
        """
        await self.rates.check(principal, kind)

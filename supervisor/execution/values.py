"""The values that cross every border: who asks, what to run, what became of it.

Pure data, no behaviour that touches the world. The doors build an :class:`ExecutionRequest`, the executor returns an
:class:`ExecutionResult`; what the user's program did is a value (:data:`Outcome`), never an exception.
"""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NewType

from msgspec import Struct

SessionId = NewType("SessionId", str)
FileId = NewType("FileId", str)

MAX_STDIN_BYTES: Final = 65_536
"""A door refuses more; the jailer takes no more."""
ID_LENGTH: Final = 21
"""LibreChat's own download route refuses ids that are not 21 characters of this alphabet (a nanoid)."""

_FIRST_OF_ID: Final = string.ascii_letters + string.digits
ID_ALPHABET: Final = _FIRST_OF_ID + "_-"
ID_PATTERN: Final = re.compile(r"[A-Za-z0-9_-]{21}")


def new_id() -> str:
    """Make an unguessable id: 21 characters of ``[A-Za-z0-9_-]``, nearly 126 bits from the kernel.

    The first is a letter or a digit: operators give ids to commands, which take what begins with a dash for an option.
    """
    rest = (secrets.choice(ID_ALPHABET) for _ in range(ID_LENGTH - 1))
    return "".join((secrets.choice(_FIRST_OF_ID), *rest))


def is_id(text: str) -> bool:
    """Say whether ``text`` has the form of a session or file id."""
    return ID_PATTERN.fullmatch(text) is not None


Tier = Literal["nsjail", "microvm"]
"""A sandbox shares the host's kernel, or has one of its own. The later is the higher."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls.

    ``tenant`` is what the credential belongs to, ``credential`` its name (for logs and limits). ``user`` is ``None``
    when the caller named nobody: then the credential speaks for its whole tenant, as LibreChat's server does for
    downloads and for ``bash_tool``, which carry no user at all.
    """

    tenant: str
    credential: str
    user: str | None = None
    tier: Tier = field(default="nsjail", compare=False)
    """The credential's executions have this one at least; no part of who it is."""


@dataclass(frozen=True, slots=True)
class Owner:
    """To whom a session belongs inside its tenant.

    ``kind`` is ``user``, ``agent``, ``skill`` or ``tenant`` (nobody in particular); ``id`` is empty for ``tenant``.
    Agent and skill resources are shared by the tenant's users: knowing their 126-bit ids is the permission.
    """

    tenant: str
    kind: str
    id: str = ""
    version: int | None = None


@dataclass(frozen=True, slots=True)
class FileReference:
    """An input file named by the caller: which stored file, and under which name it is wanted in the workspace."""

    id: FileId
    session_id: SessionId
    name: str
    kind: str = "user"
    resource_id: str | None = None
    version: int | None = None
    old_form: bool = False
    """The reference came without ``storage_session_id`` (LibreChat up to v0.8.5): unchanged inputs are not echoed."""


@dataclass(frozen=True, slots=True)
class ExecutionRequest:
    """One run of code, validated by a door. ``wall_seconds`` can only shorten what the policy grants."""

    principal: Principal
    language: str
    """A name or alias from the language catalogue; an unknown one is refused by the executor."""
    code: str
    arguments: tuple[str, ...] = ()
    files: tuple[FileReference, ...] = ()
    session_id: SessionId | None = None
    """Continue in this session: its files are in the workspace and results go to it. ``None`` makes a new one."""
    wall_seconds: float | None = None
    stdin: bytes = b""
    stateful: bool | None = None
    """Keep the interpreter between executions: asked for, asked against, or left to the policy."""
    shared_files: bool = False
    """The user's own lasting files are in the workspace too."""
    runtime_hint: str | None = None
    """LibreChat's name for a lasting runtime, unique in its tenant; asks for ``stateful``."""
    egress: tuple[str, ...] | None = None
    """Narrow the network down to these hosts; ``None``: all that the operator allows."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables for this execution beside the usual ones, instead of those of the same name."""
    main: str | None = None
    """Run this file of the workspace, as a program of its own, instead of ``code``, which is empty then."""
    sources: tuple[str, ...] = ()
    """Further files of the workspace that are compiled together with ``main``."""
    display_bytes: int = 0
    """Take what Python shows beside its output (figures, tables, pages), up to so many bytes; 0: do not ask for it."""
    tier: Tier | None = None
    """Asked for. It can only raise what applies, see :mod:`supervisor.execution.tier`; ``None``: whatever that is."""


class Exited(Struct, frozen=True, tag=True):
    """The program ended by itself."""

    code: int


class Signalled(Struct, frozen=True, tag=True):
    """A signal ended the program; ``SIGSYS`` is the seccomp policy's."""

    signal: int


class OutOfMemory(Struct, frozen=True, tag=True):
    """The kernel killed something in the sandbox for its memory limit, the program itself or one of its children."""

    limit_bytes: int


class TimedOut(Struct, frozen=True, tag=True):
    """The wall-clock limit was reached."""

    limit_seconds: float


class OutputLimit(Struct, frozen=True, tag=True):
    """A stream (``stdout`` or ``stderr``) passed the policy's ``output_kill_bytes``."""

    stream: str
    limit_bytes: int


class Cancelled(Struct, frozen=True, tag=True):
    """The caller went away or asked for it."""


Phase = Literal["compile", "run"]
"""In which an execution ended: the compiler's, which was not content or was ended, or the program's own."""

Outcome = Exited | Signalled | OutOfMemory | TimedOut | OutputLimit | Cancelled


@dataclass(frozen=True, slots=True)
class CapturedOutput:
    """What was kept of one stream. ``omitted_bytes`` lie between ``untrusted_head`` and ``untrusted_tail``."""

    untrusted_head: bytes = b""
    untrusted_tail: bytes = b""
    omitted_bytes: int = 0

    def text(self) -> str:
        """Decode as UTF-8 with replacement; a cut is marked with how much is missing."""
        if not self.omitted_bytes:
            return (self.untrusted_head + self.untrusted_tail).decode("utf-8", "replace")
        head = self.untrusted_head.decode("utf-8", "ignore")
        tail = self.untrusted_tail.decode("utf-8", "ignore")
        return f"{head}\n[... {self.omitted_bytes} bytes omitted ...]\n{tail}"


@dataclass(frozen=True, slots=True)
class OutputPiece:
    """Output as it is produced; ``omitted_bytes`` were cut before it."""

    stream: str
    untrusted_data: bytes
    omitted_bytes: int = 0


Listener = Callable[[OutputPiece], Awaitable[None]]
"""Somebody who wants to be told output as it is produced."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the execution cost: wall and CPU seconds, and the peak of the sandbox's memory in bytes."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory_peak_bytes: int = 0


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a session as the store knows it. Times are seconds since the epoch."""

    id: FileId
    session_id: SessionId
    name: str
    size_bytes: int
    sha256: str
    content_type: str
    created_at: float
    modified_at: float
    read_only: bool = False
    executable: bool = False


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session as its callers may know it. Times are seconds since the epoch."""

    id: SessionId
    language: str | None
    created_at: float
    expires_at: float
    files: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A file of the answer. ``inherited``: an input that came through unchanged, under its own ids."""

    id: FileId
    session_id: SessionId
    name: str
    size_bytes: int
    inherited: bool = False
    modified_from: FileReference | None = None
    source: FileReference | None = None
    """The caller's reference of an inherited input, echoed with its ``kind``, ``resource_id`` and ``version``."""


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """Something in the workspace that was not kept, and why, in words for the caller."""

    untrusted_name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Runtime:
    """The lasting interpreter that an execution ran in. ``status``: ``new``, ``reused`` or ``restored``."""

    session_id: SessionId
    status: str
    state_lives: bool
    """Its variables are there for the next execution."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Something that a program has shown, in several forms: content by media type, as bytes. All of it untrusted."""

    untrusted_forms: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class ExecutionResult:
    """What became of one execution."""

    session_id: SessionId
    outcome: Outcome
    stdout: CapturedOutput
    stderr: CapturedOutput
    usage: Usage
    files: tuple[ResultFile, ...] = ()
    deleted: tuple[str, ...] = ()
    skipped: tuple[SkippedFile, ...] = field(default=())
    runtime: Runtime | None = None
    notes: tuple[str, ...] = ()
    """What the model has to know beside the output, a sentence each."""
    shown: tuple[Shown, ...] = ()
    phase: Phase = "run"
    compiler: CapturedOutput = CapturedOutput()
    """What a compiler has said of a program that it accepted; what it says of one that it does not is ``stderr``."""
    tier: Tier | None = None
    """Of the sandbox that it ran in; ``None``: in none."""
    spent: Mapping[str, float] = field(default_factory=dict)
    """Where the time went: seconds by step (:data:`supervisor.activity.timeline.STEPS`)."""

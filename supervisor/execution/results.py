"""What goes into a workspace and what is kept of it: values and rules of one execution's files and output.

Everything that comes out of a sandbox is untrusted here: names are checked, sizes bounded, and what is not kept is
said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from supervisor.execution.values import (
    CapturedOutput,
    FileReference,
    Listener,
    OutputPiece,
    Owner,
    Phase,
    ResultFile,
    SessionId,
    Shown,
    SkippedFile,
    StoredFile,
)
from supervisor.files.service import Blob
from supervisor.jailer import protocol
from supervisor.store import StoredPackages
from supervisor.workspace.names import name_fault


@dataclass(frozen=True, slots=True)
class Input:
    """A file that goes into the workspace. ``reference`` is ``None`` for the session's own files."""

    file: StoredFile
    reference: FileReference | None


@dataclass(frozen=True, slots=True)
class Inputs:
    """All inputs of an execution by name, and the session that its results go to."""

    session_id: SessionId
    owner: Owner
    is_new: bool
    """The session has no row yet; it gets one when there is a file to keep."""
    by_name: Mapping[str, Input]
    skipped: tuple[SkippedFile, ...]
    directories: frozenset[str] = frozenset()
    """The session's directories without a file in them."""
    packages: StoredPackages | None = None
    """What the session has installed."""


@dataclass(slots=True)
class Collector:
    """Puts the pieces of output together."""

    heads: dict[str, list[bytes]] = field(default_factory=lambda: {"stdout": [], "stderr": []})
    tails: dict[str, list[bytes]] = field(default_factory=lambda: {"stdout": [], "stderr": []})
    omitted: dict[str, int] = field(default_factory=lambda: {"stdout": 0, "stderr": 0})
    phase: Phase = "run"
    compiler: CapturedOutput = field(default_factory=CapturedOutput)
    """What the compiler has said of a program that it accepted."""
    listener: Listener | None = None
    """Is told each piece as it comes."""

    async def take(self, output: protocol.Output) -> None:
        """Take the next piece."""
        name = output.stream
        self.omitted[name] += output.omitted_before
        (self.tails if self.omitted[name] else self.heads)[name].append(output.data)
        if self.listener is not None:
            await self.listener(OutputPiece(name, output.data, output.omitted_before))

    async def adopt_as_stderr(self, said: Collector) -> None:
        """Take all that another one has collected, as errors."""
        for name in ("stdout", "stderr"):
            self.heads["stderr"] += said.heads[name]
            self.tails["stderr"] += said.tails[name]
            self.omitted["stderr"] += said.omitted[name]
        if self.listener is not None:
            text = self.captured("stderr").text().encode()
            await self.listener(OutputPiece("stderr", text, 0))

    async def add(self, text: str) -> None:
        """Add a line of our own to the end of stderr."""
        last = (self.tails["stderr"] or self.heads["stderr"] or [b"\n"])[-1]
        line = ("" if last.endswith(b"\n") else "\n") + f"[gaoler] {text}\n"
        (self.tails if self.omitted["stderr"] else self.heads)["stderr"].append(line.encode())
        if self.listener is not None:
            await self.listener(OutputPiece("stderr", line.encode(), 0))

    def together(self) -> CapturedOutput:
        """Give both streams as one, stdout first."""
        out, err = self.captured("stdout"), self.captured("stderr")
        if out.omitted_bytes:
            # The head of one and the tail of the other would be put together.
            return out if not (err.untrusted_head or err.untrusted_tail) else err
        return replace(err, untrusted_head=out.untrusted_head + err.untrusted_head)

    def captured(self, name: str) -> CapturedOutput:
        """Give what was kept of ``stdout`` or ``stderr``."""
        return CapturedOutput(b"".join(self.heads[name]), b"".join(self.tails[name]), self.omitted[name])


@dataclass(slots=True)
class Results:
    """What is found in the workspace after the run."""

    files: list[ResultFile] = field(default_factory=list)
    new: list[StoredFile] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    forget: list[StoredFile] = field(default_factory=list)
    add_directories: frozenset[str] = frozenset()
    drop_directories: frozenset[str] = frozenset()
    skipped: list[SkippedFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    shown: tuple[Shown, ...] = ()
    packages: Blob | None = None
    """What is installed now, if that has changed."""
    forget_packages: bool = False


@dataclass(frozen=True, slots=True)
class ResultLimits:
    """Bounds on what one execution may leave."""

    files: int
    file_bytes: int
    session_bytes: int
    session_files: int
    packages_bytes: int


class Room:
    """How much more may be kept. Counts before the bytes are fetched, so that nothing is fetched in vain."""

    def __init__(self, limits: ResultLimits, inputs: Inputs) -> None:
        kept = [each.file for each in inputs.by_name.values() if each.file.session_id == inputs.session_id]
        self._limits = limits
        self._files = 0
        # Directories without files count too.
        self._session_files = len(kept) + len(inputs.directories)
        self._session_bytes = sum(file.size_bytes for file in kept)

    @property
    def files_left(self) -> int:
        """How many more the session holds."""
        return max(0, self._limits.session_files - self._session_files)

    def fault(self, size: int) -> str | None:
        """Say why a file of ``size`` bytes is not kept, or ``None``."""
        if size > self._limits.file_bytes:
            return f"larger than {self._limits.file_bytes} bytes"
        if self._files >= self._limits.files:
            return f"more than {self._limits.files} new files"
        if self._session_files >= self._limits.session_files:
            return f"the session holds {self._limits.session_files} files already"
        if self._session_bytes + size > self._limits.session_bytes:
            return f"the session's files would pass {self._limits.session_bytes} bytes"
        return None

    def take(self, size: int) -> None:
        """Count a file that is kept."""
        self._files += 1
        self._session_files += 1
        self._session_bytes += size


def inherited(name: str, source: Input) -> list[ResultFile]:
    """An input that came through; the session's own files, which the caller did not name, are not echoed."""
    if source.reference is None:
        return []
    file = source.file
    return [ResultFile(file.id, file.session_id, name, file.size_bytes, inherited=True, source=source.reference)]


def usable_name(untrusted_name: bytes) -> str | None:
    """Give the name if a file may be kept under it."""
    try:
        name = untrusted_name.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return name if name_fault(name) is None else None


def shown_name(untrusted_name: bytes) -> str:
    """Make a name fit to be shown: no control characters, bounded."""
    return shown_text(untrusted_name.decode("utf-8", "replace"))


def shown_text(untrusted_text: str) -> str:
    """Make a short text fit to be shown: no control characters, bounded."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in untrusted_text[:256])

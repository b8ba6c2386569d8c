"""What an execution does in the jail that it was given: place its files, run, read back what changed, keep it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Final, assert_never

import msgspec
import trio

from supervisor.errors import GaolerError, InvalidRequest, QuotaReached, SandboxFailed, TooLarge
from supervisor.execution.results import (
    Collector,
    Input,
    Inputs,
    ResultLimits,
    Results,
    Room,
    inherited,
    shown_name,
    usable_name,
)
from supervisor.execution.shown import read_shown
from supervisor.execution.values import (
    Cancelled,
    ExecutionRequest,
    ExecutionResult,
    Exited,
    FileReference,
    Outcome,
    OutOfMemory,
    OutputLimit,
    ResultFile,
    Runtime,
    Signalled,
    SkippedFile,
    TimedOut,
    Usage,
)
from supervisor.files.service import Blob, FileService
from supervisor.jailer import protocol
from supervisor.jailer.client import JailRefused, RemoteJail
from supervisor.runtimes.catalogue import InstalledLanguage
from supervisor.store import FileChange, StoredPackages
from supervisor.workspace.names import name_fault
from supervisor.workspace.views import parents

log: Final = logging.getLogger("gaoler.execution")

LARGE_BYTES: Final = 512 * 1024
"""What is read beside the event loop."""


@dataclass(slots=True)
class Present:
    """What is known to be in a workspace: digests by name, and what is in it but not kept."""

    digests: dict[str, tuple[str, bool]] = field(default_factory=dict)
    """By name: the SHA-256, and whether it is executable."""
    own: set[str] = field(default_factory=set)
    """Those that are the session's own: deleted there, they have to go here."""
    directories: set[str] = field(default_factory=set)
    packages: str | None = None
    """Digest of what is installed, as it was put or kept."""
    ignored: set[bytes] = field(default_factory=set)

    def forget(self, names: Iterable[str]) -> None:
        """These are not there, or not kept: they are looked at, and written, anew."""
        for name in names:
            self.digests.pop(name, None)
            self.own.discard(name)


class InJail:
    """The work itself, for executions of their own and in lasting sessions alike."""

    def __init__(self, files: FileService, limits: ResultLimits) -> None:
        self._files = files
        self._limits = limits

    async def place(
        self, request: ExecutionRequest, language: InstalledLanguage, inputs: Inputs, jail: RemoteJail, present: Present
    ) -> None:
        """Write the program and those inputs that are not there yet."""
        if request.main is None:
            code = request.code.encode()
            await jail.put_file(language.source_name, len(code), _once(code), area="code", read_only=True)
        await self.place_inputs(inputs, jail, present)

    async def place_inputs(self, inputs: Inputs, jail: RemoteJail, present: Present) -> None:
        """Bring the workspace up to the session: write what is not there yet, remove what was deleted meanwhile."""
        packages = inputs.packages
        if packages is not None and present.packages != packages.sha256:
            async with self._files.packages_content(packages) as content:
                await jail.put_packages(packages.size_bytes, content)
            present.packages = packages.sha256
        gone = [name for name in present.own if name not in inputs.by_name]
        for name in gone:
            await jail.remove_file(name.encode())
            present.own.discard(name)
            present.digests.pop(name, None)
        wanted = {*inputs.directories, *(parent for name in inputs.by_name for parent in parents(name))}
        unwanted = {*present.directories, *(parent for name in gone for parent in parents(name))} - wanted
        for name in sorted(unwanted, reverse=True):
            # Only if it is empty: what the session does not keep may be in it.
            await jail.remove_file(name.encode())
        for name in inputs.directories - present.directories:
            await jail.make_directory(name.encode())
        present.directories = set(inputs.directories)
        for name, each in inputs.by_name.items():
            file = each.file
            if present.digests.get(name) == (file.sha256, file.executable):
                continue
            async with self._files.content(file) as chunks:
                await jail.put_file(
                    name.encode(), file.size_bytes, chunks, read_only=file.read_only, executable=file.executable
                )
            present.digests[name] = (file.sha256, file.executable)
            if file.session_id == inputs.session_id:
                present.own.add(name)

    async def run_alone(
        self, request: ExecutionRequest, language: InstalledLanguage, jail: RemoteJail, output: Collector
    ) -> protocol.Ended:
        """Compile, if the language does, and run; nothing lives on. A failed compilation is the outcome."""
        if language.profile is not None:
            script = protocol.RunScript(
                arguments=list(request.arguments),
                wall_seconds=language.wall_seconds(request.wall_seconds),
                stdin=request.stdin,
                display_bytes=request.display_bytes,
                environment=dict(request.environment),
                main=language.source_path(request.main),
            )
            return await jail.run(script, output.take, scan=True)
        compiled = await self._compile(request, language, jail, output, then="sweep")
        if compiled is not None and compiled.outcome != protocol.RunExited(code=0):
            await jail.finish()
            return compiled
        program = _program(request, language, then="destroy")
        return _together(compiled, await jail.run(program, output.take, scan=True))

    async def run_live(
        self,
        request: ExecutionRequest,
        language: InstalledLanguage,
        jail: RemoteJail,
        output: Collector,
        interrupt_seconds: float,
    ) -> protocol.Ended:
        """Run in the lasting interpreter, or beside it; what lives in the jail is paused afterwards."""
        if language.profile is not None and request.main is None:
            cell = protocol.RunCell(
                arguments=list(request.arguments),
                wall_seconds=language.wall_seconds(request.wall_seconds),
                stdin=request.stdin,
                interrupt_seconds=interrupt_seconds,
                display_bytes=request.display_bytes,
                environment=dict(request.environment),
            )
            return await jail.run(cell, output.take, scan=True)
        compiled = await self._compile(request, language, jail, output, then="pause")
        if compiled is not None and compiled.outcome != protocol.RunExited(code=0):
            return compiled
        return _together(compiled, await jail.run(_program(request, language, then="pause"), output.take, scan=True))

    async def _compile(
        self,
        request: ExecutionRequest,
        language: InstalledLanguage,
        jail: RemoteJail,
        output: Collector,
        then: protocol.Then,
    ) -> protocol.Ended | None:
        compiler = language.compile_arguments(request.main, request.sources)
        if compiler is None:
            return None
        build = protocol.Run(
            arguments=compiler,
            environment={**language.environment, **request.environment},
            seccomp=language.language.seccomp_compile or language.language.seccomp,
            wall_seconds=language.language.limits.compile_seconds,
            then=then,
            phase="compile",
        )
        # What a compiler says belongs to stderr only if it failed: warnings would pass for what the program says.
        said = Collector()
        compiled = await jail.run(build, said.take)
        if compiled.outcome != protocol.RunExited(code=0):
            output.phase = "compile"
            await output.adopt_as_stderr(said)
        else:
            output.compiler = said.together()
        return compiled

    async def take_shown(
        self, request: ExecutionRequest, language: InstalledLanguage, jail: RemoteJail, results: Results
    ) -> None:
        """After :meth:`collect`: take what the program has shown, if somebody wants it."""
        if request.display_bytes and language.profile is not None:
            lines = await jail.display(request.display_bytes)
            if len(lines) <= LARGE_BYTES:
                shown, note = read_shown(lines, request.display_bytes)
            else:
                shown, note = await trio.to_thread.run_sync(read_shown, lines, request.display_bytes)
            results.shown = shown
            if note is not None:
                results.notes.append(note)

    async def collect(self, jail: RemoteJail, inputs: Inputs, results: Results, present: Present) -> None:
        """Go through the manifest; everything in it is untrusted."""
        manifest = await jail.scan()
        results.skipped += [SkippedFile(shown_name(skip.untrusted_name), skip.reason) for skip in manifest.skipped]
        if manifest.truncated:
            results.skipped.append(SkippedFile("", "there are more files than can be listed; the rest was not kept"))
        room = Room(self._limits, inputs)
        for entry in manifest.entries:
            await self._take(jail, entry, inputs, results, room, present)
        seen = {entry.untrusted_name for entry in manifest.entries}
        for name, each in inputs.by_name.items():
            if each.file.read_only:
                results.files += inherited(name, each)
            elif name.encode() not in seen and not manifest.truncated and not _is_of_packages(name):
                results.deleted.append(name)
                present.digests.pop(name, None)
                present.own.discard(name)
                if each.file.session_id == inputs.session_id:
                    results.forget.append(each.file)
        if not manifest.truncated:
            self._compare_directories(manifest, inputs, results, present, room.files_left)
        await self._take_packages(jail, manifest.packages, inputs, results, present)

    async def _take_packages(
        self, jail: RemoteJail, found: protocol.PackageScan, inputs: Inputs, results: Results, present: Present
    ) -> None:
        """Keep what was installed, all of it or nothing."""
        if not found.changed:
            return
        if not found.size:
            results.forget_packages = inputs.packages is not None
            return
        limit = self._limits.packages_bytes
        if found.truncated or found.size > limit:
            why = "there are too many files" if found.truncated else f"they are larger than {limit >> 20} MiB"
            results.notes.append(f"the installed packages are not kept for later executions: {why}")
            return
        async with jail.get_packages() as (size, chunks):
            if size != found.size:
                raise SandboxFailed("the packages changed while nothing ran")
            results.packages = await self._files.store(chunks, limit)
        present.packages = results.packages.digest

    def _compare_directories(
        self, manifest: protocol.Manifest, inputs: Inputs, results: Results, present: Present, room: int
    ) -> None:
        """Note which empty directories the session has gained and lost."""
        filled: set[bytes] = set()
        names = [entry.untrusted_name for entry in manifest.entries]
        names += [name.encode() for name, each in inputs.by_name.items() if each.file.read_only]
        for name in names:
            parent = name.rpartition(b"/")[0]
            while parent and parent not in filled:
                filled.add(parent)
                parent = parent.rpartition(b"/")[0]
        there = [usable_name(name) for name in manifest.directories]
        empty = [usable_name(name) for name in manifest.directories if name not in filled]
        results.drop_directories = inputs.directories - {name for name in there if name is not None}
        fresh = sorted({name for name in empty if name is not None} - inputs.directories)
        results.add_directories = frozenset(fresh[: max(0, room)])
        present.directories = set((inputs.directories | results.add_directories) - results.drop_directories)

    async def _take(
        self,
        jail: RemoteJail,
        entry: protocol.Entry,
        inputs: Inputs,
        results: Results,
        room: Room,
        present: Present,
    ) -> None:
        """Keep one file of the workspace: as it was, as a new one, or not at all, with the reason."""
        name = usable_name(entry.untrusted_name)
        if name is None:
            reason = f"the name cannot be used: {name_fault(shown_name(entry.untrusted_name)) or 'it is not UTF-8'}"
            results.skipped.append(SkippedFile(shown_name(entry.untrusted_name), reason))
            return
        source = inputs.by_name.get(name)
        if source is not None and entry.unchanged:
            results.files += inherited(name, source)
            return
        if entry.unchanged and (name in present.digests or entry.untrusted_name in present.ignored):
            return
        present.ignored.add(entry.untrusted_name)
        fault = room.fault(entry.size)
        if fault is not None:
            results.skipped.append(SkippedFile(name, fault))
            return
        async with jail.get_file(entry.untrusted_name) as (size, chunks):
            if size != entry.size:
                raise SandboxFailed("a result file changed while nothing ran")
            blob = await self._files.store(chunks)
        present.ignored.discard(entry.untrusted_name)
        present.digests[name] = (blob.digest, entry.executable)
        if source is not None and present.digests[name] == (source.file.sha256, source.file.executable):
            results.files += inherited(name, source)
            return
        present.own.add(name)
        self._add(entry, name, blob, source, inputs, results)
        room.take(entry.size)

    def _add(
        self, entry: protocol.Entry, name: str, blob: Blob, source: Input | None, inputs: Inputs, results: Results
    ) -> None:
        file = self._files.describe(inputs.session_id, name, blob, executable=entry.executable)
        results.new.append(file)
        origin = None
        if source is not None:
            origin = source.reference or FileReference(source.file.id, source.file.session_id, name)
        results.files.append(ResultFile(file.id, file.session_id, name, file.size_bytes, modified_from=origin))

    async def keep(
        self, inputs: Inputs, results: Results, present: Present | None = None, *, fence: int | None = None
    ) -> None:
        """Put what was found into the session, all or nothing. If it cannot be, ``present`` does not count it as kept.

        Raises:
            TooLarge, NotFound: the session is full, or was deleted meanwhile.
            ExecutionLost: another worker has the session, whose lease had the number ``fence`` here.
        """
        try:
            await self._keep(inputs, results, present, fence)
        except GaolerError:
            if present is not None:
                present.forget(file.name for file in results.new)
                present.directories = set(inputs.directories)
            raise

    async def _keep(self, inputs: Inputs, results: Results, present: Present | None, fence: int | None) -> None:
        session, packages = inputs.session_id, results.packages
        stored = None if packages is None else StoredPackages(session, packages.digest, packages.size_bytes)
        change = FileChange(
            put=results.new,
            drop=[file.id for file in results.forget],
            add_directories=results.add_directories,
            drop_directories=results.drop_directories,
            packages=stored,
            drop_packages=results.forget_packages,
            # In one transaction with what it holds: a crash between the two would leave a session with nothing in it.
            make=self._files.new_session(inputs.owner, session) if inputs.is_new else None,
        )
        if change.empty:
            return
        try:
            await self._files.change(session, change, fence=fence)
        except TooLarge:
            # The sandbox will not offer them again: a session that is full of files keeps its packages.
            alone = FileChange(packages=stored, drop_packages=results.forget_packages, make=change.make)
            if not alone.empty:
                with suppress(QuotaReached):
                    await self._files.change(session, alone, fence=fence)
            raise
        except QuotaReached as error:
            # It has run, and its output is worth something: it loses what it made, and is told.
            _leave_out(results, error.message)
            if present is not None:
                present.forget(file.name for file in change.put)
            less = replace(change, put=(), add_directories=frozenset(), packages=None, make=None)
            if not (less.empty or inputs.is_new):
                await self._files.change(session, less, fence=fence)


def _leave_out(results: Results, why: str) -> None:
    """Say of everything new that it is not kept."""
    new = {file.id for file in results.new}
    results.skipped += [SkippedFile(file.name, why) for file in results.new]
    results.files = [each for each in results.files if each.id not in new]
    results.new = []
    if results.packages is not None:
        results.notes.append(f"the installed packages are not kept for later executions: {why}")
        results.packages = None


def _is_of_packages(name: str) -> bool:
    """Say whether a file lies where packages are installed: those are looked at as a whole."""
    return name.startswith((".packages/", "node_modules/"))


async def _once(data: bytes) -> AsyncIterator[bytes]:
    if data:
        yield data


def _program(request: ExecutionRequest, language: InstalledLanguage, then: protocol.Then) -> protocol.Run:
    return protocol.Run(
        arguments=language.run_arguments(request.arguments, request.main),
        environment={**language.environment, **request.environment},
        seccomp=language.language.seccomp,
        wall_seconds=language.wall_seconds(request.wall_seconds),
        stdin=request.stdin,
        then=then,
    )


def _together(compiled: protocol.Ended | None, ended: protocol.Ended) -> protocol.Ended:
    if compiled is None:
        return ended
    return msgspec.structs.replace(
        ended,
        wall_seconds=compiled.wall_seconds + ended.wall_seconds,
        cpu_seconds=compiled.cpu_seconds + ended.cpu_seconds,
    )


@contextmanager
def refusals_typed() -> Iterator[None]:
    """Turn what the jailer refuses into an error for the caller."""
    try:
        yield
    except JailRefused as error:
        if error.full:
            raise TooLarge("the input files do not fit into the workspace", field="files") from None
        if error.name is not None:
            name = shown_name(error.name)
            raise InvalidRequest(f"the input {name!r} cannot be placed: {error}", field="files") from None
        log.error("jailer refused reason=%s", ascii(str(error)))
        if error.machine:
            raise SandboxFailed(f"no sandbox of tier microvm: {error}") from None
        raise SandboxFailed("the sandbox refused the request") from None


def result_of(
    inputs: Inputs, ended: protocol.Ended, output: Collector, results: Results, runtime: Runtime | None = None
) -> ExecutionResult:
    """Put the result together."""
    return ExecutionResult(
        session_id=inputs.session_id,
        outcome=outcome_of(ended.outcome),
        stdout=output.captured("stdout"),
        stderr=output.captured("stderr"),
        usage=Usage(ended.wall_seconds, ended.cpu_seconds, ended.memory_peak_bytes),
        files=tuple(results.files),
        deleted=tuple(results.deleted),
        skipped=tuple(results.skipped),
        runtime=runtime,
        notes=tuple(results.notes),
        shown=results.shown,
        phase=output.phase,
        compiler=output.compiler,
    )


def outcome_of(outcome: protocol.RunOutcome) -> Outcome:
    """Say the jailer's word for an outcome in ours."""
    match outcome:
        case protocol.RunExited(code):
            return Exited(code)
        case protocol.RunSignalled(signal):
            return Signalled(signal)
        case protocol.RunOutOfMemory(limit_bytes):
            return OutOfMemory(limit_bytes)
        case protocol.RunTimedOut(limit_seconds):
            return TimedOut(limit_seconds)
        case protocol.RunOutputLimit(stream, limit_bytes):
            return OutputLimit(stream, limit_bytes)
        case protocol.RunInterrupted():
            return Cancelled()
        case _:
            assert_never(outcome)

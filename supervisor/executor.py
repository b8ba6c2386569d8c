"""One execution from request to result: admission, inputs, jail, program, outputs.

The way: look the inputs up, get a place, have a jail, write the inputs while it is being built, compile if the language
does, run, read back what changed, put it into the session in one transaction. Cancelling at any point destroys the
jail and stores nothing.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, assert_never

from supervisor.access import owner_of
from supervisor.admission import Admission
from supervisor.errors import InvalidRequest, SandboxFailed, TooLarge
from supervisor.execution import (
    Cancelled,
    ExecutionRequest,
    ExecutionResult,
    Exited,
    FileReference,
    Outcome,
    OutOfMemory,
    OutputLimit,
    Owner,
    ResultFile,
    SessionId,
    Signalled,
    SkippedFile,
    TimedOut,
    Usage,
    new_id,
)
from supervisor.files import Blob, FileService
from supervisor.jailer import protocol
from supervisor.jailer.client import JailerClient, JailRefused, RemoteJail
from supervisor.names import name_fault
from supervisor.policy import Policy
from supervisor.results import Collector, Input, Inputs, ResultLimits, Results, Room, inherited, shown_name, usable_name
from supervisor.runtimes.catalogue import InstalledLanguage

log: Final = logging.getLogger("gaoler.executor")


class Executor:
    """Runs requests. Everything it needs comes in."""

    def __init__(
        self,
        jailer: JailerClient,
        files: FileService,
        admission: Admission,
        policy: Policy,
        languages: Mapping[str, InstalledLanguage],
        limits: ResultLimits,
    ) -> None:
        self._jailer = jailer
        self._files = files
        self._admission = admission
        self._policy = policy
        self._languages = languages
        self._limits = limits

    async def execute(self, request: ExecutionRequest) -> ExecutionResult:
        """Run the request to its end.

        Raises:
            InvalidRequest: no such language, or an input's name cannot be used; ``field`` says where.
            NotFound: a session or an input file is not there for this caller.
            TooLarge: the inputs do not fit into the workspace.
            Busy: no place.
            SandboxFailed: our own fault; nothing was stored.
        """
        language = self._languages.get(request.language.lower())
        if language is None:
            raise InvalidRequest(f"Unsupported language: {request.language}", field="lang")
        inputs = await self._resolve(request)
        async with self._admission.place():
            try:
                async with self._jailer.open_jail(self._policy.name, language.profile) as jail:
                    return await self._in_jail(request, language, inputs, jail)
            except JailRefused as error:
                if error.full:
                    raise TooLarge("the input files do not fit into the workspace", field="files") from None
                if error.name is not None:
                    name = shown_name(error.name)
                    raise InvalidRequest(f"the input {name!r} cannot be placed: {error}", field="files") from None
                log.error("jailer refused reason=%s", ascii(str(error)))
                raise SandboxFailed("the sandbox refused the request") from None

    # -- before --

    async def _resolve(self, request: ExecutionRequest) -> Inputs:
        """Look up the session and every input; decide whose the results will be."""
        principal = request.principal
        files, owners = await self._files.find_inputs(principal, request.files) if request.files else ([], [])
        row = None
        if request.session_id is not None:
            row = await self._files.known_session(principal, request.session_id)
        by_name: dict[str, Input] = {}
        if row is not None:
            for file in await self._files.session_files(row):
                by_name[file.name] = Input(file, None)
        skipped: list[SkippedFile] = []
        named: set[str] = set()
        for reference, file in zip(request.files, files, strict=True):
            if reference.name in named:
                skipped.append(SkippedFile(reference.name, "another input has the same name"))
                continue
            named.add(reference.name)
            by_name[reference.name] = Input(file, reference)
        self._check_room(by_name)
        return Inputs(
            session_id=row.id if row else request.session_id or SessionId(new_id()),
            owner=row.owner if row else _owner(request, owners),
            is_new=row is None,
            by_name=by_name,
            skipped=tuple(skipped),
        )

    def _check_room(self, by_name: Mapping[str, Input]) -> None:
        total = sum(each.file.size_bytes for each in by_name.values())
        limit = self._policy.limits.workspace_bytes
        if total > limit:
            raise TooLarge(f"the input files have {total} bytes together, the workspace holds {limit}", field="files")

    # -- inside --

    async def _in_jail(
        self, request: ExecutionRequest, language: InstalledLanguage, inputs: Inputs, jail: RemoteJail
    ) -> ExecutionResult:
        code = request.code.encode()
        await jail.put_file(language.source_name, len(code), _once(code), area="code", read_only=True)
        for name, each in inputs.by_name.items():
            async with self._files.content(each.file) as chunks:
                await jail.put_file(name.encode(), each.file.size_bytes, chunks, read_only=each.file.read_only)
        output = Collector()
        ended = await self._run(request, language, jail, output)
        results = Results(skipped=list(inputs.skipped))
        await self._collect(jail, inputs, results)
        await self._keep(inputs, results)
        return ExecutionResult(
            session_id=inputs.session_id,
            outcome=_outcome(ended.outcome),
            stdout=output.captured("stdout"),
            stderr=output.captured("stderr"),
            usage=Usage(ended.wall_seconds, ended.cpu_seconds, ended.memory_peak_bytes),
            files=tuple(results.files),
            deleted=tuple(results.deleted),
            skipped=tuple(results.skipped),
        )

    async def _run(
        self, request: ExecutionRequest, language: InstalledLanguage, jail: RemoteJail, output: Collector
    ) -> protocol.Ended:
        """Compile, if the language does, and run; a failed compilation is the outcome."""
        wall = request.wall_seconds
        if language.profile is not None:
            script = protocol.RunScript(arguments=list(request.arguments), wall_seconds=wall, stdin=request.stdin)
            return await jail.run(script, output.take, scan=True)
        compiler = language.compile_arguments()
        compiled: protocol.Ended | None = None
        if compiler is not None:
            build = protocol.Run(arguments=compiler, environment=language.environment, wall_seconds=wall, then="sweep")
            # What a compiler says belongs to stderr only if it failed: warnings would hide the program's own output.
            said = Collector()
            compiled = await jail.run(build, said.take)
            if compiled.outcome != protocol.RunExited(code=0):
                output.heads["stderr"] = said.heads["stdout"] + said.heads["stderr"]
                output.tails["stderr"] = said.tails["stdout"] + said.tails["stderr"]
                output.omitted["stderr"] = said.omitted["stdout"] + said.omitted["stderr"]
                await jail.finish()
                return compiled
        program = protocol.Run(
            arguments=language.run_arguments(request.arguments),
            environment=language.environment,
            wall_seconds=wall,
            stdin=request.stdin,
        )
        ended = await jail.run(program, output.take, scan=True)
        if compiled is None:
            return ended
        return protocol.Ended(
            outcome=ended.outcome,
            wall_seconds=compiled.wall_seconds + ended.wall_seconds,
            cpu_seconds=compiled.cpu_seconds + ended.cpu_seconds,
            memory_peak_bytes=ended.memory_peak_bytes,
        )

    # -- after --

    async def _collect(self, jail: RemoteJail, inputs: Inputs, results: Results) -> None:
        """Go through the manifest; everything in it is untrusted."""
        manifest = await jail.scan()
        results.skipped += [SkippedFile(shown_name(skip.untrusted_name), skip.reason) for skip in manifest.skipped]
        if manifest.truncated:
            results.skipped.append(SkippedFile("", "there are more files than can be listed; the rest was not kept"))
        room = Room(self._limits, inputs)
        for entry in manifest.entries:
            await self._take(jail, entry, inputs, results, room)
        seen = {entry.untrusted_name for entry in manifest.entries}
        for name, each in inputs.by_name.items():
            if each.file.read_only:
                results.files += inherited(name, each)
            elif name.encode() not in seen and not manifest.truncated:
                results.deleted.append(name)
                if each.file.session_id == inputs.session_id:
                    results.forget.append(each.file)

    async def _take(
        self, jail: RemoteJail, entry: protocol.Entry, inputs: Inputs, results: Results, room: Room
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
        fault = room.fault(entry.size)
        if fault is not None:
            results.skipped.append(SkippedFile(name, fault))
            return
        async with jail.get_file(entry.untrusted_name) as (size, chunks):
            if size != entry.size:
                raise SandboxFailed("a result file changed while nothing ran")
            blob = await self._files.store(chunks)
        if source is not None and blob.digest == source.file.sha256:
            results.files += inherited(name, source)
            return
        self._add(name, blob, source, inputs, results)
        room.take(entry.size)

    def _add(self, name: str, blob: Blob, source: Input | None, inputs: Inputs, results: Results) -> None:
        file = self._files.describe(inputs.session_id, name, blob)
        results.new.append(file)
        origin = None
        if source is not None:
            origin = source.reference or FileReference(source.file.id, source.file.session_id, name)
        results.files.append(ResultFile(file.id, file.session_id, name, file.size_bytes, modified_from=origin))

    async def _keep(self, inputs: Inputs, results: Results) -> None:
        if inputs.is_new and results.new:
            await self._files.create_session(inputs.owner, inputs.session_id)
        if results.new:
            await self._files.keep(results.new)
        if results.forget:
            await self._files.forget(results.forget)


def _owner(request: ExecutionRequest, owners: Sequence[Owner]) -> Owner:
    """Results belong to the caller; one who named nobody works for the user whose files it brought."""
    if request.principal.user is None:
        users = {owner for owner in owners if owner.kind == "user"}
        if len(users) == 1:
            return users.pop()
    return owner_of(request.principal)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    if data:
        yield data


def _outcome(outcome: protocol.RunOutcome) -> Outcome:
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

"""``gaoler run``: one execution without a server, in the same jailer with the same policy.

The execution happens in a child that has become an ordinary user; what it reports comes back through a pipe, and the
parent, still the person who called, writes result files into the directory that was asked for, and nowhere else.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import trio

from supervisor.core import Core, Prepared
from supervisor.errors import GaolerError, InvalidRequest
from supervisor.execution.values import (
    ExecutionRequest,
    Exited,
    FileReference,
    Outcome,
    Owner,
    Principal,
    SessionId,
    Signalled,
    Tier,
)
from supervisor.execution.wording import explanation
from supervisor.jailer import kernel
from supervisor.jailer.cgroup_subtree import remove_subtree
from supervisor.jailer.packages import BadArchive, Unpacker
from supervisor.jailer.watch import Finding, Header, read_notes
from supervisor.logs.opened import configure_logging
from supervisor.own_core import open_core
from supervisor.preparation.prepare import prepare
from supervisor.runtimes.catalogue import InstalledLanguage
from supervisor.settings.tree import Settings, on_this_host_alone, quieter
from supervisor.workspace.names import check_name

_ME: Final = Principal("cli", "cli", "cli")
_OWNER: Final = Owner("cli", "user", "cli")
_DONE: Final = b"+"
_FAILED: Final = b"-"

Action = Callable[[Core, Prepared], Awaitable[bytes]]


class Report(msgspec.Struct):
    """What the child reports."""

    stdout: str = ""
    stderr: str = ""
    note: str | None = None
    status: int = 1
    files: list[tuple[str, bytes]] = []


@dataclass(frozen=True, slots=True)
class Work:
    """What to run."""

    language: str
    code: str
    arguments: tuple[str, ...]
    inputs: Sequence[tuple[str, bytes]]
    wall_seconds: float | None
    unpack_to: Path | None = None
    """A directory of the daemon's user, for what the program installs: ``.packages`` and ``node_modules``."""
    environment: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    main: str | None = None
    """Run this one of the inputs, beside the others, instead of ``code``."""
    sources: tuple[str, ...] = ()
    """Those of the inputs that are compiled with it."""
    tier: Tier | None = None
    """Asked for; ``None``: whatever applies."""
    seccomp: str | None = None
    """The profile that its program runs under instead of its language's."""


def run(settings: Settings, work: Work, output: Path | None) -> int:
    """Run ``work``, print what it prints, keep its files in ``output``; return the exit status for the shell.

    Raises:
        GaolerError: it could not be run.
    """
    report = execute(settings, work, keep=output is not None)
    sys.stdout.write(report.stdout)
    sys.stderr.write(report.stderr)
    if report.note:
        print(f"gaoler: {report.note}", file=sys.stderr)
    if output is not None:
        _write_files(report.files, output)
    return report.status


def observe(settings: Settings, work: Work) -> tuple[Report, Header, list[Finding]]:
    """Run ``work`` in logging mode: give, beside the report, what the seccomp filters would not have allowed.

    Calls that would kill are let through in this run; every other wall of the sandbox stands.

    Raises:
        GaolerError: it could not be run, or not watched.
    """
    # Whoever only waits would be noted too.
    cells = msgspec.structs.replace(settings.cells, floor=0, bare_floor=0)
    settings = msgspec.structs.replace(settings, cells=cells)
    notes = os.memfd_create("seccomp-notes", os.MFD_CLOEXEC)
    try:
        report = execute(settings, work, keep=False, watch_fd=notes)
        header, findings = read_notes(notes)
    except msgspec.DecodeError as error:
        raise GaolerError(f"what was noted cannot be read: {error}") from None
    finally:
        os.close(notes)
    if not header.started:
        raise GaolerError("the program was not watched: nothing is known of it")
    return report, header, findings


def execute(settings: Settings, work: Work, *, keep: bool, watch_fd: int | None = None) -> Report:
    """Run ``work`` with a jailer of its own, which is gone afterwards; ``keep`` brings the result files along.

    ``watch_fd``: logging mode, see :func:`observe`.

    Raises:
        GaolerError: it could not be run.
    """
    return execute_all(settings, [work], keep=keep, watch_fd=watch_fd)[0]


def execute_all(settings: Settings, works: Sequence[Work], *, keep: bool, watch_fd: int | None = None) -> list[Report]:
    """Run one after the other, each in a sandbox of its own, with one jailer.

    Raises:
        GaolerError: one could not be run.
    """
    writable = [work.unpack_to for work in works if work.unpack_to is not None]

    def adapt(prepared: Prepared) -> Prepared:
        for work in works:
            if work.seccomp is not None:
                prepared = replace(prepared, languages=_under_profile(prepared.languages, work.language, work.seccomp))
        return prepared

    async def run_all(core: Core, _prepared: Prepared) -> bytes:
        return msgspec.msgpack.encode([await _execute(core, work, keep=keep) for work in works])

    payload = attempt(settings, run_all, adapt=adapt, writable=writable, watch_fd=watch_fd)
    return msgspec.msgpack.decode(payload, type=list[Report])


def attempt(
    settings: Settings,
    action: Action,
    *,
    adapt: Callable[[Prepared], Prepared] = lambda prepared: prepared,
    writable: Sequence[Path] = (),
    watch_fd: int | None = None,
    probing: bool = False,
) -> bytes:
    """Do something with a jailer of its own, in a child that has become an ordinary user; give what it gives.

    ``writable``, ``watch_fd``, ``probing``: see :func:`supervisor.preparation.prepare.prepare`; ``adapt`` changes what
    it gave.

    Raises:
        GaolerError: it could not be done.
    """
    state = Path(tempfile.mkdtemp(prefix="gaoler-run-"))
    state.chmod(0o755)
    settings = on_this_host_alone(settings)
    settings = msgspec.structs.replace(settings, state_dir=str(state), image_dir=str(settings.image_path))
    read_end, write_end = os.pipe()
    try:
        pid = os.fork()
        if pid == 0:
            os.close(read_end)

            def make() -> Prepared:
                quiet = quieter(settings)
                return adapt(prepare(quiet, writable, watch_fd, probing=probing))

            _child(make, action, write_end, filtered=not writable)
        os.close(write_end)
        with os.fdopen(read_end, "rb") as pipe:
            payload = _awaited(pipe, pid)
    finally:
        if os.geteuid() == 0:
            remove_subtree(state)
        shutil.rmtree(state)
    if not payload:
        raise GaolerError("it could not be started")
    if payload[:1] == _FAILED:
        raise GaolerError(payload[1:].decode("utf-8", "replace"))
    return payload[1:]


def _awaited(pipe: BinaryIO, pid: int) -> bytes:
    """Give what the child reports; interrupted, end it before that goes on."""
    try:
        payload = pipe.read()
    except KeyboardInterrupt:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    os.waitpid(pid, 0)
    return payload


def _child(make: Callable[[], Prepared], action: Action, write_end: int, *, filtered: bool) -> None:
    """Never returns. What became of it goes into the pipe: a byte that says whether it is a reason, and the rest."""
    answer = b""
    # Ctrl-C is the parent's, which kills us and cleans up: the kernel takes along everything that hangs on us.
    os.setsid()
    try:
        configure_logging("WARNING")
        prepared = make()

        async def main() -> bytes:
            async with open_core(prepared) as core:
                if filtered:
                    # As the daemon; what is unpacked has links, which the filter knows nothing of.
                    kernel.install_seccomp(prepared.own_filter, all_threads=True)
                return await action(core, prepared)

        try:
            answer = _DONE + trio.run(main)
        finally:
            os.close(prepared.jailer.control_fd)
            os.waitpid(prepared.jailer.keeper_pid, 0)
    except (GaolerError, OSError, BaseExceptionGroup) as error:
        found: BaseException = error
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        answer = _FAILED + str(found).encode("utf-8", "replace")
    finally:
        with os.fdopen(write_end, "wb") as pipe:
            pipe.write(answer)
        sys.stderr.flush()
        os._exit(0)


def _under_profile(
    languages: Mapping[str, InstalledLanguage], name: str, seccomp: str
) -> Mapping[str, InstalledLanguage]:
    installed = languages.get(name)
    if installed is None:
        return languages
    language = msgspec.structs.replace(installed.language, seccomp=seccomp)
    return {**languages, name: replace(installed, language=language)}


async def _execute(core: Core, work: Work, *, keep: bool) -> Report:
    session = await core.files.create_session(_OWNER)
    references: list[FileReference] = []
    for name, content in work.inputs:
        stored = await core.files.receive(session, name, None, _once(content))
        references.append(FileReference(stored.id, session, name))
    result = await core.executor.execute(
        ExecutionRequest(
            _ME,
            work.language,
            work.code,
            work.arguments,
            tuple(references),
            wall_seconds=work.wall_seconds,
            stdin=work.stdin,
            environment=work.environment,
            main=work.main,
            sources=work.sources,
            tier=work.tier,
        )
    )
    if work.unpack_to is not None and result.outcome == Exited(0):
        await _unpack(core, result.session_id, work.unpack_to)
    report = Report(
        result.stdout.text(), result.stderr.text(), explanation(result.outcome, result.phase), _status(result.outcome)
    )
    made = [file for file in result.files if not file.inherited]
    if keep:
        for file in made:
            async with core.files.open(_ME, SessionId(file.session_id), file.id) as (stored, chunks):
                report.files.append((stored.name, b"".join([chunk async for chunk in chunks])))
    elif made:
        names = ", ".join(file.name for file in made)
        report.note = "; ".join(filter(None, [report.note, f"not kept: {names} (give --output DIR to keep files)"]))
    return report


async def _unpack(core: Core, session_id: SessionId, target: Path) -> None:
    """Put what a session has installed into a directory; as an ordinary user, for it was written by a sandbox."""
    held = await core.files.contents(await core.files.open_session(_ME, session_id))
    if held.packages is None:
        raise GaolerError("nothing was installed")
    root = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    unpacker = Unpacker(root, os.getuid())
    try:
        async with core.files.packages_content(held.packages) as chunks:
            async for chunk in chunks:
                unpacker.feed(chunk)
        unpacker.close(complete=True)
    except BadArchive as error:
        raise GaolerError(f"what was installed cannot be read: {error}") from None
    finally:
        unpacker.close()
        os.close(root)


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _status(outcome: Outcome) -> int:
    match outcome:
        case Exited(code):
            return code
        case Signalled(number):
            return 128 + number
        case _:
            return 137


def _write_files(files: Sequence[tuple[str, bytes]], output: Path) -> None:
    """Write result files; a name that passed the rules stays beneath ``output``, and no link is followed."""
    output.mkdir(parents=True, exist_ok=True)
    for name, content in files:
        target = output / check_name(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.parent.resolve().is_relative_to(output.resolve()):
            raise InvalidRequest(f"{name} would leave {output}")
        with contextlib.suppress(FileNotFoundError):
            target.unlink()
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
        print(f"gaoler: kept {target}", file=sys.stderr)

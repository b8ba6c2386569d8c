"""The conversation on one channel: requests about one jail, one after the other, in the order fill → run → look."""

from __future__ import annotations

import errno
import fcntl
import os
from collections import deque
from contextlib import nullcontext
from typing import Final

import msgspec
import trio

from supervisor.jailer import packages, protocol
from supervisor.jailer.cells import Workload
from supervisor.jailer.channels import WRITE_SECONDS, Channel, ChannelClosed
from supervisor.jailer.enclosure import JailError
from supervisor.jailer.interpreters import InterpreterBroken, SaveAnswer, save_decoder
from supervisor.jailer.jail import Jail
from supervisor.jailer.packages import BadArchive
from supervisor.jailer.program_run import Run
from supervisor.jailer.workspace import BadName, WorkspaceFull

MAX_UNSAVED_CHARACTERS: Final = 32_768
MAX_AHEAD: Final = 64
"""Questions behind a run that has not ended; the daemon asks one."""
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class ConversationError(Exception):
    """The peer broke a rule of the conversation about one jail. Frames are in step: no other channel is concerned."""


class Conversation:
    """Serves one jail to one peer."""

    def __init__(self, channel: Channel, jail: Jail, work: Workload) -> None:
        self._channel = channel
        self._jail = jail
        self._work = work
        self._refused: str | None = None
        """Why the next run is refused: an input is missing."""
        self._nothing_ran = False
        """The last run was refused, and so is the look at what it left that may have been sent ahead."""
        self._ahead: deque[protocol.Request] = deque()
        """Questions that came while something ran."""
        self._turn = trio.Lock()
        """What a program says comes between no message and its data."""

    async def run(self) -> None:
        """Answer until the channel closes.

        Raises:
            ChannelClosed: the peer is gone.
            ProtocolError: it breaks a rule.
            JailError: the jail is lost.
        """
        while True:
            await self._answer(self._ahead.popleft() if self._ahead else await self._next())

    async def _next(self) -> protocol.Request:
        """Wait for a request; a session that is paused meanwhile is no work for the machine."""
        resting = self._jail.inside.paused or self._jail.background
        with self._work.absent() if resting else nullcontext():
            return decode(await self._channel.receive_message())

    async def _answer(self, request: protocol.Request) -> None:
        match request:
            case protocol.ToolResults():
                # The program has ended while they were on their way.
                async for _ in self._channel.receive_data(request.size):
                    pass
            case protocol.Run() | protocol.RunScript() | protocol.RunCell():
                await self._run(request)
            case protocol.Save():
                await self._save(request)
            case protocol.Restore():
                await self._restore(request)
            case (
                protocol.Background()
                | protocol.WriteStdin()
                | protocol.SignalSession()
                | protocol.Spare()
                | protocol.GetPools()
            ):
                raise ConversationError(f"channel {self._channel.number}: {type(request).__name__} on a jail's channel")
            case protocol.PutFile() | protocol.PutPackages() | protocol.RemoveFile() | protocol.MakeDirectory():
                await self._fill(request)
            case protocol.Scan() | protocol.GetFile() | protocol.GetPackages() | protocol.GetDisplay():
                await self._look(request)
            case _:
                await self._answer_small(request)

    async def _fill(self, request: protocol.Filling) -> None:
        self._require_idle(type(request).__name__)
        match request:
            case protocol.PutFile():
                await self._put(request)
            case protocol.PutPackages():
                await self._put_packages(request)
            case _:
                await self._rearrange(request)

    async def _look(self, request: protocol.Looking) -> None:
        match request:
            case protocol.Scan():
                await self._scan()
            case protocol.GetFile():
                await self._get(request)
            case protocol.GetPackages():
                await self._get_packages()
            case protocol.GetDisplay():
                await self._get_display()

    async def _answer_small(self, request: protocol.Small) -> None:
        match request:
            case protocol.Weigh():
                self._jail.weigh(request.share)
            case protocol.Connect():
                await self._connect(request)
            case protocol.Interrupt():
                pass  # what it was meant for has just ended
            case protocol.Pause():
                self._nothing_ran = False
                await self._jail.inside.pause()
            case protocol.Resume():
                self._refused = None
                self._jail.inside.resume()
                # It has no answer that would take along what was held back for one.
                await self._channel.flush()
            case protocol.Finish():
                await self._jail.finish()
                await send(self._channel, protocol.Finished())
            case protocol.OpenJail():
                raise ConversationError(f"channel {self._channel.number}: a second OpenJail")

    async def _connect(self, request: protocol.Connect) -> None:
        if self._jail.policy.network != "egress":
            raise ConversationError(f"channel {self._channel.number}: the policy has no network")
        await self._jail.connect(request.grant, request.ports)

    # -- running --

    async def _run(self, request: protocol.Run | protocol.RunScript | protocol.RunCell) -> None:
        if self._jail.dead:
            raise ConversationError(f"channel {self._channel.number}: a run in a dead jail")
        if self._refused is not None:
            await send(self._channel, protocol.Refused(reason=self._refused))
            self._refused, self._nothing_ran = None, True
            return
        if isinstance(request, protocol.Run) and request.seccomp not in self._jail.seccomp_profiles:
            await send(self._channel, protocol.Refused(reason=f"no seccomp profile named {request.seccomp!r}"))
            self._nothing_ran = True
            return
        self._nothing_ran = False
        self._jail.used = True
        run, ended = await self._to_its_end(request)
        if run.unheard and not run.interrupted and not self._jail.dead:
            # Its interpreter was being killed. The next one is made for it.
            _, ended = await self._to_its_end(request)
        await send(self._channel, ended, hold=bool(self._ahead))

    async def _to_its_end(
        self, request: protocol.Run | protocol.RunScript | protocol.RunCell
    ) -> tuple[Run, protocol.Ended]:
        run = await self._jail.run(request, self._emit, self._emit_calls)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, run)
            ended = await run.to_its_end()
            nursery.cancel_scope.cancel()
        return run, ended

    async def _listen(self, run: Run) -> None:
        """While something runs: hear an interrupt; keep what was sent ahead for later."""
        while True:
            request = decode(await self._channel.receive_message())
            if isinstance(request, protocol.Interrupt):
                run.interrupt()
            elif isinstance(request, protocol.Connect):
                await self._connect(request)
            elif isinstance(request, protocol.ToolResults):
                await run.take_results(self._channel.receive_data(request.size))
            else:
                self._ahead.append(request)
                if len(self._ahead) > MAX_AHEAD:
                    raise ConversationError(f"channel {self._channel.number}: too much behind a run")
                if isinstance(request, protocol.Filling | protocol.Restore):
                    raise ConversationError(f"channel {self._channel.number}: data behind a run that has not ended")

    async def _emit(self, output: protocol.Output) -> None:
        async with self._turn:
            await send(self._channel, output)

    async def _emit_calls(self, line: bytes) -> None:
        async with self._turn:
            try:
                # Nor does its end: half of it would be a breach of the protocol.
                with trio.CancelScope(shield=True), trio.fail_after(WRITE_SECONDS):
                    await send(self._channel, protocol.ToolCalls(size=len(line)), hold=True)
                    await self._channel.send_data(line)
            except trio.TooSlowError:
                raise ChannelClosed from None

    # -- the namespace --

    async def _save(self, request: protocol.Save) -> None:
        """The interpreter writes into a file that is sealed before a byte of it is believed."""
        interpreter = self._jail.inside.interpreter
        if interpreter is None or self._jail.dead:
            await send(self._channel, protocol.Refused(reason="there is no interpreter"))
            return
        state = os.memfd_create("state", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            self._jail.inside.resume()
            try:
                await interpreter.send({"do": "save", "limit_bytes": request.limit_bytes}, [state])
                answer = await interpreter.answer(save_decoder)
                # A process that still maps the file writable makes sealing fail: then it is not to be had.
                fcntl.fcntl(state, fcntl.F_ADD_SEALS, _SEALS)
            except (InterpreterBroken, OSError) as error:
                answer = SaveAnswer(id=0, error=str(error)[:1000])
            finally:
                await self._jail.inside.pause()
            size = os.fstat(state).st_size
            if answer.error is None and size > request.limit_bytes:
                answer = SaveAnswer(id=0, error="the state is larger than may be kept")
            if answer.error is not None:
                await send(self._channel, protocol.Refused(reason=answer.error))
                return
            saved = protocol.Saved(size=size, names=answer.names, untrusted_unsaved=_fitting(answer.unsaved))
            await send(self._channel, saved)
            await self._send_content(state, size)
        finally:
            os.close(state)

    async def _restore(self, request: protocol.Restore) -> None:
        self._require_idle("Restore")
        state = os.memfd_create("state", os.MFD_CLOEXEC)
        try:
            async for piece in self._channel.receive_data(request.size):
                _write_all(state, piece)
            await self._jail.wait_built()
            self._jail.inside.resume()
            try:
                interpreter = await self._jail.inside.have_interpreter()
                await interpreter.send({"do": "restore"}, [state])
                answer = await interpreter.answer(save_decoder)
            except InterpreterBroken as error:
                await self._jail.inside.lose_interpreter()
                answer = SaveAnswer(id=0, error=str(error)[:1000])
            finally:
                await self._jail.inside.pause()
        finally:
            os.close(state)
        if answer.error is not None:
            await send(self._channel, protocol.Refused(reason=answer.error))
        else:
            await send(self._channel, protocol.Restored(names=answer.names))

    # -- files --

    async def _put(self, request: protocol.PutFile) -> None:
        pieces = self._channel.receive_data(request.size)
        answer: protocol.Stored | protocol.Refused = protocol.Stored()
        try:
            with self._jail.workspace.writing(
                request.area, request.name, read_only=request.read_only, executable=request.executable
            ) as fd:
                async for piece in pieces:
                    _write_all(fd, piece)
        except WorkspaceFull:
            answer = protocol.Refused(reason="the workspace is full", full=True)
        except BadName as error:
            answer = protocol.Refused(reason=str(error))
        if isinstance(answer, protocol.Refused):
            self._refused = "an input was refused"
        # After a refusal the rest of the announced bytes is still on its way.
        async for _ in pieces:
            pass
        await send(self._channel, answer, hold=self._channel.pending)

    async def _put_packages(self, request: protocol.PutPackages) -> None:
        pieces = self._channel.receive_data(request.size)
        answer: protocol.Stored | protocol.Refused = protocol.Stored()
        workspace = self._jail.workspace
        with workspace.root() as root:
            unpacker = workspace.unpacker(root)
            try:
                async for piece in pieces:
                    await trio.to_thread.run_sync(unpacker.feed, piece)
                unpacker.close(complete=True)
                await trio.to_thread.run_sync(workspace.remember_packages)
            except (BadArchive, OSError) as error:
                full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
                answer = protocol.Refused(reason=f"the packages cannot be put back: {error}"[:1000], full=full)
            finally:
                unpacker.close()
        if isinstance(answer, protocol.Refused):
            self._refused = "the packages were refused"
        async for _ in pieces:
            pass
        await send(self._channel, answer, hold=self._channel.pending)

    async def _get_packages(self) -> None:
        self._require_quiet("GetPackages")
        listing = self._jail.workspace.packages
        if listing is None:
            raise ConversationError(f"channel {self._channel.number}: GetPackages without a scan")
        await send(self._channel, protocol.FileContent(size=listing.size))
        with self._jail.workspace.root() as root:
            archive = packages.pack(root, listing)
            while piece := await trio.to_thread.run_sync(next, archive, b""):
                for start in range(0, len(piece), 65_536):
                    await self._channel.send_data(piece[start : start + 65_536])

    async def _rearrange(self, request: protocol.RemoveFile | protocol.MakeDirectory) -> None:
        answer: protocol.Stored | protocol.Refused = protocol.Stored()
        try:
            if isinstance(request, protocol.RemoveFile):
                self._jail.workspace.remove(request.name)
            else:
                self._jail.workspace.make_directory(request.name)
        except WorkspaceFull:
            answer = protocol.Refused(reason="the workspace is full", full=True)
        except BadName as error:
            answer = protocol.Refused(reason=str(error))
        if isinstance(answer, protocol.Refused):
            self._refused = "an input was refused"
        await send(self._channel, answer, hold=self._channel.pending)

    async def _scan(self) -> None:
        # The client has been told of a refusal, and looks instead of running.
        self._refused = None
        if self._nothing_ran:
            self._nothing_ran = False
            await send(self._channel, protocol.Refused(reason="nothing ran"))
            return
        self._require_quiet("Scan")
        workspace = self._jail.workspace
        manifest = workspace.scan() if workspace.small else await trio.to_thread.run_sync(workspace.scan)
        await send(self._channel, manifest)

    async def _get(self, request: protocol.GetFile) -> None:
        self._require_quiet("GetFile")
        try:
            fd, size = self._jail.workspace.open_file(request.name)
        except BadName as error:
            await send(self._channel, protocol.Refused(reason=str(error)))
            return
        try:
            await send(self._channel, protocol.FileContent(size=size))
            await self._send_content(fd, size)
        finally:
            os.close(fd)

    async def _get_display(self) -> None:
        self._require_quiet("GetDisplay")
        display = self._jail.display
        size = min(display.limit_bytes, os.fstat(display.fd).st_size) if display is not None else 0
        await send(self._channel, protocol.FileContent(size=size))
        if display is not None:
            await self._send_content(display.fd, size)

    async def _send_content(self, fd: int, size: int) -> None:
        position = 0
        while position < size:
            data = os.pread(fd, min(size - position, 65_536), position)
            if not data:
                raise JailError("a file shrank while nothing ran")
            position += len(data)
            await self._channel.send_data(data)

    def _require_quiet(self, what: str) -> None:
        if not self._jail.quiet:
            raise ConversationError(f"channel {self._channel.number}: {what} while the jail is not quiet")

    def _require_idle(self, what: str) -> None:
        """Before the first run nothing but a waiting interpreter is in the jail; after one it has to be stopped."""
        if self._jail.used and not self._jail.quiet:
            raise ConversationError(f"channel {self._channel.number}: {what} while the jail is not quiet")


def _fitting(unsaved: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Give so many as a frame holds."""
    found, room = [], MAX_UNSAVED_CHARACTERS
    for name, why in unsaved:
        room -= len(name) + len(why)
        if room < 0:
            break
        found.append((name, why))
    return found


def decode(payload: bytes) -> protocol.Request:
    """Decode a request.

    Raises:
        ConversationError: it is none.
    """
    try:
        return protocol.decode_request(payload)
    except msgspec.DecodeError as error:
        raise ConversationError(f"undecodable message: {error}") from None


async def send(channel: Channel, message: protocol.Message, *, hold: bool = False) -> None:
    """Send an answer; ``hold``: the next one is about to follow."""
    await channel.send_message(protocol.encode(message), hold=hold)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]

"""The daemon's side of the jailer protocol: jails as ``async with`` blocks.

What comes back is checked here for type and order; names and contents of files stay ``untrusted_*``.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec
import trio

from supervisor.errors import GaolerError, SandboxFailed
from supervisor.jailer import protocol
from supervisor.jailer.channels import (
    MAX_PAYLOAD_BYTES,
    Channel,
    ChannelClosed,
    Connection,
    ProtocolError,
    open_connection,
)
from supervisor.jailer.remote_program import LostIsTyped, RemoteProgram

log: Final = logging.getLogger("gaoler.jailer.client")

RECONNECT_SECONDS: Final = 0.2
NOBODYS: Final = "nobody-s"
"""A policy that there is not: whoever asks for it is answered, and gets nothing."""
CONNECT_SECONDS: Final = 30
FIGURES_SECONDS: Final = 2

_M = TypeVar("_M", bound=protocol.Message)
OnCalls = Callable[[bytes], Awaitable[bytes]]
OnOutput = Callable[[protocol.Output], Awaitable[None]]


class JailRefused(Exception):
    """The jailer said no; ``full``: the workspace has no room; ``name``: the file that was refused."""

    def __init__(self, reason: str, *, full: bool, name: bytes | None = None) -> None:
        super().__init__(reason)
        self.full = full
        self.name = name
        self.machine = False
        """It was a virtual machine that could not be had."""


class RemoteJail:
    """A jail on the other side. Use :meth:`JailerClient.open_jail`. Calls are made one after the other.

    What has only to be acknowledged is not waited for at once: the acknowledgement is looked at before the next real
    answer. So filling a workspace and running costs one round trip, and a refused file comes out at the run.
    """

    def __init__(self, channel: Channel, tier: Literal["nsjail", "microvm"] = "nsjail") -> None:
        self._channel = channel
        self._tier = tier
        self._owed: deque[tuple[type[protocol.Message], bytes | None]] = deque()
        self._refused_names: list[bytes] = []
        self._scan_asked = False
        self._connect_due: protocol.Connect | None = None
        self._running = False
        """Nothing but small messages may be on its way to the jailer."""

    @property
    def lost(self) -> bool:
        """The jail is gone, with its jailer or by a fault."""
        return self._channel.peer_gone.is_set()

    async def put_file(
        self,
        name: bytes,
        size: int,
        content: AsyncIterator[bytes],
        *,
        area: protocol.Area = "workspace",
        read_only: bool = False,
        executable: bool = False,
    ) -> None:
        """Write a file of exactly ``size`` bytes.

        Raises:
            JailRefused: (here, or at the next call) the name is not usable or there is no room.
            SandboxFailed: the jail was lost.
        """
        with LostIsTyped():
            request = protocol.PutFile(area=area, name=name, size=size, read_only=read_only, executable=executable)
            await self._ask(request, protocol.Stored, name)
            async for piece in content:
                await self._send_data(piece)

    async def put_packages(self, size: int, content: AsyncIterator[bytes]) -> None:
        """Put back what :meth:`get_packages` gave.

        Raises:
            JailRefused, SandboxFailed: as :meth:`put_file`.
        """
        with LostIsTyped():
            await self._ask(protocol.PutPackages(size=size), protocol.Stored)
            async for piece in content:
                await self._send_data(piece)

    async def remove_file(self, name: bytes) -> None:
        """Remove a file, or an empty directory; what is not there is no error.

        Raises:
            JailRefused, SandboxFailed: as :meth:`put_file`.
        """
        with LostIsTyped():
            await self._ask(protocol.RemoveFile(name=name), protocol.Stored, name)

    async def make_directory(self, name: bytes) -> None:
        """Make a directory unless it is there.

        Raises:
            JailRefused, SandboxFailed: as :meth:`put_file`.
        """
        with LostIsTyped():
            await self._ask(protocol.MakeDirectory(name=name), protocol.Stored, name)

    async def pause(self) -> None:
        """Stop everything in the jail, for what is asked next.

        Raises:
            SandboxFailed: the jail was lost.
        """
        with LostIsTyped():
            await self.send(protocol.Pause(), hold=True)

    async def resume(self) -> None:
        """Let what lives in the jail go on.

        Raises:
            SandboxFailed: the jail was lost.
        """
        with LostIsTyped():
            # Sent before the acknowledgements are waited for: what they are for may be held back until now.
            await self._connect()
            await self.send(protocol.Resume())
            await self._settle()

    @asynccontextmanager
    async def open_background(
        self, arguments: Sequence[str], environment: Mapping[str, str], seccomp: str
    ) -> AsyncIterator[RemoteProgram]:
        """Have a program run beside the others for the block; at its end it is killed with all of its session.

        ``seccomp`` names the profile of its language.

        Raises:
            JailRefused: it cannot be started.
            SandboxFailed: the jail was lost.
        """
        await self.resume()
        with LostIsTyped():
            channel = await self._channel.connection.open_channel()
        try:
            with LostIsTyped():
                request = protocol.Background(
                    jail=self._channel.number,
                    arguments=list(arguments),
                    environment=dict(environment),
                    seccomp=seccomp,
                )
                await RemoteJail(channel).send(request)
                answer = protocol.decode_answer(await channel.receive_message())
                if isinstance(answer, protocol.Refused):
                    raise JailRefused(answer.reason, full=answer.full)
                if not isinstance(answer, protocol.Started):
                    raise ProtocolError(f"{type(answer).__name__} where Started was due")
            yield RemoteProgram(channel)
        finally:
            await channel.aclose()

    async def run(
        self,
        request: protocol.Run | protocol.RunScript | protocol.RunCell,
        on_output: OnOutput,
        *,
        scan: bool = False,
        on_calls: OnCalls | None = None,
    ) -> protocol.Ended:
        """Run to the end; ``on_output`` is called with each piece as it comes. ``scan``: ask ahead for the manifest.

        ``on_calls`` is called with each line with which the program asks for tools, and gives the line that answers it.

        Raises:
            JailRefused: an input was refused, so nothing ran.
            SandboxFailed: the jail was lost.
        """
        with LostIsTyped():
            await self._connect()
            await self.send(request, hold=scan)
            if scan:
                await self.send(protocol.Scan())
                self._scan_asked = True
            self._running = True
            try:
                # What became due while that was sent would else wait for the next run.
                await self._connect()
                return await self._until_ended(on_output, on_calls, scan=scan)
            finally:
                self._running = False

    async def _until_ended(self, on_output: OnOutput, on_calls: OnCalls | None, *, scan: bool) -> protocol.Ended:
        try:
            await self._settle()
        except JailRefused:
            await self._drop_answers(2 if scan else 1)
            raise
        while True:
            try:
                answer = await self._receive()
            except JailRefused:
                await self._drop_answers(1 if scan else 0)
                raise
            if isinstance(answer, protocol.Output):
                await on_output(answer)
            elif isinstance(answer, protocol.ToolCalls) and on_calls is not None:
                line = b"".join([piece async for piece in self._channel.receive_data(answer.size)])
                results = await on_calls(line)
                self._running = False
                await self.send(protocol.ToolResults(size=len(results)), hold=True)
                await self._channel.send_data(results)
                self._running = True
                await self._connect()
            elif isinstance(answer, protocol.Ended):
                return answer
            else:
                raise ProtocolError(f"{type(answer).__name__} while a program runs")

    def take_refused_names(self) -> list[bytes]:
        """Give the files that were refused since the last time: they are not there."""
        names, self._refused_names = self._refused_names, []
        return names

    async def weigh(self, share: float) -> None:
        """Set the jail's part of the CPU when others want it too, for what is asked next.

        Raises:
            SandboxFailed: the jail was lost.
        """
        with LostIsTyped():
            await self.send(protocol.Weigh(share=share), hold=True)

    async def connect(self, grant: str, ports: Sequence[int]) -> None:
        """Give the jail's network to the egress proxy: with the next run, or at once if another task waits in one.

        Raises:
            SandboxFailed: the jail was lost.
        """
        self._connect_due = protocol.Connect(grant=grant, ports=list(ports))
        if self._running:
            with LostIsTyped():
                await self._connect()

    async def _connect(self) -> None:
        """Send what is due, where no data can be on its way."""
        if self._connect_due is not None:
            due, self._connect_due = self._connect_due, None
            await self.send(due, hold=not self._running)

    async def interrupt(self) -> None:
        """While another task waits in :meth:`run`: have the program interrupted.

        Raises:
            SandboxFailed: the jail was lost.
        """
        with LostIsTyped():
            await self.send(protocol.Interrupt())

    async def finish(self) -> None:
        """Kill everything in the jail; its files can be looked at then.

        Raises:
            SandboxFailed: the jail was lost.
        """
        with LostIsTyped():
            await self.send(protocol.Finish())
            await self.expect(protocol.Finished)

    async def scan(self) -> protocol.Manifest:
        """List what the last run left.

        Raises:
            SandboxFailed: the jail was lost.
        """
        with LostIsTyped():
            if not self._scan_asked:
                await self.send(protocol.Scan())
            self._scan_asked = False
            return await self.expect(protocol.Manifest)

    async def display(self, limit_bytes: int) -> bytes:
        """Give what the last run has shown: lines of JSON, untrusted.

        Raises:
            SandboxFailed: the jail was lost.
        """
        with LostIsTyped():
            await self.send(protocol.GetDisplay())
            header = await self.expect(protocol.FileContent)
            if header.size > limit_bytes:
                raise ProtocolError("more was shown than may be")
            return b"".join([piece async for piece in self._channel.receive_data(header.size)])

    def get_file(self, untrusted_name: bytes) -> AbstractAsyncContextManager[tuple[int, AsyncIterator[bytes]]]:
        """Read a file: its size and its content, which has to be read to the end.

        Raises:
            JailRefused: there is no such regular file.
            SandboxFailed: the jail was lost.
        """
        return self._get(protocol.GetFile(name=untrusted_name))

    def get_packages(self) -> AbstractAsyncContextManager[tuple[int, AsyncIterator[bytes]]]:
        """Read the package directories as they were at the last scan: size and content, to be read to the end.

        Raises:
            SandboxFailed: the jail was lost.
        """
        return self._get(protocol.GetPackages())

    @asynccontextmanager
    async def _get(
        self, request: protocol.GetFile | protocol.GetPackages
    ) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        with LostIsTyped():
            await self.send(request)
            header = await self.expect(protocol.FileContent)
            left = header.size

            async def content() -> AsyncGenerator[bytes, None]:
                nonlocal left
                async for piece in self._channel.receive_data(header.size):
                    left -= len(piece)
                    yield piece

            try:
                async with aclosing(content()) as chunks:
                    yield header.size, chunks
            except GaolerError:
                # The block gave up; what is on its way has to be out of it before the next answer.
                async for _ in self._channel.receive_data(left):
                    pass
                raise

    @asynccontextmanager
    async def save(self, limit_bytes: int) -> AsyncIterator[tuple[protocol.Saved, AsyncIterator[bytes]]]:
        """Have the namespace written down: what is said about it, and its bytes, which have to be read to the end.

        Raises:
            JailRefused: there is no interpreter, or it cannot.
            SandboxFailed: the jail was lost.
        """
        with LostIsTyped():
            await self.send(protocol.Save(limit_bytes=limit_bytes))
            header = await self.expect(protocol.Saved)
            if header.size > limit_bytes:
                raise ProtocolError("a state larger than was asked for")
            async with aclosing(self._channel.receive_data(header.size)) as content:
                yield header, content

    async def restore(self, size: int, content: AsyncIterator[bytes]) -> protocol.Restored:
        """Give the interpreter a saved namespace of exactly ``size`` bytes.

        Raises:
            JailRefused: it could not be read back.
            SandboxFailed: the jail was lost.
        """
        with LostIsTyped():
            await self.send(protocol.Restore(size=size))
            async for piece in content:
                await self._channel.send_data(piece)
            return await self.expect(protocol.Restored)

    async def send(self, message: protocol.Message, *, hold: bool = False) -> None:
        """Send a message, for the conversation's own code.

        Raises:
            JailRefused: it is larger than a message may be, or breaks a rule; it was not sent.
        """
        payload = protocol.encode(message)
        if isinstance(message, protocol.Run | protocol.RunScript | protocol.RunCell | protocol.Background):
            # Encoding checks no bounds, and the other side would end the conversation.
            try:
                protocol.decode_request(payload)
            except msgspec.DecodeError as error:
                raise JailRefused(f"the request cannot be: {error}", full=False) from None
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise JailRefused(f"a request has at most {MAX_PAYLOAD_BYTES} bytes", full=False)
        try:
            await self._channel.send_message(payload, hold=hold)
        except ChannelClosed:
            await self._settle()
            raise

    async def _send_data(self, data: bytes) -> None:
        """Send a piece of what was announced; a jail that is refused meanwhile closes its channel, and has said why."""
        try:
            await self._channel.send_data(data, hold=True)
        except ChannelClosed:
            await self._settle()
            raise

    async def _ask(self, message: protocol.Message, due: type[protocol.Message], name: bytes | None = None) -> None:
        await self.send(message, hold=True)
        self._owed.append((due, name))

    async def _drop_answers(self, more: int) -> None:
        """After a refusal: take the other acknowledgements and so many refusals of what was sent ahead."""
        self._scan_asked = False
        names = [name for _kind, name in self._owed] + [None] * more
        self._owed.clear()
        for name in names:
            try:
                answer = await self._receive(name)
            except JailRefused:
                continue
            except ChannelClosed:
                return  # a jail that was refused answers nothing else
            if isinstance(answer, protocol.FileContent | protocol.Saved):
                async for _ in self._channel.receive_data(answer.size):
                    pass

    async def _settle(self) -> None:
        """Look at the acknowledgements that are due."""
        while self._owed:
            kind, name = self._owed.popleft()
            try:
                answer = await self._receive(name)
            except JailRefused as error:
                error.machine = kind is protocol.Opened and self._tier == "microvm"
                raise
            if not isinstance(answer, kind):
                raise ProtocolError(f"{type(answer).__name__} where {kind.__name__} was due")

    async def _receive(self, name: bytes | None = None) -> protocol.Answer:
        answer = protocol.decode_answer(await self._channel.receive_message())
        if isinstance(answer, protocol.Refused):
            if name is not None:
                self._refused_names.append(name)
            raise JailRefused(answer.reason, full=answer.full, name=name)
        if isinstance(answer, protocol.Fault):
            log.error("jail lost reason=%s", ascii(answer.reason))
            raise SandboxFailed("the sandbox was lost")
        return answer

    async def expect(self, kind: type[_M]) -> _M:
        """Wait for an answer of this kind, for the conversation's own code."""
        try:
            await self._settle()
        except JailRefused:
            await self._drop_answers(1)
            raise
        answer = await self._receive()
        if not isinstance(answer, kind):
            raise ProtocolError(f"{type(answer).__name__} where {kind.__name__} was due")
        return answer


@asynccontextmanager
async def open_jail_on(channel: Channel, request: protocol.OpenJail) -> AsyncIterator[RemoteJail]:
    """Have a jail on a new channel for the block; see :meth:`JailerClient.open_jail`."""
    jail = RemoteJail(channel, request.tier)
    try:
        with LostIsTyped():
            await jail._ask(request, protocol.Opened)  # noqa: SLF001
        yield jail
    finally:
        await channel.aclose()


@asynccontextmanager
async def _figures_channel(connection: Connection) -> AsyncIterator[Channel]:
    """Have a channel on which figures were asked for.

    Raises:
        SandboxFailed: the jailer is gone.
    """
    with LostIsTyped():
        channel = await connection.open_channel()
        try:
            await channel.send_message(protocol.encode(protocol.GetPools()))
            yield channel
        finally:
            await channel.aclose()


class JailerClient:
    """A connection to the jailer, made anew when it is lost. Use :func:`open_jailer`."""

    def __init__(self, socket_path: Path) -> None:
        self._path = socket_path
        self._connection: Connection | None = None
        self._connected = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep a connection until cancelled; ready when the first one stands."""
        started = False
        while True:
            try:
                stream = await trio.open_unix_socket(str(self._path))
            except OSError as error:
                log.warning("no jailer yet: %s", error)
            else:
                try:
                    async with open_connection(stream, accepts=False) as connection:
                        self._connection = connection
                        self._connected.set()
                        if not started:
                            started = True
                            task_status.started()
                        await connection.ended.wait()
                except* ProtocolError as group:
                    log.error("the jailer breaks the protocol: %s", group.exceptions[0])
                finally:
                    self._connection = None
                    self._connected = trio.Event()
                log.warning("connection to the jailer lost")
            await trio.sleep(RECONNECT_SECONDS)

    @property
    def connected(self) -> bool:
        """There is a jailer."""
        return self._connection is not None

    @asynccontextmanager
    async def open_jail(
        self,
        policy: str,
        profile: str | None = None,
        *,
        share: float = 1.0,
        modest: bool = False,
        tier: Literal["nsjail", "microvm"] = "nsjail",
    ) -> AsyncIterator[RemoteJail]:
        """Have a jail for the block. Leaving the block, also by cancellation, destroys it; that is not waited for.

        With a ``profile`` it has an interpreter that waits. ``share``, ``modest``, ``tier``: see
        :class:`protocol.OpenJail`.

        Raises:
            SandboxFailed: there is no jailer, or it was lost.
            JailRefused: (at the first answer) the jailer knows no such policy, has no place, or cannot give the tier.
        """
        opening = protocol.OpenJail(policy=policy, profile=profile, share=share, modest=modest, tier=tier)
        async with open_jail_on(await self._open_channel(), opening) as jail:
            yield jail

    async def look(self) -> None:
        """Have the jailer answer a question of no consequence: it lives, and its event loop goes round.

        Raises:
            SandboxFailed: there is no jailer, or it was lost.
        """
        channel = await self._open_channel()
        try:
            with LostIsTyped():
                await channel.send_message(protocol.encode(protocol.OpenJail(policy=NOBODYS)))
                protocol.decode_answer(await channel.receive_message())
        finally:
            await channel.aclose()

    async def keep_spare(self) -> None:
        """Have the jailer, and every later one, keep no cell waiting until cancelled."""
        while True:
            try:
                channel = await self._open_channel()
                try:
                    with LostIsTyped():
                        await channel.send_message(protocol.encode(protocol.Spare()))
                        await channel.peer_gone.wait()
                finally:
                    await channel.aclose()
            except SandboxFailed:
                pass  # whoever wants a jail tells of it
            await trio.sleep(RECONNECT_SECONDS)

    async def pools(self) -> protocol.Pools | None:
        """Ask how the pools of cells stand; ``None``: no jailer answers within :data:`FIGURES_SECONDS`."""
        if self._connection is None:
            return None
        with trio.move_on_after(FIGURES_SECONDS):
            try:
                async with _figures_channel(self._connection) as channel:
                    answer = protocol.decode_answer(await channel.receive_message())
                    return answer if isinstance(answer, protocol.Pools) else None
            except (SandboxFailed, msgspec.DecodeError):
                return None
        return None

    async def _open_channel(self) -> Channel:
        with trio.move_on_after(CONNECT_SECONDS):
            await self._connected.wait()
        if self._connection is None:
            raise SandboxFailed("there is no jailer")
        with LostIsTyped():
            return await self._connection.open_channel()


@asynccontextmanager
async def open_jailer(socket_path: Path) -> AsyncIterator[JailerClient]:
    """Connect to the jailer for the block."""
    client = JailerClient(socket_path)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(CONNECT_SECONDS):
            await nursery.start(client.run)
        yield client
        nursery.cancel_scope.cancel()

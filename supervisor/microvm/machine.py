"""One virtual machine on the host: its jail, its helper process, the way to the jailer inside, and its end.

The helper (:mod:`supervisor.microvm.vmm`) becomes the virtual machine inside a jail of its own, made by nsjail like any
other: a mount namespace with what a VM needs, an empty network, a uid of its own, a seccomp policy, a cgroup. Success
is only what comes over the port: an exit status can be forged inside, and is 0 after some crashes.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from contextlib import ExitStack
from typing import Final, NoReturn

import trio

from supervisor.jailer.cells import first
from supervisor.jailer.cgroup import Leaf, open_leaf
from supervisor.jailer.channels import ChannelClosed, Connection, ProtocolError, open_connection
from supervisor.jailer.enclosure import Enclosure, JailError
from supervisor.jailer.jail import LEAF_PREFIX, Yard
from supervisor.jailer.jail_network import JailNetwork
from supervisor.jailer.join import JoinSpec
from supervisor.jailer.launcher import LaunchError, Process, ZygoteDied
from supervisor.jailer.nsjail_config import INSIDE_ID, Mask, SandboxSpec, rlimits
from supervisor.microvm import places, protocol
from supervisor.microvm.guard import GuestFault, Patience
from supervisor.microvm.log_ring import LogRing
from supervisor.microvm.machine_plan import MachinePlan, machine_program
from supervisor.microvm.orders import ask
from supervisor.microvm.outward import serve_outward
from supervisor.microvm.phases import Phases
from supervisor.microvm.vmm import describe_end

log: Final = logging.getLogger("gaoler.microvm")

READ_BYTES: Final = 16 << 10
READ_SECONDS: Final = 0.005
"""After each piece of a log: who prints without end takes no more than some of our time until he is stopped."""
FRAMES_PER_SECOND: Final = 2000.0
"""From one guest: 125 MiB of a file, or far more words than an honest one has."""
LAST_WORDS_SECONDS: Final = 1.0
SHOWN_LINES: Final = 12


class Machine:
    """One virtual machine. Somebody runs :meth:`live`; who uses it sets ``released`` at the end."""

    def __init__(self, yard: Yard, plan: MachinePlan, masks: tuple[Mask, ...]) -> None:
        self._yard = yard
        self._plan = plan
        self._masks = masks
        self._connection: Connection | None = None
        self._process: Process | None = None
        self._leaf: Leaf | None = None
        self._console, self._errors = LogRing(), LogRing()
        self._silent = 0
        """How many of its two ways to write are closed."""
        self._quiet = trio.Event()
        self._phases = Phases()
        self._network: JailNetwork | None = None
        if yard.egress is not None and plan.guest.egress:
            self._network = JailNetwork(yard.egress)
        self._condemned = ""
        """Why it is ended before its session is."""
        self.output_turn = trio.Lock()
        """Of its programs in the background: they take turns."""
        self._over = False
        """What is left is to clean up."""
        self._boot: trio.CancelScope | None = None
        """For as long as it may take to boot."""
        self.booted = False
        """It was usable once."""
        self.settled = trio.Event()
        """It can be used, or has failed."""
        self.released = trio.Event()
        self.ended = trio.Event()
        """Nothing of it is left."""
        self.failure: str | None = None
        """Why it cannot be used any more."""
        self.numbers: dict[int, int] = {}
        """Channels of jails: here, by those of whoever asked for them."""

    @property
    def connection(self) -> Connection:
        """The way to the guest; valid once ``settled`` without a ``failure``."""
        assert self._connection is not None
        return self._connection

    @property
    def build_seconds(self) -> float:
        """How long its jailer may take for a jail."""
        return self._plan.guest.build_seconds

    @property
    def usable(self) -> bool:
        """It has booted and lives."""
        return self.booted and not self._over and not self.connection.ended.is_set()

    @property
    def patience(self) -> Patience:
        """How long its guest may take."""
        return self._plan.patience

    def weigh(self, share: float) -> None:
        """Set its part of the CPU when others want it too."""
        if self._leaf is not None:
            self._leaf.weigh(share)

    async def connect(self, grant: str, ports: list[int]) -> None:
        """Give its network to the egress proxy."""
        if self._network is not None:
            await self._network.connect(grant, ports)

    def condemn(self, reason: str) -> None:
        """End it: its guest has said on some channel what no honest one would."""
        self._condemned = self._condemned or reason
        self.released.set()

    async def live(self) -> None:
        """Boot, serve until released, end. A failure is kept; whatever happens, nothing of it is left afterwards.

        Named boundary: what fails here is one machine's, whatever it is; all others hang on the same nursery.

        Raises:
            ZygoteDied: (in an exception group) the one failure that is everybody's.
        """
        try:
            await self._live()
        except* ZygoteDied:
            raise
        except* (JailError, LaunchError, OSError, GuestFault, ProtocolError, ChannelClosed, trio.TooSlowError) as group:
            self._fail(_telling(group))
        except* Exception as group:
            log.exception("virtual machine lost", exc_info=group)
            self._fail(JailError("a fault of the jailer"))
        finally:
            self.settled.set()
            self.ended.set()

    async def _live(self) -> None:
        outside_id = self._yard.ids.take()
        try:
            async with open_leaf(self._yard.layout, f"{LEAF_PREFIX}{outside_id}", self._plan.policy.limits) as leaf:
                self._leaf = leaf
                enclosure = Enclosure(leaf, self._yard.launcher)
                try:
                    await self._serve(enclosure, outside_id)
                finally:
                    self._leaf = None
                    self._over = True
                    try:
                        await enclosure.kill()
                    finally:
                        self._close()
                        await enclosure.close()
        finally:
            self._yard.ids.give_back(outside_id)

    def _fail(self, error: BaseException) -> None:
        reason = str(error)
        if isinstance(error, trio.TooSlowError):
            reason = f"the guest was not ready in {self._plan.boot_seconds:g} s{self._words()}"
        elif isinstance(error, ChannelClosed):
            reason = str(error) or f"the guest closed its port{self._words()}"
        self.failure = reason
        log.error("virtual machine lost reason=%s", ascii(reason))
        for line in self._console.last_lines(SHOWN_LINES):
            log.info("its console: %s", line)

    def _close(self) -> None:
        if self._network is not None:
            self._network.close()
        if self._process is not None:
            self._process.close()

    # -- its life --

    async def _serve(self, enclosure: Enclosure, outside_id: int) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._until_released, nursery.cancel_scope)
            with trio.fail_after(self._plan.boot_seconds) as self._boot:
                await enclosure.build(self._yard.nsjail, self._spec(outside_id))
                self._phases.reach("jail")
                if self._network is not None:
                    await self._network.make(enclosure.init_pidfd)
                port = await self._launch(enclosure, nursery)
                self._connection = await nursery.start(self._talk, port)
            if self._network is not None:
                nursery.start_soon(serve_outward, self._connection, enclosure.init_pidfd)
                await self._network.open()
            self.booted = True
            self.settled.set()
            self._phases.reach("begun")
            self._phases.tell(self._console.last_lines(SHOWN_LINES))
            nursery.start_soon(self._keep_time)

    async def _until_released(self, scope: trio.CancelScope) -> None:
        await self.released.wait()
        if self._condemned:
            raise GuestFault(self._condemned)
        scope.cancel()

    def _spec(self, outside_id: int) -> SandboxSpec:
        return SandboxSpec(
            policy=self._plan.policy,
            places=self._yard.places,
            outside_id=outside_id,
            outside_group=self._plan.group,
            workspace="",
            code="",
            masks=self._masks,
        )

    async def _launch(self, enclosure: Enclosure, nursery: trio.Nursery) -> socket.socket:
        """Start the helper in the jail; give our end of the port."""
        with ExitStack() as until_launched, ExitStack() as until_end:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            until_end.enter_context(ours)
            until_launched.enter_context(theirs)
            console = self._log_pipe(self._console, nursery, until_launched)
            errors = self._log_pipe(self._errors, nursery, until_launched)
            config = _closed_by(until_launched, os.memfd_create("machine-config", os.MFD_CLOEXEC))
            null = _closed_by(until_launched, os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
            os.write(config, self._plan.config)
            self._process = await self._yard.launcher.launch(
                [*self._plan.program, "3", "4", "5"],
                {},
                stdio=(null, errors, errors),
                cgroups=enclosure.procs,
                passed=[config, theirs.fileno(), console],
                join=self._join(),
                jail_pidfd=enclosure.init_pidfd,
            )
            nursery.start_soon(self._watch, self._process)
            until_end.pop_all()
            return ours

    def _log_pipe(self, ring: LogRing, nursery: trio.Nursery, until_launched: ExitStack) -> int:
        """Keep what is written to the descriptor that this gives."""
        read, write = os.pipe()
        nursery.start_soon(self._hear, read, ring)
        return _closed_by(until_launched, write)

    def _join(self) -> JoinSpec:
        policy = self._plan.policy
        return JoinSpec(
            inside_id=INSIDE_ID, working_directory="/", rlimits=rlimits(policy), seccomp=machine_program(policy.name)
        )

    async def _talk(self, port: socket.socket, *, task_status: trio.TaskStatus[Connection]) -> None:
        """Wait for the guest, have it begin, and serve its connection to the end, which is never a good one."""
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(port))
        async with stream:
            said = b""
            while len(said) < len(places.GREETING):
                data = await stream.receive_some(len(places.GREETING) - len(said))
                if not data:
                    await self._closed()
                said += data
            self._phases.reach("greeting")
            if said != places.GREETING:
                raise GuestFault(f"the guest greets with {said!a}")
            async with open_connection(stream, accepts=False, frames_per_second=FRAMES_PER_SECOND) as connection:
                await ask(connection, self._begin())
                task_status.started(connection)
                await connection.ended.wait()
                await self._closed()

    async def _closed(self) -> NoReturn:
        """The guest has closed its port. If the helper is on its way out, its end says more."""
        await trio.sleep(2 * LAST_WORDS_SECONDS)
        raise ChannelClosed

    def _begin(self) -> protocol.Begin:
        entropy = os.urandom(protocol.ENTROPY_BYTES)
        return protocol.Begin(clock_nanoseconds=time.time_ns(), entropy=entropy, plan=self._plan.guest)

    async def _keep_time(self) -> None:
        while True:
            await trio.sleep(self.patience.clock_seconds)
            await self.set_clock()

    async def set_clock(self) -> None:
        """Set the guest's clock to the host's.

        Raises:
            GuestFault: the guest cannot, or does not answer.
            ChannelClosed: the guest has gone.
        """
        with trio.move_on_after(self.patience.clock_seconds) as scope:
            await ask(self.connection, protocol.Clock(clock_nanoseconds=time.time_ns()))
        if scope.cancelled_caught:
            raise GuestFault("the guest does not set its clock")

    # -- its end --

    async def _hear(self, fd: int, ring: LogRing) -> None:
        heard = 0
        async with trio.lowlevel.FdStream(fd) as stream:
            while data := await stream.receive_some(READ_BYTES):
                ring.feed(data)
                heard += len(data)
                if heard > self._plan.policy.limits.output_kill_bytes:
                    raise GuestFault(f"the virtual machine prints without end: {heard} bytes")
                await trio.sleep(READ_SECONDS)
        self._silent += 1
        if self._silent == 2:
            self._quiet.set()

    async def _last_words(self) -> None:
        with trio.move_on_after(LAST_WORDS_SECONDS):
            await self._quiet.wait()

    async def _watch(self, process: Process) -> None:
        await process.ended.wait()
        if not self.booted and self._boot is not None and self._boot.cancel_called:
            # We have closed its port: that is why it ends.
            raise trio.TooSlowError
        await self._last_words()
        raise JailError(self._why(process.status))

    def _why(self, status: int) -> str:
        """Say why the helper has ended. Its own status is a hint and nothing more: a guest can choose it."""
        if self._leaf is not None and self._leaf.counters().oom_kills:
            return "the virtual machine needed more memory than it may have, and was killed"
        fault = describe_end(status, self._errors.content())
        words = self._console.last_words()
        return f"{fault.reason}; its console said last: {words}" if words else fault.reason

    def _words(self) -> str:
        said = self._errors.last_words() or self._console.last_words()
        return f"; it said last: {said}" if said else ""


def _telling(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Give the exception that says most: a guest that is given up, or lies, then ends or loses its port as well."""
    for kind in (trio.TooSlowError, GuestFault, ProtocolError):
        if found := group.subgroup(kind):
            return first(found)
    return first(group)


def _closed_by(stack: ExitStack, fd: int) -> int:
    stack.callback(os.close, fd)
    return fd

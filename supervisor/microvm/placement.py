"""A jail that is asked for and lies in a guest: the same conversation, passed on and watched."""

from __future__ import annotations

from typing import Self

import msgspec
import trio

from supervisor.jailer import protocol
from supervisor.jailer.background import CRUMB_PAUSE_SECONDS, FLOOD_BYTES, FLOOD_PAUSE_SECONDS
from supervisor.jailer.cells import Workload, first
from supervisor.jailer.channels import MESSAGE, Channel, ChannelClosed
from supervisor.jailer.conversation import ConversationError, decode
from supervisor.jailer.enclosure import JailError
from supervisor.microvm.guard import BackgroundGuard, Guard, GuestFault
from supervisor.microvm.machine import Machine
from supervisor.microvm.relay import splice, translated
from supervisor.policy import Policy


async def serve_jail(
    machine: Machine, near: Channel, request: protocol.OpenJail, policy: Policy, work: Workload
) -> None:
    """Have the guest's jailer serve the channel ``near`` until one side closes it, or the policy's lifetime is over.

    It counts as ``work`` while an answer is due, and not while a lasting session waits for its next request.

    Raises:
        JailError: the virtual machine has ended, or the guest breaks a rule; with the reason.
        ConversationError: who asks breaks a rule.
    """
    far = await _open(machine)
    try:
        inside = msgspec.structs.replace(request, tier="nsjail", share=1.0, modest=False)
        await far.send_message(protocol.encode(inside), hold=near.pending)
        machine.numbers[near.number] = far.number
        with _Counted(work) as counted:
            await _converse(machine, near, far, request, policy, counted)
    except* ChannelClosed:
        raise JailError(await _reason(machine)) from None
    except* GuestFault as group:
        raise JailError(str(first(group))) from None
    finally:
        machine.numbers.pop(near.number, None)
        await far.aclose()


class _Counted:
    """One part of a workload, which may be idle in between."""

    def __init__(self, work: Workload) -> None:
        self._work = work
        self._busy = False

    def note(self, *, busy: bool) -> None:
        if busy and not self._busy:
            self._work.__enter__()
        elif self._busy and not busy:
            self._work.__exit__()
        self._busy = busy

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.note(busy=False)


class _Overseer:
    """Looks at all that passes between who asks and the guest's jailer."""

    def __init__(
        self, machine: Machine, policy: Policy, guard: Guard, counted: _Counted, nursery: trio.Nursery
    ) -> None:
        self._machine = machine
        self._policy = policy
        self._guard = guard
        self._counted = counted
        self._nursery = nursery

    def asked(self, kind: int, payload: bytes) -> None:
        if kind == MESSAGE:
            self.note(decode(payload))

    def note(self, told: protocol.Request) -> None:
        self._guard.asked(told)
        self._counted.note(busy=self._guard.busy)
        if isinstance(told, protocol.OpenJail | protocol.Weigh):
            self._machine.weigh(told.share)
        elif isinstance(told, protocol.Connect):
            if self._policy.network != "egress":
                raise ConversationError("the policy has no network")
            self._nursery.start_soon(self._machine.connect, told.grant, told.ports)

    def answered(self, kind: int, payload: bytes) -> None:
        self._guard.answered(kind, payload)
        self._counted.note(busy=self._guard.busy)
        self._guard.hold()

    async def passed(self, _payload: bytes) -> None:
        self._guard.go_on()


async def _converse(
    machine: Machine, near: Channel, far: Channel, request: protocol.OpenJail, policy: Policy, counted: _Counted
) -> None:
    with trio.move_on_after(policy.limits.lifetime_seconds) as lifetime, trio.CancelScope() as scope:
        guard = Guard(policy.limits, scope, machine.build_seconds, machine.patience)
        async with trio.open_nursery() as nursery:
            overseer = _Overseer(machine, policy, guard, counted, nursery)
            overseer.note(request)
            await splice(near, far, asked=overseer.asked, answered=overseer.answered, pause=overseer.passed)
            nursery.cancel_scope.cancel()
    if lifetime.cancelled_caught:
        raise JailError("the sandbox's lifetime is over")
    if scope.cancelled_caught:
        raise guard.late()
    if not near.peer_gone.is_set():
        raise JailError(await _reason(machine))


async def serve_background(machine: Machine, near: Channel, request: protocol.Background) -> None:
    """Have the guest's jailer run a program in the background of one of its jails, on the channel ``near``.

    Raises:
        JailError: the virtual machine has ended, or the guest breaks a rule, and loses its machine.
        ConversationError: there is no such jail.
    """
    inside = translated(request, machine.numbers)
    if inside is None:
        raise ConversationError(f"channel {near.number}: there is no such jail")
    far = await _open(machine)
    try:
        await far.send_message(protocol.encode(inside), hold=near.pending)
        await _pass_background(machine, near, far)
    except* ChannelClosed:
        raise JailError(await _reason(machine)) from None
    except* GuestFault as group:
        machine.condemn(str(first(group)))
        raise JailError(str(first(group))) from None
    finally:
        await far.aclose()


async def _pass_background(machine: Machine, near: Channel, far: Channel) -> None:
    async def pause(payload: bytes) -> None:
        # All programs of a guest together get so much through, as those of any jail do.
        async with machine.output_turn:
            await trio.sleep(FLOOD_PAUSE_SECONDS if len(payload) >= FLOOD_BYTES else CRUMB_PAUSE_SECONDS)

    with trio.CancelScope() as scope:
        guard = BackgroundGuard(scope, machine.patience.answer_seconds + machine.build_seconds)

        def asked(kind: int, payload: bytes) -> None:
            if kind == MESSAGE:
                guard.asked(decode(payload))

        await splice(near, far, asked=asked, answered=guard.answered, pause=pause)
    if scope.cancelled_caught:
        raise GuestFault("the guest did not start a program in time")


async def _open(machine: Machine) -> Channel:
    try:
        return await machine.connection.open_channel()
    except ChannelClosed:
        raise JailError(await _reason(machine)) from None


async def _reason(machine: Machine) -> str:
    """Say why the guest is gone; what it was is known a moment after its port has closed."""
    with trio.move_on_after(2):
        await machine.ended.wait()
    return machine.failure or "the guest's jailer closed the jail"

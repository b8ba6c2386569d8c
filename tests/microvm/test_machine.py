"""One machine's life, where something fails that nobody has thought of: it is that machine's failure and nobody else's."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from supervisor.jailer import cgroup
from supervisor.jailer.cgroup import Layout
from supervisor.jailer.enclosure import JailError
from supervisor.jailer.jail import Ids, Yard
from supervisor.jailer.launcher import ZygoteDied
from supervisor.microvm import machine as module
from supervisor.microvm.guard import GuestFault
from supervisor.microvm.log_ring import LOG_BYTES, LogRing
from supervisor.microvm.machine import Machine
from supervisor.microvm.machine_plan import MachinePlan
from supervisor.policy import load_policies

KRUN = load_policies(folder="machines")["krun"]


class NoEnclosure:
    """Walls that cannot be built, for the reason that is given."""

    fault: BaseException
    calls: list[str]

    def __init__(self, *_parts: Any) -> None:
        self.init_pidfd = -1

    async def build(self, *_plan: Any) -> None:
        await trio.lowlevel.checkpoint()
        raise self.fault

    async def kill(self) -> None:
        self.calls.append("kill")

    async def close(self) -> None:
        self.calls.append("close")


class Parts:
    """Of a jailer, as much as a machine needs to fail."""

    def __init__(self, ids: int) -> None:
        self.ids = Ids(1000, ids)
        self.layout = Layout(2, {})
        self.egress = self.launcher = self.places = None
        self.nsjail = ""


@pytest.fixture
def enclosure(monkeypatch: pytest.MonkeyPatch) -> type[NoEnclosure]:
    kind = type("Fresh", (NoEnclosure,), {"calls": []})
    monkeypatch.setattr(module, "Enclosure", kind)
    monkeypatch.setattr(cgroup.Leaf, "create", lambda *_: None)
    return kind


def machine(ids: int = 1) -> tuple[Machine, Parts]:
    """Give one that has a second to boot: of a clock that stands still, or a busy host is a reason of its own."""
    parts = Parts(ids)
    plan = MachinePlan(
        program=["/bin/true"],
        config=b"",
        policy=KRUN,
        group=1,
        guest=cast("Any", None),
        boot_seconds=1,
        waiting=0,
        most=1,
    )
    return Machine(cast("Yard", parts), plan, ()), parts


@pytest.mark.parametrize("fault", [ValueError("a payload"), KeyError("x"), UnicodeDecodeError("utf-8", b"", 0, 1, "x")])
async def test_a_fault_that_nobody_has_thought_of_is_one_machines(
    fault: Exception,
    enclosure: type[NoEnclosure],
    caplog: pytest.LogCaptureFixture,
    mock_clock: trio.testing.MockClock,
) -> None:
    enclosure.fault = fault
    lost, parts = machine()
    await lost.live()
    assert (lost.failure, lost.settled.is_set(), lost.ended.is_set()) == ("a fault of the jailer", True, True)
    assert enclosure.calls == ["kill", "close"]
    assert parts.ids.take() == 1000
    assert type(fault).__name__ in caplog.text


async def test_of_several_reasons_the_one_that_tells_most_is_kept(
    enclosure: type[NoEnclosure], mock_clock: trio.testing.MockClock
) -> None:
    enclosure.fault = ExceptionGroup("", [JailError("it ended"), ExceptionGroup("", [GuestFault("it lies")])])
    lost, _parts = machine()
    await lost.live()
    assert lost.failure == "it lies"
    enclosure.fault = ExceptionGroup("", [JailError("it ended"), GuestFault("it lies"), trio.TooSlowError()])
    slow, _parts = machine()
    await slow.live()
    assert slow.failure == "the guest was not ready in 1 s"


async def test_who_ends_because_it_was_given_up_has_been_too_slow(
    enclosure: type[NoEnclosure], monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    async def build(*_plan: Any) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(enclosure, "build", build)
    late, _parts = machine()
    process = SimpleNamespace(ended=trio.Event(), status=0)

    async def launch(_enclosure: Any, nursery: trio.Nursery) -> None:
        nursery.start_soon(late._watch, cast("Any", process))

    async def talk(_port: Any, **_: Any) -> None:
        try:
            await trio.sleep_forever()
        finally:
            # Its end is seen before all of ours has ended.
            process.ended.set()
            with trio.CancelScope(shield=True):
                await trio.sleep(10)

    monkeypatch.setattr(late, "_launch", launch)
    monkeypatch.setattr(late, "_talk", talk)
    await late.live()
    assert late.failure == "the guest was not ready in 1 s"


async def test_a_dead_zygote_is_everybodys(enclosure: type[NoEnclosure], mock_clock: trio.testing.MockClock) -> None:
    enclosure.fault = ZygoteDied()
    lost, _parts = machine()
    with pytest.RaisesGroup(ZygoteDied, flatten_subgroups=True):
        await lost.live()
    assert lost.ended.is_set()


async def test_a_machine_for_which_there_is_no_uid_fails_in_words(enclosure: type[NoEnclosure]) -> None:
    enclosure.fault = JailError("not reached")
    lost, _parts = machine(ids=0)
    await lost.live()
    assert lost.failure == "all sandbox uids are in use"
    assert lost.ended.is_set()
    assert not enclosure.calls


async def test_who_releases_a_machine_while_it_boots_ends_it_at_once(
    enclosure: type[NoEnclosure], monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> None:
    async def boot(*_plan: Any) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(enclosure, "build", boot)
    released, _parts = machine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(released.live)
        await trio.testing.wait_all_tasks_blocked()
        released.released.set()
        await released.ended.wait()
    assert (released.failure, released.booted, released.usable) == (None, False, False)
    assert enclosure.calls == ["kill", "close"]


async def test_a_machine_that_is_condemned_ends_with_the_reason(
    enclosure: type[NoEnclosure], monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> None:
    async def boot(*_plan: Any) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(enclosure, "build", boot)
    condemned, _parts = machine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(condemned.live)
        await trio.testing.wait_all_tasks_blocked()
        condemned.condemn("it lies")
        condemned.condemn("again")
    assert condemned.failure == "it lies"


def test_a_log_is_bounded_and_what_is_shown_of_it_harmless() -> None:
    ring = LogRing()
    for _ in range(100):
        ring.feed(os.urandom(LOG_BYTES))
    assert len(ring.content()) == LOG_BYTES
    ring.feed(b"\n\x1b[31mred\xff\n" + b"x" * 1000 + b"\n\n")
    assert ring.last_lines(2) == ["?[31mred?", "x" * 300]

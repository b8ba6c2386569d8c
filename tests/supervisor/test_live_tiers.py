"""The tier of a session that lives: it only rises, keeps what it can, and never loses a program silently.

The jailer and all behind it are hand-written; what runs in a real sandbox is in the tests of the doors.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from supervisor.admission.fair_queue import Standing
from supervisor.errors import Busy, Conflict, InvalidRequest, SandboxFailed
from supervisor.execution.values import ExecutionRequest, Principal, SessionId, Tier
from supervisor.jailer import protocol
from supervisor.jailer.client import JailRefused
from supervisor.live.means import LiveLimits
from supervisor.live.processes import ProcessLimits
from supervisor.live.session import LiveSession
from supervisor.live.sessions import LiveSessions, open_live
from supervisor.store import SavedState

ANN = Principal("t", "key", "ann")
SESSION = SessionId("s" * 21)


class Jail:
    """Runs nothing and says it did."""

    lost = False

    def __getattr__(self, name: str) -> Any:
        async def nothing(*_arguments: Any, **_named: Any) -> None:
            await trio.lowlevel.checkpoint()

        return nothing

    @asynccontextmanager
    async def save(self, limit_bytes: int) -> AsyncIterator[tuple[protocol.Saved, AsyncIterator[bytes]]]:
        yield (
            protocol.Saved(size=min(3, limit_bytes), names=1, untrusted_unsaved=[]),
            cast("AsyncIterator[bytes]", None),
        )

    def take_refused_names(self) -> list[bytes]:
        return []


@dataclass
class World:
    """All that sessions work with. ``saved`` and ``opened`` are what a test looks at."""

    refuses: bool = False
    gone: bool = False
    ends_whole: bool = False
    """The kernel takes all of a sandbox with what runs in it, for memory."""
    opened: list[Tier] = field(default_factory=list)
    saved: SavedState | None = None
    wants_restore: int = 0
    saving_seconds: float = 0.0
    breaks: bool = False
    """What runs takes its session along, by a fault of ours."""

    @asynccontextmanager
    async def open_jail(self, _policy: str, _profile: str, *, tier: Tier) -> AsyncIterator[Jail]:
        self.opened.append(tier)
        if self.gone:
            raise SandboxFailed("there is no jailer")
        yield Jail()

    @asynccontextmanager
    async def open_grant(self, *_arguments: Any) -> AsyncIterator[Any]:
        async def nothing(*_arguments: Any) -> list[bytes]:
            return []

        yield SimpleNamespace(use=nothing, ask=nothing, explanations=nothing)

    @asynccontextmanager
    async def place(self, *_arguments: Any) -> AsyncIterator[Standing]:
        yield Standing(share=1.0, modest=False)

    def reaches(self, _egress: Any) -> bool:
        return False

    async def resolve(self, _request: ExecutionRequest) -> Any:
        return SimpleNamespace(is_new=False, owner=None, skipped=(), session_id=SESSION)

    async def saved_state(self, _session: SessionId) -> SavedState | None:
        return self.saved

    @asynccontextmanager
    async def state_content(self, _state: SavedState) -> AsyncIterator[AsyncIterator[bytes]]:
        self.wants_restore += 1
        yield cast("AsyncIterator[bytes]", None)

    async def known_session(self, _principal: Principal, _session: SessionId) -> None:
        return None

    async def store_state(self, _content: Any, _limit: int) -> Any:
        await trio.sleep(self.saving_seconds)
        return SimpleNamespace(digest="d", size_bytes=3)

    async def keep_state(
        self, session: SessionId, label: str, blob: Any, _seconds: float, unsaved: Any, **_fence: Any
    ) -> None:
        self.saved = SavedState(session, label, blob.digest, blob.size_bytes, 0.0, 1.0, tuple(unsaved))


class Work:
    """Of :class:`supervisor.execution.in_jail.InJail`, what an execution calls."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def place(self, *_arguments: Any) -> None:
        if self._world.refuses:
            refusal = JailRefused("no machine booted within 20 s", full=False)
            refusal.machine = True
            raise refusal

    async def run_live(self, *_arguments: Any) -> protocol.Ended:
        if self._world.breaks:
            self._world.breaks = False
            await trio.testing.wait_all_tasks_blocked()
            raise RuntimeError("a fault")
        lives = not self._world.ends_whole
        outcome = protocol.RunExited(code=0) if lives else protocol.RunOutOfMemory(limit_bytes=1)
        return protocol.Ended(outcome, 0.1, 0.1, 1, jail_lives=lives, state_lives=lives)

    async def collect(self, *_arguments: Any, **_named: Any) -> None:
        return

    take_shown = keep = place_inputs = collect


def limits(best: Tier) -> LiveLimits:
    return LiveLimits(
        8, 8, 60.0, 1000, 60.0, 5.0, 1.0, "default", "python", ProcessLimits(60.0, 1000), 8, best, machines=2
    )


@asynccontextmanager
async def sessions(world: World, best: Tier = "microvm") -> AsyncIterator[LiveSessions]:
    async def never(*, tight: bool) -> None:
        await trio.sleep_forever()

    pressure = SimpleNamespace(check=lambda: None, wait=never)
    admission = SimpleNamespace(place=world.place, pressure=pressure)
    everything = cast("Any", world)
    async with open_live(
        everything, everything, everything, cast("Any", Work(world)), cast("Any", admission), everything, limits(best)
    ) as live:
        yield live


async def run(
    live: LiveSessions, tier: Tier, asked: Tier | None = None, session: SessionId = SESSION
) -> tuple[str | None, str, tuple[str, ...]]:
    """Give the tier it ran in, what became of the interpreter, and what was noted."""
    request = ExecutionRequest(ANN, "python", "1", session_id=session, tier=asked)
    language = cast("Any", SimpleNamespace(profile="python"))
    result = await live.execute(request, language, tier, None)
    assert result.runtime is not None
    return result.tier, result.runtime.status, result.notes


async def test_a_session_goes_on_in_a_higher_tier_with_its_variables(autojump_clock: trio.abc.Clock) -> None:
    world = World()
    async with sessions(world) as live:
        assert (await run(live, "nsjail"))[:2] == ("nsjail", "new")
        tier, status, notes = await run(live, "microvm", "microvm")
        assert (tier, status) == ("microvm", "restored")
        assert "restored" in notes[0]
        assert live.tier(SESSION) == "microvm"
    assert world.opened == ["nsjail", "microvm"]
    assert world.saved is not None
    assert world.saved.profile == "python@microvm"


async def test_one_whose_sandbox_the_kernel_has_ended_goes_on_in_another(autojump_clock: trio.abc.Clock) -> None:
    world = World(ends_whole=True)
    async with sessions(world) as live:
        _, _, notes = await run(live, "nsjail")
        assert "its variables are gone" in notes[0]
        world.ends_whole = False
        assert (await run(live, "nsjail"))[:2] == ("nsjail", "new")
        assert (await run(live, "nsjail"))[:2] == ("nsjail", "reused")
    assert world.opened == ["nsjail", "nsjail"]


async def test_what_comes_while_an_unused_one_is_being_saved_goes_on_in_the_next(
    autojump_clock: trio.abc.Clock,
) -> None:
    world = World(saving_seconds=3.0)
    async with sessions(world) as live:
        await run(live, "nsjail")
        await trio.sleep(62.0)
        assert live.count == 0, "it does nothing more but save itself"
        assert world.saved is None
        assert (await run(live, "nsjail"))[:2] == ("nsjail", "restored")
    assert world.opened == ["nsjail", "nsjail"]


async def test_what_waits_behind_one_that_is_lost_runs_in_the_next(
    autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(breaks=True)
    found: list[str] = []

    async def first() -> None:
        with pytest.raises(SandboxFailed, match="the execution was lost"):
            await run(live, "nsjail")

    async def second() -> None:
        found.append((await run(live, "nsjail"))[1])

    async with sessions(world) as live, trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await trio.lowlevel.checkpoint()
        nursery.start_soon(second)
    assert found == ["new"]
    assert world.opened == ["nsjail", "nsjail"]
    assert "session lost" in caplog.text


async def test_one_that_lives_in_a_higher_tier_stays_there(autojump_clock: trio.abc.Clock) -> None:
    world = World()
    async with sessions(world) as live:
        await run(live, "microvm")
        assert (await run(live, "nsjail"))[:2] == ("microvm", "reused")
        with pytest.raises(InvalidRequest, match="this session's sandbox is of tier microvm") as caught:
            await run(live, "nsjail", "nsjail")
        assert caught.value.field == "tier"
    assert world.opened == ["microvm"]


async def test_what_was_saved_in_a_higher_tier_is_brought_back_only_there(autojump_clock: trio.abc.Clock) -> None:
    world = World()
    async with sessions(world) as live:
        await run(live, "microvm")
    async with sessions(world) as live:
        assert (await run(live, "nsjail"))[:2] == ("microvm", "restored")
    async with sessions(world, best="nsjail") as live:
        tier, status, notes = await run(live, "nsjail")
        assert (tier, status) == ("nsjail", "new")
        assert "of tier microvm, which is not to be had now" in notes[0]
    assert world.opened == ["microvm", "microvm", "nsjail"]
    assert world.wants_restore == 1


async def test_background_processes_keep_a_session_where_it_is(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    async with sessions(world) as live:
        await run(live, "nsjail")
        monkeypatch.setattr(LiveSession, "running_processes", 1)
        with pytest.raises(Conflict, match="background processes run in this session's sandbox") as caught:
            await run(live, "microvm")
        assert caught.value.field == "tier"
        monkeypatch.undo()
        assert (await run(live, "nsjail"))[:2] == ("nsjail", "reused")
    assert world.opened == ["nsjail"]


async def test_a_machine_that_cannot_be_had_is_told_with_the_reason(autojump_clock: trio.abc.Clock) -> None:
    world = World(refuses=True)
    async with sessions(world) as live:
        with pytest.raises(SandboxFailed, match="no sandbox of tier microvm: no machine booted within 20 s"):
            await run(live, "microvm")


async def test_who_waits_for_a_sandbox_that_cannot_be_made_is_told(autojump_clock: trio.abc.Clock) -> None:
    async with sessions(World(gone=True)) as live:
        with trio.fail_after(60), pytest.raises(SandboxFailed, match="could not be made"):
            await run(live, "nsjail")


async def test_sessions_that_hold_a_machine_make_room_for_each_other(autojump_clock: trio.abc.Clock) -> None:
    world = World()
    first, second, third, plain = (SessionId(letter * 21) for letter in "abcd")
    async with sessions(world) as live:
        await run(live, "nsjail", session=plain)
        await run(live, "microvm", session=first)
        await run(live, "microvm", session=second)
        await run(live, "microvm", session=third)
        await trio.testing.wait_all_tasks_blocked()
        # The longest unused of those with a machine has gone, not the one that has none.
        assert [live.tier(each) for each in (plain, first, second, third)] == [
            *("nsjail", "nsjail", "microvm", "microvm")
        ]


async def test_while_all_machines_are_at_work_one_more_is_told_when_to_come_again(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    async with sessions(world) as live:
        for letter in "ab":
            await run(live, "microvm", session=SessionId(letter * 21))
        monkeypatch.setattr(LiveSession, "idle", False)
        with pytest.raises(Busy, match="all lasting sessions with virtual machines are at work"):
            await run(live, "microvm", session=SessionId("c" * 21))
        assert (await run(live, "nsjail", session=SessionId("d" * 21)))[0] == "nsjail"

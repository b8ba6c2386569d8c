"""An agent at a gateway while parts of the fleet are lost: each tool call ends, says honestly what became of it, and what
was kept is there again at whichever gateway it asks next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import pytest
import trio

from tests.daemon import eventually
from tests.fleet.faulty_world import World, open_world
from tests.fleet_world import remove_cgroups
from tests.mcp import ERAS, Agent, Result, connected, initialize, post

pytestmark = pytest.mark.root
_T = TypeVar("_T")
SLOW: Final = "import time\nfor n in range(30):\n    time.sleep(0.1)\nprint('end')"
SLOWER: Final = SLOW.replace("30", "150")
"""For what is to run still when somebody is killed."""


@pytest.fixture(scope="module")
def shared_world() -> Iterator[World]:
    with open_world() as world:
        yield world


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    try:
        yield shared_world
    finally:
        shared_world.heal()
    shared_world.check()


async def aside(work: Callable[..., _T], *arguments: Any) -> _T:
    """Do what blocks while the agent waits."""
    return await trio.to_thread.run_sync(work, *arguments)


async def served(agent: Agent, tool: str, **arguments: Any) -> Result:
    """Ask until nobody says any more that it is to be asked again: after an outage that takes a heartbeat or two."""
    while True:
        result = await agent.call(tool, **arguments)
        if not result.raw.is_error:
            return result
        assert "try again in" in result.text, result.text
        await trio.sleep(0.1)


async def until(condition: Callable[[], bool]) -> None:
    await aside(eventually, condition)


class Asked:
    """A tool call that is under way."""

    def __init__(self, nursery: trio.Nursery, agent: Agent, tool: str, **arguments: Any) -> None:
        self._done: list[Result] = []
        self._over = trio.Event()
        nursery.start_soon(self._ask, agent, tool, arguments)

    async def _ask(self, agent: Agent, tool: str, arguments: dict[str, Any]) -> None:
        self._done.append(await agent.call(tool, **arguments))
        self._over.set()

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    async def result(self) -> Result:
        await self._over.wait()
        return self._done[0]


def saved(world: World, session: str) -> bool:
    name = world.holder(session)
    return any(f"session saved session={session}" in line for line in world.member(name).daemon.lines())


@pytest.mark.parametrize("mode", ERAS)
async def test_a_call_under_way_outlives_a_restart_of_redis_and_one_in_the_gap_is_told(world: World, mode: str) -> None:
    redis = world.fleet.redis
    async with connected(world.gateway(), mode=mode) as agent, trio.open_nursery() as nursery:
        await served(agent, "execute_code", code="x = 41")
        asked = Asked(nursery, agent, "execute_code", code=SLOW)
        # On a busy machine it may have run before anybody looks.
        await until(lambda: world.running() == 1 or asked.is_over)
        await aside(redis.kill)
        await aside(redis.start)
        assert (await asked.result()).data["stdout"] == "end\n"
        await aside(redis.kill)
        for tool, arguments in (("execute_code", {"code": "x"}), ("write_file", {"path": "a.txt", "text": "a"})):
            assert "try again in" in (await agent.call(tool, **arguments)).refusal
        await aside(redis.start)
        again = await served(agent, "execute_code", code="import os; print(x + 1, os.listdir())")
        assert again.data["stdout"] == "42 []\n", again.data


@pytest.mark.parametrize("mode", ERAS)
async def test_what_a_killed_worker_ran_is_said_to_be_lost_and_the_session_goes_on_elsewhere(
    world: World, mode: str
) -> None:
    async with connected(world.gateway(), mode=mode) as agent, trio.open_nursery() as nursery:
        made = await served(agent, "execute_code", code="x = 41")
        session = made.data["session"]
        await until(lambda: saved(world, session))
        name = world.holder(session)
        asked = Asked(nursery, agent, "execute_code", code=f"x = 0\n{SLOWER}")
        await until(lambda: world.running() == 1)
        await aside(world.member(name).kill)
        refusal = (await asked.result()).refusal
        assert "it may have run" in refusal
        assert "look at what it has left before you run it again" in refusal
        assert "try again" not in refusal
        after = await agent.call("execute_code", code="print(x + 1)")
        assert after.data["stdout"] == "42\n"
        assert "the worker that had this session is gone" in str(after.data)
    await aside(remove_cgroups, world.member(name).home)
    await aside(world.start, "worker", name)
    await aside(world.fleet.wait_workers, world.member("g1"), 2)


@pytest.mark.parametrize("mode", ERAS)
async def test_an_agent_whose_gateway_is_killed_finds_files_and_variables_at_the_other_one(
    world: World, mode: str
) -> None:
    old = initialize(world.gateway("g2"))
    with pytest.raises(BaseExceptionGroup):
        async with connected(world.gateway("g2"), conversation=f"moved-{mode}", mode=mode) as agent:
            await agent.call("execute_code", code="x = 41")
            await agent.call("write_file", path="a.txt", text="kept")
            await aside(world.member("g2").kill)
            await agent.call("execute_code", code="x")
    # A connection of the handshake era was that gateway's: the other one says so, and the client begins anew.
    ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
    assert post(world.gateway("g1"), ping, session=old).status == 404
    async with connected(world.gateway("g1"), conversation=f"moved-{mode}", mode=mode) as agent:
        assert (await agent.call("read_file", path="a.txt")).data["content"] == "kept"
        assert (await agent.call("execute_code", code="print(x + 1)")).data["stdout"] == "42\n"
    await aside(world.start, "gateway", "g2")
    await aside(world.fleet.wait_workers, world.member("g2"), 2)


async def test_while_s3_is_gone_file_tools_say_so_and_leave_nothing_half(world: World) -> None:
    async with connected(world.gateway()) as agent:
        await agent.call("write_file", path="kept.txt", text="kept")
        await aside(world.s3.go_away)
        assert "try again in" in (await agent.call("write_file", path="new.txt", text="new")).refusal
        assert "try again in" in (await agent.call("read_file", path="kept.txt")).refusal
        async with connected(world.gateway()) as other:
            assert (await other.call("execute_code", code="6 * 7")).data["stdout"] == "42\n"
        await aside(world.s3.come_back)
        listed = await agent.call("list_files")
        assert "new.txt" not in str(listed.data)
        assert (await agent.call("read_file", path="kept.txt")).data["content"] == "kept"
        await agent.call("write_file", path="new.txt", text="new")
        assert (await agent.call("read_file", path="new.txt")).data["content"] == "new"


async def test_an_answer_of_s3_that_is_cut_is_never_half_a_file(world: World) -> None:
    text = "0123456789" * 2000
    async with connected(world.gateway()) as agent:
        await agent.call("write_file", path="long.txt", text=text)
        world.s3.proxy.cut_answers = 1
        assert (await agent.call("read_file", path="long.txt")).data["content"] == text
        world.s3.proxy.cut_bodies = 1
        await agent.call("write_file", path="long.txt", text=text[::-1])
        assert (await agent.call("read_file", path="long.txt")).data["content"] == text[::-1]


async def test_a_session_whose_worker_is_drained_goes_on_with_its_variables(world: World) -> None:
    async with connected(world.gateway()) as agent:
        made = await agent.call("execute_code", code="import collections\nx = collections.Counter('abba')")
        name = world.holder(made.data["session"])
        member = world.member(name)
        assert member.internal("drain", "POST").status == 202
        assert await aside(member.daemon.process.wait, 30) == 0
        moved = await agent.call("execute_code", code="x['b']")
        assert moved.data["stdout"] == "2\n"
        assert moved.data["session"] == made.data["session"]
        # It was handed over: nothing was lost, and nothing is said of a loss.
        assert "is gone" not in moved.text
    await aside(remove_cgroups, member.home)
    await aside(world.start, "worker", name)
    await aside(world.fleet.wait_workers, world.member("g1"), 2)

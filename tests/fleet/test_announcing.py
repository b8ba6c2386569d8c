"""A caller hears that an execution was begun, if that takes long enough for him to ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import trio

from supervisor.execution.values import (
    CapturedOutput,
    ExecutionRequest,
    ExecutionResult,
    Exited,
    Listener,
    Principal,
    SessionId,
    Usage,
)
from supervisor.fleet.calls import Calls, Errand
from supervisor.fleet.delivery import open_deliveries
from supervisor.fleet.dispatch import Services
from supervisor.fleet.lanes import pool_lane
from supervisor.fleet.leases import Leases
from supervisor.fleet.manifest import Signer, Verifier, new_key
from supervisor.fleet.messages import Admitted, Execute, Finished, Output
from supervisor.fleet.replies import open_replies
from supervisor.fleet.worker import Post, Worker
from supervisor.policy import Policy
from tests.fleet.parts import POOL, Fleet, fleet, redis_server

__all__ = ["fleet", "redis_server"]


class _Named:
    name = "default"


class _WaitingExecutor:
    """Ends each execution when it is told to."""

    def __init__(self) -> None:
        self.end = trio.Event()

    async def execute(
        self,
        _request: ExecutionRequest,
        _listener: Listener | None = None,
        _on_admitted: Callable[[], None] | None = None,
    ) -> ExecutionResult:
        await self.end.wait()
        return ExecutionResult(SessionId("s" * 21), Exited(0), CapturedOutput(), CapturedOutput(), Usage())


async def test_a_caller_of_a_long_execution_hears_that_it_was_begun_before_it_ends(fleet: Fleet) -> None:
    private, public = new_key()
    executor = _WaitingExecutor()
    unused = cast("Any", None)
    policy = cast("Policy", _Named())
    services = Services("w", cast("Any", executor), unused, unused, unused, unused, unused, policy, unused)
    heard: list[Admitted | Output] = []

    async def hear(news: Admitted | Output) -> None:
        heard.append(news)
        executor.end.set()

    now = await fleet.now()
    errand = Errand(Execute(ExecutionRequest(Principal("t", "c", None), "python", "1"), listens=False), 60.0)
    async with (
        open_deliveries(fleet.link, fleet.settings, "w", ["worker:w"]) as own,
        open_deliveries(fleet.link, fleet.settings, "w", [POOL]) as pool,
        open_replies(fleet.link, "g") as replies,
        trio.open_nursery() as nursery,
    ):
        post = Post("w", POOL.removeprefix("pool:"), 1, Verifier({"k": public}), lambda: now)
        worker = Worker(post, services, Leases(fleet.link, fleet.settings, "w"), own, pool)
        nursery.start_soon(worker.run)
        calls = Calls(fleet.queue, replies, Signer("k", private), lambda: now, gateway="g", policy="default")
        with trio.fail_after(30):
            assert isinstance(await calls.ask(errand, pool_lane("p"), hear), Finished)
        nursery.cancel_scope.cancel()
    assert heard == [Admitted()]

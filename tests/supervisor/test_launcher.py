"""The zygote starts programs, tells how they ended, and outlives jails that die under its hands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from supervisor.jailer.join import JoinSpec
from supervisor.jailer.launcher import LaunchError, Zygote, open_launcher
from tests.daemon import open_files

pytestmark = pytest.mark.root
SPEC = JoinSpec(inside_id=1000, working_directory="/", rlimits={}, seccomp="none")


@pytest.fixture
async def launcher() -> AsyncIterator[Zygote]:
    async with open_launcher([sys.executable]) as running:
        yield running


@pytest.fixture
def stdio() -> tuple[int, int, int]:
    null = os.open("/dev/null", os.O_RDWR)
    return null, null, null


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 137", 137), ("kill -9 $$", -9), ("kill -TERM $$", -15)]
)
async def test_the_true_wait_status_comes_back(
    launcher: Zygote, stdio: tuple[int, int, int], script: str, status: int
) -> None:
    process = await launcher.launch(["/bin/sh", "-c", script], {}, stdio=stdio, cgroups=[])
    await process.ended.wait()
    assert os.waitstatus_to_exitcode(process.status) == status
    process.close()


async def test_what_cannot_be_executed_is_an_error_that_names_it(launcher: Zygote, stdio: tuple[int, int, int]) -> None:
    with pytest.raises(LaunchError, match=r"/no/such/program.*No such file"):
        await launcher.launch(["/no/such/program"], {}, stdio=stdio, cgroups=[])
    with pytest.raises(LaunchError, match="over"):
        await launcher.launch(["/bin/true", "x" * 300_000], {}, stdio=stdio, cgroups=[])


async def test_a_jail_that_is_dead_refuses_and_the_zygote_goes_on(
    launcher: Zygote, stdio: tuple[int, int, int]
) -> None:
    with subprocess.Popen(["sleep", "60"]) as victim:  # noqa: ASYNC220
        pidfd = os.pidfd_open(victim.pid)
        victim.kill()
    with pytest.raises(LaunchError, match="joining"):
        await launcher.launch(["/bin/true"], {}, stdio=stdio, cgroups=[], join=SPEC, jail_pidfd=pidfd)
    await launcher.sweep(pidfd)
    os.close(pidfd)
    process = await launcher.launch(["/bin/true"], {}, stdio=stdio, cgroups=[])
    await process.ended.wait()
    assert process.status == 0
    process.close()


async def test_a_dead_jail_that_nobody_waits_for_any_more_does_not_end_the_zygote(
    launcher: Zygote, stdio: tuple[int, int, int]
) -> None:
    """So it is at every shutdown: pools being filled are cancelled, their jails killed, and requests still under way."""
    zygote = await zygote_of(launcher, stdio)
    with subprocess.Popen(["sleep", "60"]) as victim:  # noqa: ASYNC220
        pidfd = os.pidfd_open(victim.pid)
        victim.kill()
    os.kill(zygote, signal.SIGSTOP)
    try:
        async with trio.open_nursery() as nursery:
            start = partial(launcher.launch, ["/bin/true"], {}, stdio=stdio, cgroups=[], join=SPEC, jail_pidfd=pidfd)
            nursery.start_soon(start)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    finally:
        os.kill(zygote, signal.SIGCONT)
        os.close(pidfd)
    process = await launcher.launch(["/bin/true"], {}, stdio=stdio, cgroups=[])
    await process.ended.wait()
    assert (process.status, launcher.ended) == (0, False)
    process.close()


async def zygote_of(launcher: Zygote, stdio: tuple[int, int, int]) -> int:
    """Give the pid of the zygote itself: the parent of what it forks."""
    process = await launcher.launch(["/bin/sleep", "60"], {}, stdio=stdio, cgroups=[])
    status = Path(f"/proc/{process.pid}/status").read_text()  # noqa: ASYNC240
    process.signal(signal.SIGKILL)
    await process.ended.wait()
    process.close()
    (parent,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("PPid:"))
    return parent


async def test_a_cancelled_launch_leaves_no_descriptor(launcher: Zygote, stdio: tuple[int, int, int]) -> None:
    before = open_files()
    with trio.move_on_after(0):
        await launcher.launch(["/bin/true"], {}, stdio=stdio, cgroups=[])
    process = await launcher.launch(["/bin/sleep", "60"], {}, stdio=stdio, cgroups=[])
    process.signal(signal.SIGKILL)
    await process.ended.wait()
    process.close()
    assert open_files() - before == set()

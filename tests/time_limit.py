"""What hangs fails, and says where; the tests after it go on.

A test waits for processes, sockets and tasks, and a fault may leave it waiting for ever. After :data:`LIMIT_SECONDS`, or
those of a mark ``time_limit``, a signal breaks into it: the failure names the processes that it began and, under Trio, which is
cancelled, where every task waits. It comes again, since what cleans up may wait for the same. Where even a signal is not
looked at, pytest's ``faulthandler_timeout`` ends everything.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import pytest
import trio

LIMIT_SECONDS: Final = 600.0
"""Ten times what a test takes beside all others on two processors."""
AGAIN_SECONDS: Final = 20.0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    with limited(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with limited(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    with limited(item):
        return (yield)


@contextmanager
def limited(item: pytest.Item) -> Iterator[None]:
    """Break into what runs here when it has taken as long as this test may take."""
    mark = item.get_closest_marker("time_limit")
    seconds = float(mark.args[0]) if mark else LIMIT_SECONDS
    told = ""

    def break_in(_number: int, _frame: FrameType | None) -> None:
        nonlocal told
        first = not told
        if first:
            waiting = [*tasks(), *(f"process {each}" for each in children(os.getpid()))]
            told = "\n".join([f"{item.nodeid} hangs: it has taken {seconds:g} seconds", *waiting])
        # Tasks are asked first: a Trio into which something is thrown leaves them, and what they hold.
        if not (first and cancelled()):
            pytest.fail(told)

    before = signal.signal(signal.SIGALRM, break_in)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_SECONDS)
    try:
        yield
    except BaseException as error:
        if told and not isinstance(error, pytest.fail.Exception):
            raise pytest.fail.Exception(told) from error
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if told:
        pytest.fail(told)


def cancelled() -> bool:
    """Cancel what a running Trio's main task has begun; say whether there is one."""
    try:
        root, token = trio.lowlevel.current_root_task(), trio.lowlevel.current_trio_token()
    except RuntimeError:
        return False
    tasks = [task for nursery in root.child_nurseries for task in nursery.child_tasks] if root else []
    begun = [nursery.cancel_scope for task in tasks for nursery in task.child_nurseries]
    for scope in begun:
        token.run_sync_soon(scope.cancel)
    return bool(begun)


def tasks() -> Iterator[str]:
    """Say where each of Trio's tasks waits, if Trio runs in this thread."""
    try:
        root = trio.lowlevel.current_root_task()
    except RuntimeError:
        return
    todo = [root] if root else []
    while todo:
        task = todo.pop()
        yield f"task {task.name}"
        stack = traceback.StackSummary.extract(task.iter_await_frames())
        yield from (f"    {frame.filename}:{frame.lineno} {frame.name}: {frame.line}" for frame in stack)
        todo += [child for nursery in task.child_nurseries for child in nursery.child_tasks]


def children(pid: int) -> Iterator[str]:
    """Name this process's descendants: pid, state, where in the kernel each waits, command."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found = path.read_text().split()
        except OSError:
            continue
        for child in found:
            at = Path("/proc", child)
            try:
                state = (at / "stat").read_text().rpartition(") ")[2][:1]
                command = (at / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                yield f"{child} {state} {(at / 'wchan').read_text()} {command[:200]}"
            except OSError:
                continue
            yield from children(int(child))

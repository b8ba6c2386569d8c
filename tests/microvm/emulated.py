"""One daemon that gives virtual machines, for the whole run of tests: its first ones boot while other tests go on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Final

import pytest

from supervisor.attack.network import RULES
from tests.daemon import image_path
from tests.internet import Online, open_internet, starting_online
from tests.microvm.hypervisor import NoMachines, chosen, program, why_no_emulation

SETTINGS: Final = {
    "GAOLER_MICROVM_ENABLED": "true",
    "GAOLER_MICROVM_WAITING": "2",
    "GAOLER_MICROVM_MAX": "6",
    "GAOLER_MICROVM_MEMORY_BUDGET_MIB": "12288",
}
PATIENCE_SECONDS: Final = 300.0
"""An emulated machine boots in eight seconds on a quiet host, and in forty on one with other work."""
_stack: Final = pytest.StashKey[ExitStack]()
_starting: Final = pytest.StashKey[Callable[[], Online]]()
_refusal: Final = pytest.StashKey[tuple[bool, str]]()
"""Why there is none, and whether somebody has asked for one."""


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the daemon if a test is selected that wants it."""
    wanted = any(item.get_closest_marker("emulated") for item in session.items)
    if not wanted or os.geteuid() != 0 or session.config.option.collectonly:
        return
    try:
        hypervisor = chosen(image_path())
    except NoMachines as error:
        session.config.stash[_refusal] = (True, str(error))
        return
    lacking = why_no_emulation() if hypervisor == "qemu" else ""
    if lacking:
        session.config.stash[_refusal] = (False, lacking)
        return
    stack = session.config.stash[_stack] = ExitStack()
    internet = stack.enter_context(open_internet())
    session.config.stash[_starting] = stack.enter_context(
        starting_online(image_path(), internet, {"e": RULES}, SETTINGS, program(hypervisor))
    )


def pytest_unconfigure(config: pytest.Config) -> None:
    """End it if no test has come to that."""
    if (stack := config.stash.get(_stack, None)) is not None:
        stack.close()


@pytest.fixture(scope="session")
def emulated(request: pytest.FixtureRequest) -> Iterator[Online]:
    """The daemon, in a little internet of its own. Who uses it is marked ``emulated``."""
    stash = request.config.stash
    if (refusal := stash.get(_refusal, None)) is not None:
        asked, why = refusal
        if asked:
            pytest.fail(why)
        pytest.skip(why)
    daemon = stash[_starting]()
    daemon.patience = PATIENCE_SECONDS
    yield daemon
    daemon.stop()
    stash[_stack].close()

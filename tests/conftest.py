"""What tests share: one real daemon for the session, the runtime image, and a look at what the host holds."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from supervisor.jailer.cgroup_subtree import remove_subtree
from tests.daemon import Daemon, daemon_with, end_daemons, image_path
from tests.microvm.emulated import emulated, pytest_collection_finish, pytest_unconfigure
from tests.own_root import own_image
from tests.s3_server import s3_server
from tests.time_limit import pytest_runtest_call, pytest_runtest_setup, pytest_runtest_teardown

__all__ = [
    "emulated",
    "pytest_collection_finish",
    "pytest_runtest_call",
    "pytest_runtest_setup",
    "pytest_runtest_teardown",
    "pytest_unconfigure",
    "s3_server",
]

# How long an example takes says something about who else works on the machine.
settings.register_profile("explore", deadline=None)
# The gate says the same of the same tree, whoever runs it; examples that were never tried are for "make explore".
settings.register_profile("gaoler", deadline=None, derandomize=True)
settings.load_profile("gaoler")

# A shell's background job is begun deaf to what a terminal sends, and whatever it begins is too; tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if item.get_closest_marker("root"):
                item.add_marker(pytest.mark.skip(reason="needs root to make sandboxes"))


@pytest.fixture(scope="session")
def image_dir() -> Path:
    path = image_path()
    assert (path / "current").exists(), f"no runtime image in {path}: run 'make test', which builds it"
    return path


@pytest.fixture(scope="session")
def own_dir(image_dir: Path) -> Path:
    """The directory of an image with a root of its own, which is made at the first time."""
    return own_image(image_dir)


@pytest.fixture
def state_dir() -> Iterator[Path]:
    """A short path (a unix socket goes into it), removed with its cgroups afterwards."""
    path = Path(tempfile.mkdtemp(prefix="gt-"))
    path.chmod(0o755)
    yield path
    end_daemons(path)
    remove_subtree(path)
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def daemon(image_dir: Path) -> Iterator[Daemon]:
    """A daemon as an operator would run it, for all tests that do not harm it.

    With ``GAOLER_TEST_FRONT=fleet`` a whole fleet: three workers, and two gateways that take turns, connection by
    connection; with ``gateway`` the first of them alone, for clients that stay where they are.
    """
    front = os.environ.get("GAOLER_TEST_FRONT", "")
    if not front:
        with daemon_with(image_dir, {}) as running:
            yield running
        return
    from tests.fleet_world import run_fleet

    with run_fleet() as fleet:
        fleet.start("worker", "w1", "w2", "w3")
        gateways = fleet.start("gateway", "g1", "g2")
        for gateway in gateways:
            fleet.wait_workers(gateway, 3)
        yield fleet.front() if front == "fleet" else fleet.front(gateways[:1])

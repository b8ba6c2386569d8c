"""A guest whose kernel is the attacker's: what it reaches of the host, and what its end leaves behind."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor.jailer.cgroup_subtree import remove_subtree
from tests.daemon import Daemon, end_daemons, eventually, spawn_daemon, wait_listening
from tests.microvm.hypervisor import why_no_emulation
from tests.microvm.taken_guest import VICTIM

pytestmark = pytest.mark.root
ATTACKS = 9
SETTINGS = {"GAOLER_MICROVM_ENABLED": "true", "GAOLER_MICROVM_WAITING": "1"}
PROGRAM = (sys.executable, "-m", "tests.microvm.taken")


def removed(state: Path) -> bool:
    """Remove the cgroups; while memory of a machine is given back, that is refused."""
    try:
        remove_subtree(state)
    except OSError:
        return False
    return True


@contextmanager
def taken_over(image_dir: Path, vcpus: int) -> Iterator[tuple[Daemon, object]]:
    """Have a machine live and die; give the daemon and what was answered."""
    if lacking := why_no_emulation():
        pytest.skip(lacking)
    state = Path(tempfile.mkdtemp(prefix="gt-"))
    state.chmod(0o755)
    try:
        process = spawn_daemon(
            state, image_dir, settings={**SETTINGS, "GAOLER_MICROVM_VCPUS": str(vcpus)}, program=PROGRAM
        )
        daemon = Daemon(process, state, wait_listening(process, state), patience=300.0)
        answer = daemon.try_execute("echo never", "bash", tier="microvm")
        yield daemon, answer.json
        daemon.stop()
    finally:
        end_daemons(state)
        eventually(lambda: removed(state))
        shutil.rmtree(state)


def test_nothing_of_the_host_is_reached_by_the_root_of_a_guest(image_dir: Path) -> None:
    with taken_over(image_dir, vcpus=1) as (daemon, _answer):
        outcomes = dict(re.findall(r"TAKEN (.+?): (.+)", daemon.log_path.read_text(errors="replace")))
    assert len(outcomes) == ATTACKS, outcomes
    assert {name: outcome for name, outcome in outcomes.items() if not outcome.startswith("contained")} == {}
    victim = Path(VICTIM).stat()
    assert (victim.st_mode & 0o7777, victim.st_mtime > 0, victim.st_size > 0) == (0o755, True, True)
    assert not Path("/usr/taken").exists()


def test_a_panic_ends_the_machine_with_a_reason_and_nobody_else(image_dir: Path) -> None:
    with taken_over(image_dir, vcpus=2) as (daemon, answer):
        assert "did not boot" in str(answer)
        log = daemon.log_path.read_text(errors="replace")
        assert re.search(r"virtual machine lost reason=.*ended with status 0, which proves nothing", log)
        assert daemon.execute("echo fine", "bash")["stdout"] == "fine\n"

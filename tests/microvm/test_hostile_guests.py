"""What a guest says and does that has broken out of everything but the jail of its machine: nobody else is harmed.

The program in that jail is :mod:`tests.microvm.hostile_guest`; daemon, jailer, jail, policy and filter are the product's.
After each attack: the reason is in the log and not in the answer, the jailer is the same, other sessions go on, among
them one in another machine, a new machine can be had, and the host holds what it held before.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from supervisor.jailer.cgroup_subtree import remove_subtree
from tests.daemon import KEY, Daemon, descendants, end_daemons, eventually, process_name, started, wait_listening
from tests.microvm import hostile_guest
from tests.supervisor.test_leaks import STEADY, holdings, whole

pytestmark = pytest.mark.root
LOST = {"error": "sandbox_failed", "message": "the sandbox was lost"}
NOT_BOOTED = {
    "error": "sandbox_failed",
    "message": "no sandbox of tier microvm: no virtual machine: it did not boot, and the log says why",
}
CELLS = 4
"""That wait, see ``STEADY``; and one machine."""
GROWTH_BYTES = 32 << 20

RUNS = {
    "garbage": r"bad frame header|frame of kind|bad frame",
    "four gigabytes": r"bad frame header: length 4294967295",
    "an unknown channel": r"frame of kind 2 for unknown channel 999999",
    "a channel of its own": r"frame of kind 1 for unknown channel 4000000000",
    "channel zero": r"frame of kind 1 for unknown channel 0",
    "an unknown kind": r"bad frame: kind 77|unknown channel",
    "data that nobody announced": r"data from the guest that were not announced",
    "credit that was never used": r"credit for bytes that were never sent",
    "more than the window": r"data from the guest that were not announced|overrun",
    "no message": r"the guest breaks the protocol",
    "endless output": r"output from the guest that its jailer would not have let through",
    "endless empty output": r"output from the guest that its jailer would not have let through",
    "a fault with ugly words": r"the guest's jailer has lost the jail",
    "two ends": r"Ended from the guest, where something else was due",
    "a manifest in place of the end": r"Manifest from the guest, where something else was due",
    "ends before it runs": r"Ended from the guest, where something else was due",
    "a terabyte": r"the guest announces 1099511627776 bytes, where at most \d+ can be",
    "more than announced": r"data from the guest that were not announced",
    "closes its port": r"the virtual machine ended with status 0, which proves nothing",
    "crashes": r"the virtual machine was ended by SIGSEGV",
    "floods its logs": r"the virtual machine prints without end",
    "eats memory": r"the virtual machine needed more memory than it may have",
    "forks": r"the virtual machine ended with status 9",
}
STARTS = {
    "greets wrongly": r"the guest greets with b'HTTP",
    "greets drop by drop": r"the guest greets with|the guest was not ready in 5 s",
    "says nothing": r"the guest was not ready in 5 s",
    "never begins": r"the guest was not ready in 5 s",
    "ends at once": r"the virtual machine ended with status 0",
    "fails with ugly words": r"the guest cannot begin: ",
    "fails at length": r"the guest breaks the protocol",
    "begins in no language": r"the guest breaks the protocol",
}


@dataclass
class Hostile:
    """A daemon whose guests are hostile when they are told to be."""

    daemon: Daemon
    directory: Path
    before: dict[str, object] = field(default_factory=dict)

    def run(self, scenario: str) -> dict[str, object]:
        answer = self.daemon.try_execute(f"# hostile: {scenario}\n", "py", tier="microvm")
        found: dict[str, object] = answer.json
        assert (answer.status == 200) == ("error" not in found) or answer.body.startswith(b" "), answer.body
        return found

    def start_as(self, scenario: str) -> None:
        (self.directory / "scenario").write_text(scenario)

    def log_since(self, mark: int) -> str:
        return self.daemon.log_path.read_text()[mark:]

    def await_log(self, mark: int, pattern: str) -> None:
        """Wait until the log says it: why a machine has ended may be known after who asked has an answer."""
        try:
            eventually(lambda: re.search(pattern, self.log_since(mark)) is not None)
        except AssertionError:
            raise AssertionError(pattern, self.log_since(mark)) from None

    @property
    def mark(self) -> int:
        return len(self.daemon.log_path.read_text())

    def machines(self) -> list[int]:
        """Give the processes in the jails of machines."""
        found = []
        for pid in descendants(self.daemon.named("gaoler-jailer")):
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if b"hostile_guest.py" in line and process_name(pid) != "catatonit":
                found.append(pid)
        return found

    def holdings(self) -> dict[str, object]:
        """Tell what the daemon holds of the host; what others do on the host meanwhile is left out."""
        return {name: held for name, held in holdings(self.daemon).items() if name != "mounts of the host"}

    def wait_for(self, right: Callable[[list[dict[str, object]]], bool]) -> dict[str, object]:
        """Look at the holdings until all looks together are right; give the last."""
        found: list[dict[str, object]] = []

        def look() -> bool:
            try:
                found.append(self.holdings())
            except (FileNotFoundError, ProcessLookupError):  # of a process that ended between two looks
                return False
            return right(found)

        try:
            eventually(look)
        except AssertionError:
            raise AssertionError(found[-1], self.before, self.machines(), self.log_since(0)[-2000:]) from None
        return found[-1]

    def at_rest(self, machines: int) -> dict[str, object]:
        """Wait until all cells and so many machines are there, and nothing moves; give what is held."""

        def steady(found: list[dict[str, object]]) -> bool:
            jails, processes = CELLS + machines, cast("Counter[str]", found[-1]["processes"])
            return found[-1]["cgroups"] == jails and whole(processes, jails) and found[-8:] == [found[-1]] * 8

        return self.wait_for(steady)


@contextmanager
def hostile_daemon(image: Path, settings: Mapping[str, str]) -> Iterator[Hostile]:
    state, directory = (Path(tempfile.mkdtemp(prefix=prefix)) for prefix in ("gt-", "gh-"))
    for each in (state, directory):
        each.chmod(0o755)
    shutil.copy(hostile_guest.__file__, directory)
    (directory / "scenario").write_text("honest")
    environment = {
        "PATH": os.environ["PATH"],
        "GAOLER_API_KEY": KEY,
        "GAOLER_IMAGE_DIR": str(image),
        "GAOLER_STATE_DIR": str(state),
        "GAOLER_BIND": "127.0.0.1:0",
        "GAOLER_MICROVM_ENABLED": "true",
        "GAOLER_MICROVM_MAX": "4",
        "GAOLER_RATES_EXEC": "off",
        "HOSTILE_DIRECTORY": str(directory),
        **STEADY,
        **settings,
    }
    try:
        with (state / "test.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.microvm.hostile", "serve"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                text=True,
            )
        started.append((state, process))
        daemon = Daemon(process, state, wait_listening(process, state))
        yield Hostile(daemon, directory)
        daemon.stop()
    finally:
        end_daemons(state)
        remove_subtree(state)
        shutil.rmtree(state)
        shutil.rmtree(directory)


@pytest.fixture(scope="module")
def hostile(image_dir: Path) -> Iterator[Hostile]:
    with hostile_daemon(image_dir, {}) as running:
        yield running


class Neighbour:
    """A lasting session in a machine of its own, which counts what it has run."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._session: str | None = None
        self._runs = 0

    def works(self) -> None:
        fields = {} if self._session is None else {"session_id": self._session}
        answer = self._daemon.execute("1", stateful=True, tier="microvm", **fields)
        self._session = answer["session_id"]
        self._runs += 1
        assert answer["stdout"] == f"honest {self._runs}\n", answer


@pytest.fixture(scope="module")
def neighbour(hostile: Hostile) -> Neighbour:
    found = Neighbour(hostile.daemon)
    for lang, tier in (("py", "nsjail"), ("bash", "nsjail"), ("py", "microvm"), ("bash", "microvm")):
        hostile.daemon.execute("true" if lang == "bash" else "1", lang, tier=tier)
    found.works()
    hostile.before = hostile.at_rest(machines=2)
    return found


@contextmanager
def nobody_is_harmed(hostile: Hostile, neighbour: Neighbour) -> Iterator[None]:
    jailer, started_with = hostile.daemon.named("gaoler-jailer"), resident(hostile)
    yield
    assert hostile.daemon.execute("echo fine", "bash")["stdout"] == "fine\n"
    neighbour.works()
    assert hostile.run("")["stdout"] == "honest 1\n"
    assert hostile.daemon.named("gaoler-jailer") == jailer
    hostile.wait_for(lambda found: found[-1] == hostile.before)
    assert resident(hostile) < started_with + GROWTH_BYTES


def resident(hostile: Hostile) -> int:
    """Bytes of daemon and jailer."""
    found = 0
    for pid in (hostile.daemon.process.pid, hostile.daemon.named("gaoler-jailer")):
        found += int(re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[0]) << 10
    return found


@pytest.mark.parametrize("scenario", RUNS)
def test_an_execution_in_a_hostile_machine_is_lost_alone(scenario: str, hostile: Hostile, neighbour: Neighbour) -> None:
    mark = hostile.mark
    with nobody_is_harmed(hostile, neighbour):
        assert LOST.items() <= hostile.run(scenario).items()
        hostile.await_log(mark, RUNS[scenario])
        assert "\x1b" not in hostile.log_since(mark)


def test_a_machine_that_stops_answering_is_lost_alone(hostile: Hostile, neighbour: Neighbour) -> None:
    mark = hostile.mark
    with nobody_is_harmed(hostile, neighbour):
        assert LOST.items() <= hostile.run("answers nothing any more").items()
        hostile.await_log(mark, "the guest does not set its clock")


def test_names_that_a_hostile_guest_lists_lead_nowhere(hostile: Hostile, neighbour: Neighbour) -> None:
    with nobody_is_harmed(hostile, neighbour):
        answer = hostile.run("hostile names")
        kept = {each["name"] for each in answer["files"]}  # type: ignore[attr-defined]
        assert kept
        assert all(re.fullmatch(r"many-\d+", name) for name in kept), kept


@pytest.mark.parametrize(("scenario", "said"), [("late words", r"flooded\n"), ("crumbs", r"\.{6000,}")])
def test_while_a_guest_floods_us_with_small_frames_others_are_served(
    scenario: str, said: str, hostile: Hostile, neighbour: Neighbour
) -> None:
    with nobody_is_harmed(hostile, neighbour):
        answers: list[dict[str, object]] = []
        flood = threading.Thread(target=lambda: answers.append(hostile.run(scenario)))
        enough = hostile.directory / "enough"
        flood.start()
        served = 0
        try:
            while flood.is_alive():
                assert hostile.daemon.execute("echo fine", "bash")["stdout"] == "fine\n"
                served += 1
                if served > 1:
                    enough.touch()
        finally:
            enough.touch()
            flood.join()
            enough.unlink()
        assert served > 1
        assert re.fullmatch(rf"{said}honest 1\n", str(answers[0]["stdout"])), answers


@pytest.mark.parametrize("scenario", STARTS)
def test_a_machine_that_does_not_start_as_it_should_is_given_to_nobody(
    scenario: str, hostile: Hostile, neighbour: Neighbour
) -> None:
    with nobody_is_harmed(hostile, neighbour):
        mark = hostile.mark
        hostile.start_as(scenario)
        try:
            # Who waits already has started honestly.
            eventually(lambda: NOT_BOOTED.items() <= hostile.run("").items())
        finally:
            hostile.start_as("honest")
        hostile.await_log(mark, STARTS[scenario])
        assert "\x1b" not in hostile.log_since(mark)
        eventually(lambda: "error" not in hostile.run(""))


def test_a_killed_jailer_takes_its_machines_with_it(hostile: Hostile, neighbour: Neighbour) -> None:
    # Who is just being executed has no command line yet.
    eventually(lambda: len(hostile.machines()) == 2)
    machines = hostile.machines()
    os.kill(hostile.daemon.named("gaoler-jailer"), signal.SIGKILL)
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in machines))
    eventually(lambda: "error" not in hostile.run(""))
    assert hostile.daemon.execute("echo fine", "bash")["stdout"] == "fine\n"


@pytest.fixture(scope="module")
def online(image_dir: Path) -> Iterator[Hostile]:
    with hostile_daemon(image_dir, {"GAOLER_EXECUTION_POLICY": "packages"}) as running:
        yield running


def test_what_a_hostile_guest_wants_of_the_network_it_gets_nowhere(online: Hostile) -> None:
    jailer = online.daemon.named("gaoler-jailer")
    answer = online.run("wants")
    assert answer["stdout"] == f"{2 * len(hostile_guest.ADDRESSES)} refused\nhonest 1\n"
    assert online.daemon.named("gaoler-jailer") == jailer


def test_connections_that_a_guest_never_lets_go_of_cost_it_its_machine(online: Hostile) -> None:
    jailer, mark = online.daemon.named("gaoler-jailer"), online.mark
    assert LOST.items() <= online.run("wants for ever").items()
    online.await_log(mark, "1024 channels are open already")
    assert online.run("")["stdout"] == "honest 1\n"
    assert online.daemon.named("gaoler-jailer") == jailer

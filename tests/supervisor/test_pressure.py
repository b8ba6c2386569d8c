"""The daemon sheds load before its host suffers: what is decided, and that a real one does it and recovers."""

from __future__ import annotations

import logging
import os
import signal
import threading
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from supervisor.admission.admission import Admission
from supervisor.admission.fair_queue import QueueLimits
from supervisor.admission.host import HostView, cgroup_room, memory_cgroups, own_cgroup, parse_meminfo, parse_stalls
from supervisor.admission.pressure import RELIEF, HostLimits, Pressure, Reading, is_tight, shortages
from supervisor.errors import Overloaded
from supervisor.execution.values import Principal
from supervisor.jailer import kernel
from supervisor.metrics.sources import of_pressure
from tests.daemon import Answer, daemon_with, eventually, start_daemon
from tests.mcp import connected

MIB, GIB = 1 << 20, 1 << 30
LIMITS = HostLimits(
    free_memory_bytes=256 * MIB,
    free_memory_percent=2.0,
    memory_stall_percent=40.0,
    free_disk_bytes=512 * MIB,
    free_disk_inodes=1000,
)
PLENTY = Reading(16 * GIB, 8 * GIB, 0.0, 100 * GIB, 1_000_000)
NONE: frozenset[str] = frozenset()


def settings_of(reading: Reading, limits: HostLimits = LIMITS, before: frozenset[str] = NONE) -> set[str]:
    return {each.setting.removeprefix("host.") for each in shortages(reading, limits, before)}


@pytest.mark.parametrize(
    ("reading", "short"),
    [
        (PLENTY, set()),
        (Reading(16 * GIB, 300 * MIB, 0.0, GIB, 5000), {"free_memory_percent"}),
        (Reading(4 * GIB, 200 * MIB, 0.0, GIB, 5000), {"free_memory_bytes"}),
        (Reading(16 * GIB, 100 * MIB, 0.0, GIB, 5000), {"free_memory_bytes", "free_memory_percent"}),
        # Stalls count when memory is tight, and not when a sandbox fights with its own limit on an idle host.
        (Reading(16 * GIB, 8 * GIB, 99.0, GIB, 5000), set()),
        (Reading(16 * GIB, 500 * MIB, 99.0, GIB, 5000), {"memory_stall_percent"}),
        (Reading(16 * GIB, 500 * MIB, 39.0, GIB, 5000), set()),
        (Reading(16 * GIB, 500 * MIB, None, GIB, 5000), set()),
        (Reading(16 * GIB, 8 * GIB, 0.0, 511 * MIB, 5000), {"free_disk_bytes"}),
        (Reading(16 * GIB, 8 * GIB, 0.0, GIB, 999), {"free_disk_inodes"}),
        (Reading(16 * GIB, 8 * GIB, 0.0, GIB, None), set()),
    ],
)
def test_what_is_short(reading: Reading, short: set[str]) -> None:
    assert settings_of(reading) == short


def test_a_limit_of_zero_is_not_watched() -> None:
    nothing = Reading(GIB, 0, 100.0, 0, 0)
    assert settings_of(nothing, HostLimits(0, 0.0, 100.0, 0, 0)) == set()


readings = st.builds(
    Reading,
    total_memory_bytes=st.integers(1, 1 << 44),
    free_memory_bytes=st.integers(0, 1 << 44),
    stalled_percent=st.none() | st.floats(0, 100),
    free_disk_bytes=st.integers(0, 1 << 44),
    free_disk_inodes=st.none() | st.integers(0, 1 << 32),
)
limits = st.builds(
    HostLimits,
    free_memory_bytes=st.integers(0, 1 << 44),
    free_memory_percent=st.floats(0, 100),
    memory_stall_percent=st.floats(0.1, 100),
    free_disk_bytes=st.integers(0, 1 << 44),
    free_disk_inodes=st.integers(0, 1 << 32),
)
ALL = frozenset(f"host.{name}" for name in HostLimits.__slots__)


@given(readings, limits)
def test_what_was_short_stays_short_at_least_as_long(reading: Reading, limits: HostLimits) -> None:
    assert settings_of(reading, limits) <= settings_of(reading, limits, ALL)
    assert is_tight(reading, limits, before=True) or not is_tight(reading, limits, before=False)


@given(readings, limits)
def test_who_is_short_of_memory_has_given_back_what_only_saves_time(reading: Reading, limits: HostLimits) -> None:
    if settings_of(reading, limits) & {"free_memory_bytes", "free_memory_percent"}:
        assert is_tight(reading, limits, before=False)


@given(st.lists(st.integers(0, 1000), max_size=30))
def test_it_does_not_flap_between_its_two_borders(free: list[int]) -> None:
    """Between the border and its relief the answer is always the one before."""
    limits = HostLimits(500, 0.0, 100.0, 0, 0)
    pressure = Pressure(limits)
    short = False
    for value in free:
        pressure.note(Reading(1000, value, None, 1, None))
        short = value < 500 or (short and value < 500 * RELIEF)
        assert bool(pressure.shortages) is short


@given(readings, limits)
def test_a_reading_without_bounds_always_recovers(reading: Reading, limits: HostLimits) -> None:
    """There is no border from which nothing leads back; the percentage alone may ask for more than there can be."""
    best = Reading(1 << 50, 1 << 50, 0.0, 1 << 50, 1 << 40)
    if limits.free_memory_percent * RELIEF <= 100:
        pressure = Pressure(limits)
        pressure.note(reading)
        pressure.note(best)
        assert pressure.shortages == ()


def test_each_change_is_one_line_and_refusals_are_only_counted(caplog: pytest.LogCaptureFixture) -> None:
    pressure = Pressure(LIMITS)
    with caplog.at_level(logging.INFO, "gaoler.pressure"):
        for _ in range(5):
            pressure.note(Reading(16 * GIB, 8 * GIB, 0.0, 0, None))
            for _ in range(100):
                with pytest.raises(Overloaded) as caught:
                    pressure.check()
        pressure.note(PLENTY)
        pressure.check()
    assert "short of disk" in caught.value.message
    assert "host.free_disk_bytes" in caught.value.message
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "shedding load",
        "no longer shedding load",
    ]
    assert pressure.refused == {"disk": 500}


async def test_who_waits_in_the_queue_when_it_gets_short_is_refused_and_what_goes_on_is_not() -> None:
    pressure = Pressure(LIMITS)
    admission = Admission(QueueLimits(1, 1, 5, 5), pressure, queue_seconds=60)
    ann, outcomes = Principal("t", "key", "ann"), []

    async def work(*, goes_on: bool) -> None:
        try:
            async with admission.place(ann, goes_on=goes_on):
                outcomes.append((goes_on, "ran"))
        except Overloaded:
            outcomes.append((goes_on, "refused"))

    async with trio.open_nursery() as nursery:
        async with admission.place(ann):
            for goes_on in (False, True):
                nursery.start_soon(partial(work, goes_on=goes_on))
                await trio.testing.wait_all_tasks_blocked()
            pressure.note(Reading(16 * GIB, 8 * GIB, 0.0, 0, None))
    assert outcomes == [(False, "refused"), (True, "ran")]
    assert (admission.running, admission.waiting) == (0, 0)


async def test_a_host_that_cannot_be_looked_at_is_told_once(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    pressure = Pressure(LIMITS)
    looks = 0

    def look() -> Reading:
        nonlocal looks
        looks += 1
        if looks in (2, 3, 4):
            raise OSError("gone")
        return Reading(16 * GIB, 8 * GIB, 0.0, 0, None)

    async with trio.open_nursery() as nursery:
        await nursery.start(pressure.watch, look)
        while looks < 6:
            assert pressure.shortages
            await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert [record.levelname for record in caplog.records].count("ERROR") == 1


def test_the_files_of_the_kernel_are_read_as_it_writes_them(tmp_path: Path) -> None:
    assert parse_meminfo("MemTotal:  100 kB\nMemAvailable: 7 kB\nHugePages_Total:  3\n") == {
        "MemTotal": 102_400,
        "MemAvailable": 7168,
        "HugePages_Total": 3,
    }
    assert parse_stalls("some avg10=1.50 avg60=0.00\nfull avg10=0.25 avg60=0.00 total=5\n") == 0.25
    assert parse_stalls("some avg10=1.50\n") is None
    for name, text in (("max", "1000"), ("current", "900"), ("stat", "anon 5\ninactive_file 50\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert cgroup_room(tmp_path) == 150
    (tmp_path / "memory.max").write_text("max\n")
    assert cgroup_room(tmp_path) is None
    assert cgroup_room(tmp_path / "absent") is None
    old = tmp_path / "v1"
    old.mkdir()
    for name, text in (("limit_in_bytes", "1000"), ("usage_in_bytes", "1100"), ("stat", "total_inactive_file 7\n")):
        (old / f"memory.{name}").write_text(text)
    assert cgroup_room(old) == 0


def test_every_cgroup_around_us_counts() -> None:
    mount = Path("/sys/fs/cgroup")
    found = memory_cgroups(mount / "unit/gaoler-1", mount, "/unit/supervisor")
    assert set(found) == {mount, mount / "unit", mount / "unit/gaoler-1", mount / "unit/supervisor"}
    assert own_cgroup("4:memory:/a\n3:cpu,cpuacct:/c\n0::/b\n", unified=False) == "/a"
    assert own_cgroup("4:memory:/a\n0::/b\n", unified=True) == "/b"


def test_this_host_can_be_looked_at(tmp_path: Path) -> None:
    reading = HostView(tmp_path).look()
    assert 0 < reading.free_memory_bytes <= reading.total_memory_bytes
    assert reading.free_disk_bytes > 0


def test_the_figures_say_what_is_short_and_what_was_refused() -> None:
    pressure = Pressure(LIMITS)
    pressure.note(Reading(16 * GIB, 8 * GIB, 0.0, 0, None))
    with pytest.raises(Overloaded):
        pressure.check()
    found = {(each.name, *each.labels): each.value for each in of_pressure(pressure)}
    assert found["gaoler_shedding", "memory"] == 0
    assert found["gaoler_shedding", "disk"] == 1
    assert found["gaoler_shed_total", "disk"] == 1
    assert found["gaoler_memory_free_bytes",] == 8 * GIB
    assert ("gaoler_disk_free_inodes",) not in found


# ---- a real daemon ----

SHORT = {"GAOLER_HOST_FREE_MEMORY_BYTES": str(1 << 49)}


@pytest.mark.root
async def test_a_daemon_that_is_short_of_memory_refuses_at_every_door_and_gives_its_cells_back(image_dir: Path) -> None:
    with daemon_with(image_dir, SHORT) as daemon:
        for answer in (
            daemon.try_execute("print(1)"),
            daemon.try_execute("print(1)", runtime_session_hint="v2:user:abc"),
            daemon.upload(("a.txt", b"text")),
            daemon.multipart("/v1/upload/batch", ("a.txt", b"text")),
        ):
            assert answer.status == 503, answer.body
            assert int(answer.headers["Retry-After"]) >= 1
            assert answer.json["error"] == "overloaded"
            assert "memory" in answer.json["message"]
            assert "host.free_memory_bytes" in answer.json["message"]
        async with connected(daemon) as agent:
            for tool, arguments in (
                ("execute_code", {"code": "print(1)"}),
                ("write_file", {"path": "a.txt", "text": "a"}),
            ):
                refusal = (await agent.call(tool, **arguments)).refusal
                assert "short of memory" in refusal
                assert "try again in" in refusal
        health = daemon.request("GET", "/health", key=None)
        assert (health.status, health.json["status"]) == (200, "shedding: memory")
        ready = daemon.request("GET", "/ready", key=None)
        assert (ready.status, ready.json["ready"]) == (503, False)
        missing = [each for each in ready.json["checks"] if not each["ok"]]
        assert [each["name"] for each in missing] == ["memory"]
        assert "host.free_memory_bytes" in missing[0]["reason"]
        eventually(lambda: "nsjail" not in daemon.names() and "catatonit" not in daemon.names())
        assert sum("shedding load" in line for line in daemon.lines()) == 1
        assert not [path for path in (daemon.state_dir / "data" / "blobs").rglob("*") if path.is_file()]


@pytest.mark.root
def test_a_daemon_whose_disk_fills_finishes_what_runs_and_works_again_when_there_is_room(
    image_dir: Path, state_dir: Path
) -> None:
    data = state_dir / "data"
    data.mkdir()
    kernel.mount("small", data, "tmpfs", 0, "size=64m,mode=700,uid=199999,gid=199999")
    settings = {
        "GAOLER_HOST_FREE_DISK_BYTES": str(16 * MIB),
        "GAOLER_HOST_FREE_DISK_INODES": "0",
        "GAOLER_FILES_RESERVE_BYTES": "0",
    }
    try:
        daemon = start_daemon(state_dir, image_dir, settings=settings)
        kept = daemon.upload(("kept.txt", b"kept")).json
        answers: list[Answer] = []
        code = (
            "import ctypes, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
            "ctypes.CDLL(None).prctl(15, b'runs-on', 0, 0, 0)\nsignal.sigwait([signal.SIGUSR1])\n"
            "open('late.txt', 'w').write('late')\nprint('done')"
        )
        running = threading.Thread(target=lambda: answers.append(daemon.try_execute(code)))
        running.start()
        # By a name of its own: what waits for a program is an interpreter too.
        eventually(lambda: "runs-on" in daemon.names())
        (data / "ballast").write_bytes(bytes(56 * MIB))
        eventually(lambda: daemon.request("GET", "/health", key=None).json["status"] == "shedding: disk")
        refused = daemon.upload(("a.txt", b"text"))
        assert (refused.status, refused.json["error"]) == (503, "overloaded")
        assert "host.free_disk_bytes" in refused.json["message"]
        assert daemon.try_execute("print(1)").status == 503
        os.kill(daemon.named("runs-on"), signal.SIGUSR1)
        running.join()
        assert answers[0].status == 200, answers[0].body
        assert [each["name"] for each in answers[0].json["files"]] == ["late.txt"]
        file = kept["files"][0]["fileId"]
        assert daemon.request("GET", f"/v1/download/{kept['session_id']}/{file}").body == b"kept"
        assert daemon.request("DELETE", f"/v1/files/{kept['session_id']}/{file}").status == 200
        (data / "ballast").unlink()
        eventually(lambda: daemon.request("GET", "/health", key=None).json["status"] == "ok")
        assert daemon.upload(("a.txt", b"text")).status == 200
        assert daemon.execute("print(1)")["stdout"] == "1\n"
        daemon.stop()
    finally:
        kernel.unmount(data)

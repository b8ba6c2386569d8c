"""Who has which rights after start, what the kernel cleans up, and what the next start does."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from supervisor.jailer.cgroup_subtree import mount_points, subtree_name
from tests.daemon import Daemon, descendants, eventually, process_name, spawn_daemon, start_daemon, wait_listening

pytestmark = pytest.mark.root
SLEEPER = "exec sleep 300"


# Without waiting cells what belongs to one execution can be told apart.
NOTHING_WAITS = {"GAOLER_CELLS_MEMORY_BYTES": "0"}


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def leaves(state_dir: Path) -> list[Path]:
    parents = [mount / subtree_name(state_dir) for mount in set(mount_points().values())]
    return [leaf for parent in parents if parent.is_dir() for leaf in parent.glob("jail-*") if leaf.is_dir()]


def in_use(daemon: Daemon, kind: str) -> int:
    """Count the namespaces that the daemon's family is in."""
    found: set[str] = set()
    for pid in daemon.family():
        try:
            found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
        except OSError:
            continue
    return len(found)


def running_execution(daemon: Daemon) -> tuple[threading.Thread, list[int]]:
    """Start an execution that sleeps; return when its program runs."""
    answers: list[int] = []

    def ask() -> None:
        try:
            answers.append(daemon.try_execute(SLEEPER, "bash").status)
        except OSError:
            answers.append(0)

    thread = threading.Thread(target=ask)
    thread.start()
    eventually(lambda: "sleep" in daemon.names())
    return thread, answers


def wait_until_gone(pids: list[int]) -> None:
    """The kernel kills at once and frees soon; the test's own time limit is the bound."""

    def gone(pid: int) -> bool:
        try:
            return status(pid)["State"][0] in "ZX"
        except (FileNotFoundError, ProcessLookupError):
            return True

    eventually(lambda: all(map(gone, pids)))


def test_no_process_of_ours_has_rights_over_the_host(daemon: Daemon) -> None:
    daemon.execute("print(1)")
    host_user_namespace = os.readlink("/proc/self/ns/user")
    for pid in daemon.family():
        try:
            found = status(pid)
            user_namespace = os.readlink(f"/proc/{pid}/ns/user")
            mapped = Path(f"/proc/{pid}/uid_map").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue  # what a cell was built with
        uids = set(found["Uid"].split())
        assert "0" not in uids, (pid, found["Name"], uids)
        capabilities = int(found["CapEff"], 16) | int(found["CapPrm"], 16)
        if user_namespace == host_user_namespace:
            assert capabilities == 0, (pid, found["Name"])
            assert int(found["CapBnd"], 16) == 0, (pid, found["Name"])
            assert found["NoNewPrivs"] == "1", (pid, found["Name"])
        else:
            # "root" of a user namespace that maps none of the host's own uids, or not yet any at all
            assert all(int(line.split()[1]) >= 200_000 for line in mapped), (pid, found["Name"])


def test_the_daemon_has_nothing_open_by_which_it_leaves_its_view_or_speaks_to_root(daemon: Daemon) -> None:
    descriptors = Path(f"/proc/{daemon.process.pid}/fd")
    locks = []
    for each in descriptors.iterdir():
        try:
            opened = each.readlink()
        except FileNotFoundError:
            continue  # a connection that is over
        # Above an open directory is all of the host.
        assert not each.is_dir(), opened
        if opened == daemon.state_dir / "lock":
            locks.append(each)
    (lock,) = locks
    flags = (descriptors.parent / "fdinfo" / lock.name).read_text().splitlines()[1].split()[1]
    # The next start as root removes the cgroups that it names.
    assert int(flags, 8) & os.O_ACCMODE == os.O_RDONLY


def test_only_the_proxy_is_in_the_network_of_the_host(daemon: Daemon) -> None:
    daemon.execute("print(1)")
    ours = os.readlink("/proc/self/ns/net")
    for pid in daemon.family():
        try:
            there, name = os.readlink(f"/proc/{pid}/ns/net"), status(pid)["Name"]
        except (FileNotFoundError, ProcessLookupError):
            continue
        # The keeper, with its helper, starts the proxy; neither reads anything of anybody's.
        assert there != ours or name in ("gaoler-keeper", "gaoler-parent", "gaoler-egress"), name


def test_an_address_that_is_taken_ends_the_start_with_a_line(image_dir: Path, state_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = spawn_daemon(state_dir, image_dir, settings={"GAOLER_BIND": address})
        assert process.wait(timeout=60) == 1
    last = (state_dir / "test.log").read_text().splitlines()[-1]
    assert last.startswith(f"gaoler: nobody can listen on {address}")


def sleepers(root: int) -> list[int]:
    return [pid for pid in descendants(root) if process_name(pid) == "sleep"]


def test_who_runs_one_program_is_as_confined_as_the_daemon(image_dir: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "GAOLER_IMAGE_DIR": str(image_dir)}
    command = [sys.executable, "-m", "supervisor", "run", "--lang", "bash", "-"]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:

        def confined() -> bool:
            for pid in descendants(process.pid):
                try:
                    found = status(pid)
                except (FileNotFoundError, ProcessLookupError):
                    continue
                if found["Seccomp"] == "2" and "199999" in found["Uid"].split():
                    return True
            return False

        assert process.stdin is not None
        process.stdin.write(b"sleep 300; echo done")
        process.stdin.close()
        try:
            eventually(confined)
            eventually(lambda: bool(sleepers(process.pid)))
        finally:
            # It runs until it has been looked at.
            for each in sleepers(process.pid):
                os.kill(each, signal.SIGKILL)
        assert process.stdout is not None
        assert process.stdout.read() == b"done\n"
        assert process.wait() == 0


def test_a_daemon_does_not_start_from_an_open_directory(image_dir: Path, state_dir: Path) -> None:
    process = spawn_daemon(state_dir, image_dir, prefix=["sh", "-c", 'exec "$@" 7</', "sh"])
    assert process.wait(timeout=60) == 78
    assert "descriptor 7 is the directory /" in (state_dir / "test.log").read_text()


def test_a_daemon_starts_under_the_umask_of_the_unit_that_we_ship(image_dir: Path, state_dir: Path) -> None:
    prefix = ["sh", "-c", 'umask 077; exec "$@"', "sh"]
    process = spawn_daemon(state_dir, image_dir, prefix=prefix)
    daemon = Daemon(process, state_dir, wait_listening(process, state_dir))
    assert daemon.execute("print(6 * 7)")["stdout"] == "42\n"
    daemon.stop()


def test_the_jailer_sees_nothing_of_the_host_but_what_it_needs(daemon: Daemon) -> None:
    root = Path(f"/proc/{daemon.named('gaoler-jailer')}/root")
    assert {"usr", "proc", "sandbox", "etc", "dev"} <= set(os.listdir(root))
    assert not set(os.listdir(root)) & {"home", "srv", "mnt", "boot", "sys", "media"}
    assert not (root / "etc" / "shadow").exists()
    assert not (root / str(daemon.state_dir).lstrip("/") / "data").exists()


def test_killing_the_jailer_leaves_no_process_mount_or_network_namespace(image_dir: Path, state_dir: Path) -> None:
    daemon = start_daemon(state_dir, image_dir, settings=NOTHING_WAITS)
    eventually(lambda: "gaoler-warm" in daemon.names())
    # Counted, not compared: the kernel gives the numbers of dead namespaces to new ones.
    idle = {kind: in_use(daemon, kind) for kind in ("mnt", "net", "pid", "user")}
    keeper = daemon.named("gaoler-keeper")
    thread, answers = running_execution(daemon)
    assert in_use(daemon, "net") > idle["net"]
    jailer = daemon.named("gaoler-jailer")
    inside = [jailer, *descendants(jailer)]
    assert len(inside) >= 4
    os.kill(jailer, signal.SIGKILL)
    wait_until_gone(inside)
    thread.join()
    # The client is told; the keeper starts a new jailer, which removes the empty cgroups; work goes on.
    assert answers == [503]
    assert daemon.execute("print(6 * 7)")["stdout"] == "42\n"
    assert daemon.named("gaoler-keeper") == keeper
    eventually(lambda: {kind: in_use(daemon, kind) for kind in idle} == idle)
    eventually(lambda: not leaves(state_dir))
    daemon.stop()


def test_killing_the_daemon_takes_everything_along_and_the_next_start_reconciles(
    image_dir: Path, state_dir: Path
) -> None:
    daemon = start_daemon(state_dir, image_dir, settings=NOTHING_WAITS)
    kept = daemon.execute("open('kept.txt', 'w').write('still here')")
    thread, answers = running_execution(daemon)
    family = daemon.family()
    daemon.process.kill()
    daemon.process.wait()
    wait_until_gone(family)
    thread.join()
    assert answers == [0]
    again = start_daemon(state_dir, image_dir, settings=NOTHING_WAITS)
    assert leaves(state_dir) == []
    session, file = kept["session_id"], kept["files"][0]["id"]
    assert again.request("GET", f"/v1/download/{session}/{file}").body == b"still here"
    again.stop()


def test_stopping_ends_a_running_execution_and_leaves_nothing(image_dir: Path, state_dir: Path) -> None:
    daemon = start_daemon(state_dir, image_dir, settings=NOTHING_WAITS)
    thread, _ = running_execution(daemon)
    family = daemon.family()
    daemon.stop()
    wait_until_gone(family)
    thread.join()
    assert leaves(state_dir) == []


def test_a_second_daemon_on_one_state_directory_is_refused(daemon: Daemon, image_dir: Path) -> None:
    before = daemon.family()
    second = subprocess.run(
        [sys.executable, "-m", "supervisor", "serve"],
        env={
            "PATH": os.environ["PATH"],
            "GAOLER_STATE_DIR": str(daemon.state_dir),
            "GAOLER_IMAGE_DIR": str(image_dir),
            "GAOLER_BIND": "127.0.0.1:0",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 78
    assert "another gaoler uses" in second.stderr
    assert daemon.execute("print(1)")["stdout"] == "1\n"
    assert daemon.named("gaoler-jailer") in before


def test_a_policy_that_does_not_compile_refuses_to_start(image_dir: Path, state_dir: Path, tmp_path: Path) -> None:
    policies = tmp_path / "policies"
    shutil.copytree(Path(__file__).resolve().parent.parent.parent / "policies", policies)
    (policies / "seccomp" / "default.kafel").write_text("POLICY p { ALLOW { no_such_call } } USE p DEFAULT KILL")
    process = spawn_daemon(state_dir, image_dir, settings={"GAOLER_JAILER_POLICY_DIR": str(policies)})
    assert process.wait(timeout=60) == 78
    text = (state_dir / "test.log").read_text()
    assert "no_such_call" in text
    assert "refuses to start" in text

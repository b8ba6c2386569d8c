"""Hostile programs of the containment suite in virtual machines, and what only a guest can try.

Programs run one after the other in one sandbox, for a machine for each would boot too long: each is a new process, and
the one stands last that leaves nothing of a sandbox. What has to be judged by its end is ``alone``. Programs that race
against the jailer by the clock (P1) are left to the host's own tier: an emulated processor loses such a race.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from supervisor.attack.case import Case
from supervisor.attack.programs import HERE, program_cases
from supervisor.attack.target import Target
from supervisor.attack.wire import Answer
from supervisor.jailer.cgroup_subtree import mount_points, subtree_name
from supervisor.policy import load_policies
from tests.containment.test_claims import target_of
from tests.daemon import ROOT, Daemon, eventually
from tests.internet import Online
from tests.microvm.emulated import SETTINGS
from tests.microvm.hypervisor import chosen, program

pytestmark = [pytest.mark.root, pytest.mark.emulated]

ONE_AFTER_THE_OTHER = (
    # the kernel's surface: here it is the guest's
    "k1_ptrace", "k2_process_vm", "k3_bpf_perf", "k4_userfaultfd", "k5_io_uring", "k6_keyrings", "k7_new_namespaces",
    "k8_clone3", "k9_setns", "k10_mounts", "k11_chroot", "k12_setuid", "k13_sockets", "k15_machine", "k16_memfd",
    "k17_terminal", "k18_proc", "k18_walk", "k19_sys_and_cgroups", "k20_devices", "k24_speculation", "k25_vmsplice",
    "seccomp_default", "status", "status_locked", "fs_root", "fs_ioctl", "network_admin", "k14_other_abi",
    # its network, which the host carries
    "e1_addresses", "e6_direct", "e22_nothing",
    # processes
    "p3_kill_everything", "p4_own_kill", "p14_hostile_exit", "p14_abort", "p15_forged_result",
    # resources
    "r8_descriptors", "r9_priority", "r13_ipc", "r6_file_size", "r4_stderr_flood", "r1_fork_bomb",
    "r2_memory",
)  # fmt: skip
ALONE = ("p4_subreaper", "r1_fork_bomb_shell")
CASES = {case.name: case for case in program_cases()}
MACHINES = ("qemu-system-x86_64", "supervisor.microvm.vmm")
PROGRAM_OF_A_GUEST = """
# What the guest's kernel has that a host's has not: ways to the host, and ways to end the machine from inside.
import fcntl
must_raise("sysrq", lambda: open("/proc/sysrq-trigger", "w"), EROFS, EACCES, EPERM, ENOENT)
for path in ("/dev/vport0p1", "/dev/vport0p0", "/dev/virtio-ports/agent", "/dev/hvc0", "/dev/console", "/dev/vsock"):
    must_raise(path, lambda: os.open(path, os.O_RDWR), ENOENT, EACCES)
for path in ("/guest", "/machine", "/opt/gaoler", "/sandbox", "/run/gaoler"):
    must_be(f"{path} is shown", os.path.exists(path) and bool(os.listdir(path)), False)
for family in (40, 16):
    must_raise(f"family {family}", lambda: socket.socket(family, socket.SOCK_STREAM))
# The host's root directory lies under it: neither a way up nor a change goes through.
for path in ("/usr/bin/../../../../../etc/shadow", "/proc/self/root/../etc/shadow", "/proc/1/root/../../etc/shadow"):
    must_raise(path, lambda: open(path, "rb"), ENOENT, EACCES)
for path in ("/usr/bin/planted", "/etc/planted", "/usr/lib/planted"):
    must_raise(path, lambda: os.open(path, os.O_WRONLY | os.O_CREAT), EROFS, EACCES, EPERM)
must_raise("chmod", lambda: os.chmod("/usr/bin/env", 0o4755), EROFS, EPERM)
must_raise("security attribute", lambda: os.setxattr("/usr/bin/env", "security.capability", b"x"), EROFS, EPERM, errno.ENOTSUP)
# libkrun takes an exit status by this request on the root; what we are told is never taken from there.
for path in ("/", "/usr", "/mnt/data"):
    directory = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(directory, 0x7602, 42)
    except OSError:
        pass
    os.close(directory)
done()
"""


class SharedSandbox(Target):
    """What is run there is run in one sandbox, in a virtual machine; Python by a process of its own."""

    async def try_execute(self, code: str, lang: str = "py", **fields: Any) -> Answer:
        if lang == "py":
            fields |= {"stdin": code}
            code, lang = 'exec python3 - "$@"', "bash"
        return await Target.try_execute(self, code, lang, tier="microvm", runtime_session_hint="hostile", **fields)


class OwnSandbox(Target):
    """What is run there is run in a virtual machine of its own."""

    async def try_execute(self, code: str, lang: str = "py", **fields: Any) -> Answer:
        return await Target.try_execute(self, code, lang, tier="microvm", **fields)


def online_target(kind: type[Target], daemon: Online) -> Target:
    plain = target_of(daemon)
    policy = load_policies(daemon.policies)["default"]
    found = kind(
        plain.address, plain.state_directory, plain.settings, policy, plain.languages, plain.ids,
        plain.me, plain.colleague, plain.stranger,
    )  # fmt: skip
    found.internet = daemon.internet
    return found


@pytest.fixture(scope="module")
def shared(emulated: Online) -> Iterator[Target]:
    # Whoever is the first waits for the boot, longer than an attack has time.
    begun = emulated.execute("uname -r", "bash", tier="microvm", runtime_session_hint="hostile", user="attack")
    assert begun["stdout"].strip() != os.uname().release
    yield online_target(SharedSandbox, emulated)
    ended = emulated.request("DELETE", f"/v1/sessions/{begun['session_id']}", headers={"X-User-Id": "attack"})
    assert ended.status in (200, 204, 404)  # 404: nothing of it was kept
    must_be_clean(emulated)


@pytest.fixture
def alone(emulated: Online) -> Iterator[Target]:
    yield online_target(OwnSandbox, emulated)
    must_be_clean(emulated)


def machines(daemon: Daemon) -> list[int]:
    """The processes that are virtual machines."""
    found = []
    for pid in daemon.family():
        try:
            line = (Path("/proc") / str(pid) / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if any(name.encode() in line for name in MACHINES):
            found.append(pid)
    return found


def must_be_clean(daemon: Daemon) -> None:
    """No machine but those that wait, no cgroup without processes, and the daemon serves."""
    waiting = int(SETTINGS["GAOLER_MICROVM_WAITING"])
    subtree = mount_points().get("memory", mount_points().get("unified", Path())) / subtree_name(daemon.state_dir)

    def clean() -> bool:
        empty = [leaf for leaf in subtree.glob("**/jail-*") if not (leaf / "cgroup.procs").read_text()]
        return len(machines(daemon)) <= waiting and not empty

    def looked() -> bool:
        try:
            return clean()
        except (FileNotFoundError, OSError):
            return False  # it has just been removed

    eventually(looked)
    assert daemon.request("GET", "/health").status == 200
    assert daemon.execute("echo well", "bash")["stdout"] == "well\n"


def test_there_are_enough_of_every_group() -> None:
    chosen = [CASES[name] for name in (*ONE_AFTER_THE_OTHER, *ALONE)]
    assert len(chosen) >= 25
    assert {case.group for case in chosen} >= {"K", "R", "P", "E"}


def test_a_program_finds_no_way_from_the_guest_to_its_host(shared: Target) -> None:
    text = (HERE / "prelude.py").read_text() + PROGRAM_OF_A_GUEST

    async def attack() -> dict[str, Any]:
        return await shared.execute(text)

    result = trio.run(attack)
    assert (result["stdout"], result["code"]) == ("CONTAINED\n", 0), result


@pytest.mark.parametrize("name", ONE_AFTER_THE_OTHER)
def test_a_hostile_program_finds_itself_contained(shared: Target, name: str) -> None:
    case: Case = CASES[name]
    trio.run(case.attack, shared)


def test_an_operator_attacks_in_virtual_machines_by_one_word(emulated: Online, image_dir: Path) -> None:
    settings = {
        "PATH": os.environ["PATH"],
        "GAOLER_IMAGE_DIR": str(image_dir),
        "GAOLER_STATE_DIR": str(emulated.state_dir),
        "GAOLER_BIND": emulated.address,
        "GAOLER_JAILER_POLICY_DIR": str(emulated.policies),
        **SETTINGS,
    }
    command = [*program(chosen(image_dir)), "attack", "K13", "P12", "--tier", "microvm", "--json"]
    done = subprocess.run(command, env=settings, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    verdicts = {each["id"]: (each["verdict"], each["detail"]) for each in found["results"]}
    assert verdicts["K13"][0] == "held"
    # The host sees machines, and not what runs in them: nobody says that it held.
    assert verdicts["P12"] == ("untried", "the programs run in a virtual machine, and from the host only that is seen")
    assert "microvm" in done.stdout
    must_be_clean(emulated)


@pytest.mark.parametrize("name", ALONE)
def test_what_a_hostile_program_leaves_ends_with_its_machine(alone: Target, name: str) -> None:
    trio.run(CASES[name].attack, alone)

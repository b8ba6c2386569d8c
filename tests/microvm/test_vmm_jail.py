"""The real library, driven to a running machine inside the jail that it has in the product, and out of it again.

What the guest does then no host without vmx or svm can show: here it is enough that the machine runs, and how it ends.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from supervisor.microvm.places import KVM
from supervisor.microvm.vmm import MachineConfig, describe_end, encode_config
from tests.microvm.machine_jail import OUTSIDE_ID, JailParts, Machine, jailed, started
from tests.microvm.machine_parts import machine_libraries

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path(KVM).exists(), reason="this host has no /dev/kvm: no machine can be started"),
]
CONFIG = MachineConfig(vcpus=2, memory_mib=256, log_level="debug")
RUNNING = b"mmio[fs]] set_irq_line"
"""The library says it of each device; this one is the last before the processors run."""
PATIENCE_SECONDS = 120
NOBODYS_GROUP = 64_124
NODES = tuple(f"/dev/{name}" for name in ("kvm", "null", "urandom", "zero"))


@pytest.fixture
def parts() -> Iterator[JailParts]:
    # Not below pytest's own directory: nsjail looks at what it mounts with the rights of the jail's user.
    with tempfile.TemporaryDirectory(prefix="gt-") as directory:
        Path(directory).chmod(0o755)
        yield JailParts(Path(directory), machine_libraries())


@asynccontextmanager
async def running(parts: JailParts) -> AsyncIterator[tuple[Machine, int]]:
    """Give a machine whose processors run, and the pid of its process: stopped, so that no guest ends it meanwhile."""
    with trio.fail_after(PATIENCE_SECONDS):
        async with started(jailed(parts), encode_config(CONFIG)) as machine:
            await machine.log_has(RUNNING)
            pid = machine.family()[-1]
            os.kill(pid, signal.SIGSTOP)
            yield machine, pid


def status_of(pid: int) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines_of(pid, "status"))}


def descriptors_of(pid: int) -> set[str]:
    names = (str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir())
    return {re.sub(r":\[\d+\]$", "", name) for name in names}


def lines_of(pid: int, name: str) -> list[str]:
    return Path(f"/proc/{pid}/{name}").read_text().splitlines()


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def namespace_of(pid: int, kind: str) -> Path:
    return Path(f"/proc/{pid}/ns/{kind}").readlink()


async def test_the_library_starts_a_machine_in_a_jail_without_rights(parts: JailParts) -> None:
    async with running(parts) as (_machine, pid):
        status, group = status_of(pid), parts.group
        assert status["Uid"].split() == [str(OUTSIDE_ID)] * 4
        assert status["Gid"].split() == [str(group)] * 4
        assert status["Groups"] == ""
        assert [status[f"Cap{name}"] for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")] == ["0" * 16] * 5
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        held = descriptors_of(pid)
        assert {"anon_inode:kvm-vm", "anon_inode:kvm-vcpu:0", "anon_inode:kvm-vcpu:1"} <= held
        assert {name for name in held if name.startswith("/")} <= {"/dev/kvm", "/dev/null"}
        assert lines_of(pid, "comm") == ["libkrun VM"]


async def test_the_jail_of_a_machine_holds_the_guest_the_library_and_kvm(parts: JailParts) -> None:
    async with running(parts) as (_machine, pid):
        root = Path(f"/proc/{pid}/root")
        assert names_in(root / "dev") == ["kvm", "null", "urandom", "zero"]
        assert names_in(root / "machine") == ["libkrun.so.1", "libkrunfw.so.5"]
        own = ["bin", "dev", "guest", "lib", "lib64", "machine", "opt", "proc", "usr"]
        assert names_in(root) == own
        assert names_in(root / "opt") == names_in(root / "guest" / "opt") == ["gaoler"]
        mounts = [line.split() for line in lines_of(pid, "mountinfo")]
        assert {fields[4] for fields in mounts if "ro" not in fields[5].split(",")} <= {"/proc", *NODES}
        interfaces = [line.split(":")[0].strip() for line in lines_of(pid, "net/dev")[2:]]
        assert interfaces == ["lo"]
        for kind in ("net", "mnt", "pid", "user", "ipc", "uts", "cgroup"):
            assert namespace_of(pid, kind) != namespace_of(os.getpid(), kind), kind


HOSTILE = """
import ctypes, fcntl, os, socket
found = []
def refused(what, attack):
    try: found.append((what, attack()))
    except OSError: pass
libc = ctypes.CDLL(None, use_errno=True)
for family in (1, 2, 10, 16, 17, 40):
    refused(f"a socket of family {family}", lambda: socket.socket(family))
refused("a pair of sockets", socket.socketpair)
for name, number in dict(mount=165, unshare=272, setns=308, bpf=321, io_uring_setup=425, userfaultfd=323, keyctl=250,
        perf_event_open=298, memfd_create=319, mknod=133, chroot=161, pivot_root=155, open_tree=428, sendmsg=46, recvmsg=47,
        setxattr=188, unlinkat=263, mkdirat=258, renameat2=316, shmget=29, sync=162, fsync=74, setresuid=117).items():
    if libc.syscall(number, *[ctypes.c_long(0)] * 6) >= 0 or ctypes.get_errno() not in (1, 38): found.append(name)
for place in ("/", "/guest", "/machine", "/dev", "/tmp", "/usr", "/opt/gaoler", "/run"):
    refused(f"a file in {place}", lambda: os.open(f"{place}/x", os.O_CREAT | os.O_WRONLY, 0o600))
refused("a device", lambda: os.open("/proc/kallsyms", os.O_RDONLY) if os.path.getsize("/proc/kallsyms") else os.open("/x", 0))
kvm = os.open("/dev/kvm", os.O_RDWR)
vm = fcntl.ioctl(kvm, 0xAE01, 0)
refused("a device of the host, by KVM_CREATE_DEVICE", lambda: fcntl.ioctl(vm, 0xC00CAEE0, bytearray(12)))
refused("a terminal", lambda: fcntl.ioctl(0, 0x5412, b"x"))
os.write(2, (repr(found) + "\\n").encode())
"""


async def test_a_machine_that_was_taken_over_gets_nothing_but_kvm(parts: JailParts) -> None:
    hostile = dataclasses.replace(parts, program=("/opt/gaoler/bin/python3", "-I", "-c", HOSTILE))
    with trio.fail_after(PATIENCE_SECONDS):
        async with started(jailed(hostile), b"") as machine:
            assert await machine.said() == b"[]\n"


async def test_a_machine_that_says_nothing_is_ended_at_the_deadline_and_leaves_nothing(parts: JailParts) -> None:
    async with running(parts) as (machine, _pid):
        with trio.move_on_after(0.05) as deadline:
            await machine.process.wait()
        assert deadline.cancelled_caught
        machine.process.kill()
        assert await machine.process.wait() == -signal.SIGKILL
        await machine.all_gone()
        assert machine.port.recv(100) == b""
    # What was mounted there was so in the jail's own view only.
    assert not [*(parts.directory / "guest").iterdir(), *(parts.directory / "devices").iterdir()]


async def test_a_machine_dies_with_who_made_its_jail(parts: JailParts) -> None:
    async with running(parts) as (machine, _pid):
        family = machine.family()
        assert len(family) == 2
        os.kill(family[0], signal.SIGKILL)
        await machine.all_gone()


async def test_the_end_of_a_guest_is_never_a_success(parts: JailParts) -> None:
    """On a host whose KVM cannot run a guest it crashes at once; elsewhere its program ends with 0."""
    short = dataclasses.replace(parts, guest="#!/bin/sh\nexit 0\n")
    with trio.fail_after(PATIENCE_SECONDS):
        async with started(jailed(short), encode_config(CONFIG)) as machine:
            await machine.log_has(RUNNING)
            said = await machine.said()
            code = await machine.process.wait()
            assert code in (0, 1)
            assert machine.port.recv(100) == b"", "no greeting, only the end"
            fault = describe_end(code << 8, said)
            assert fault.kind == "ended"
            assert "proves nothing" in fault.reason


async def refusal(parts: JailParts, config: MachineConfig = CONFIG) -> dict[str, str]:
    with trio.fail_after(PATIENCE_SECONDS):
        async with started(jailed(parts), encode_config(config)) as machine:
            said = await machine.fault()
            assert machine.port.recv(100) == b""
            return said


async def test_without_the_group_of_the_device_it_is_said(parts: JailParts) -> None:
    said = await refusal(dataclasses.replace(parts, group=NOBODYS_GROUP))
    assert said["fault"] == "kvm-permission"
    assert said["reason"].startswith("/dev/kvm: Permission denied")


async def test_without_the_device_it_is_said(parts: JailParts) -> None:
    assert await refusal(dataclasses.replace(parts, device=False)) == {
        "fault": "kvm-missing",
        "reason": "/dev/kvm: No such file or directory",
    }


async def test_without_libraries_it_is_said(parts: JailParts) -> None:
    libraries = parts.directory / "libraries"
    libraries.mkdir(mode=0o755)
    empty = dataclasses.replace(parts, libraries=libraries)
    assert await refusal(empty) == {"fault": "library-missing", "reason": "no libkrun.so.1 in /machine"}
    shutil.copyfile(parts.libraries / "libkrun.so.1", libraries / "libkrun.so.1")
    assert await refusal(empty) == {
        "fault": "kernel-missing",
        "reason": "no libkrunfw.so.5, the guest's kernel, in /machine",
    }


async def test_a_root_without_our_program_is_refused(parts: JailParts) -> None:
    said = await refusal(parts, MachineConfig(vcpus=1, memory_mib=256, root="/guest/usr"))
    assert said["fault"] == "root-missing"
    assert "/guest/usr is no root of a guest" in said["reason"]


async def test_more_memory_than_the_host_has_is_refused(parts: JailParts) -> None:
    said = await refusal(parts, MachineConfig(vcpus=1, memory_mib=256 * 1024))
    assert said["fault"] == "memory"
    assert said["reason"].startswith("the machine is to have 262144 MiB, and this host has ")

"""What the program refuses before it becomes a machine, and what a parent makes of its end. Needs no KVM, but where it says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import trio

from supervisor.microvm.krun import MachineFault
from supervisor.microvm.places import KVM, PROGRAM
from supervisor.microvm.vmm import (
    FAULT_STATUS,
    MAX_MEMORY_MIB,
    MAX_REASON_CHARACTERS,
    MAX_VCPUS,
    MIN_MEMORY_MIB,
    MachineConfig,
    check_kvm,
    check_memory,
    check_root,
    decode_config,
    describe_end,
    encode_config,
    read_fault,
)
from tests.microvm.machine_jail import Machine, bare, started
from tests.microvm.machine_parts import machine_libraries

GOOD = {"vcpus": 1, "memory_mib": 256}
PATIENCE_SECONDS = 60


def test_a_configuration_survives_the_way() -> None:
    config = MachineConfig(
        vcpus=4, memory_mib=2048, root="/guest", libraries=("/machine", "/usr/lib64"), log_level="info"
    )
    assert decode_config(encode_config(config)) == config
    assert decode_config(msgspec.msgpack.encode(GOOD)) == MachineConfig(vcpus=1, memory_mib=256)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vcpus": 0}, "Expected `int` >= 1 - at `$.vcpus`"),
        ({"vcpus": MAX_VCPUS + 1}, f"Expected `int` <= {MAX_VCPUS} - at `$.vcpus`"),
        ({"vcpus": 255}, "vcpus"),
        ({"vcpus": True}, "Expected `int`, got `bool`"),
        ({"vcpus": 1.0}, "Expected `int`, got `float`"),
        ({"memory_mib": MIN_MEMORY_MIB - 1}, f"Expected `int` >= {MIN_MEMORY_MIB} - at `$.memory_mib`"),
        ({"memory_mib": MAX_MEMORY_MIB + 1}, f"Expected `int` <= {MAX_MEMORY_MIB} - at `$.memory_mib`"),
        ({"memory_mib": 1 << 40}, "memory_mib"),
        ({"root": "guest"}, "root"),
        ({"root": "/"}, "root"),
        ({"root": '/guest" init=/bin/sh'}, "root"),
        ({"root": "/guest\n"}, "root"),
        ({"root": "/gäst"}, "root"),
        ({"root": "/" + "a" * 2000}, "root"),
        ({"libraries": []}, "libraries"),
        ({"libraries": ["machine"]}, "libraries"),
        ({"libraries": ["/machine"] * 17}, "libraries"),
        ({"log_level": "trace"}, "Invalid enum value 'trace'"),
        ({"network": "tap0"}, "Object contains unknown field `network`"),
        ({"exec": "/bin/sh"}, "Object contains unknown field `exec`"),
    ],
)
def test_a_bad_configuration_is_refused_with_the_field(change: dict[str, object], words: str) -> None:
    with pytest.raises(MachineFault) as caught:
        decode_config(msgspec.msgpack.encode(GOOD | change))
    assert caught.value.kind == "configuration"
    assert words in caught.value.reason


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xc1", b"not msgpack", msgspec.msgpack.encode([1]), bytes(20_000)])
def test_what_is_no_configuration_at_all_is_refused(data: bytes) -> None:
    with pytest.raises(MachineFault) as caught:
        decode_config(data)
    assert caught.value.kind == "configuration"


def test_memory_is_compared_with_the_hosts() -> None:
    meminfo = "MemTotal:        8042888 kB\nMemFree:          100000 kB\n"
    check_memory(7854, meminfo)
    with pytest.raises(MachineFault, match="is to have 7855 MiB, and this host has 7854 MiB"):
        check_memory(7855, meminfo)
    with pytest.raises(MachineFault, match="this host has 0 MiB"):
        check_memory(128, "nothing of that kind")


def test_a_root_is_known_by_its_program(tmp_path: Path) -> None:
    program = tmp_path / PROGRAM.lstrip("/")
    with pytest.raises(MachineFault, match="No such file or directory") as caught:
        check_root(tmp_path)
    assert caught.value.kind == "root-missing"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o644)
    with pytest.raises(MachineFault, match="is no program"):
        check_root(tmp_path)
    program.chmod(0o755)
    check_root(tmp_path)
    program.unlink()
    program.mkdir()
    with pytest.raises(MachineFault, match="is no program"):
        check_root(tmp_path)


@pytest.mark.parametrize(
    ("path", "kind"), [("/no/such", "kvm-missing"), ("/dev/null", "kvm-unusable"), ("/dev/null/kvm", "kvm-missing")]
)
def test_what_is_no_kvm_is_told(path: str, kind: str) -> None:
    with pytest.raises(MachineFault) as caught:
        check_kvm(path)
    assert caught.value.kind == kind
    assert path in caught.value.reason


# -- what a parent makes of the end --


def said(kind: str, reason: str) -> bytes:
    return msgspec.json.encode({"fault": kind, "reason": reason}) + b"\n"


def test_a_fault_is_read_from_the_last_line() -> None:
    fault = read_fault(b"noise\n" + said("kvm-missing", "/dev/kvm: No such file or directory"))
    assert fault is not None
    assert (fault.kind, fault.reason) == ("kvm-missing", "/dev/kvm: No such file or directory")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"thread panicked",
        said("success", "all is well"),
        b'{"fault": "kvm-missing"}',
        b'{"fault": "kvm-missing", "reason": 1}',
        b'{"fault": "kvm-missing", "reason": "x", "more": 1}',
        said("kvm-missing", "x" * (MAX_REASON_CHARACTERS + 1)),
        said("kvm-missing", "x") + b"more",
        b"\xff\xfe" + said("kvm-missing", "x"),
        said("kvm-missing", "x" * 50_000),
    ],
)
def test_nothing_else_is_a_fault(text: bytes) -> None:
    assert read_fault(text) is None


def test_words_of_a_hostile_guest_are_made_harmless() -> None:
    fault = read_fault(said("refused", "a\x1b[2Jb\nc\u202ed"))
    assert fault is not None
    assert fault.reason == "a [2Jb c d"


@pytest.mark.parametrize(
    ("status", "stderr", "kind", "words"),
    [
        (0, b"", "ended", "ended with status 0, which proves nothing"),
        (0, said("kvm-missing", "x"), "ended", "ended with status 0, which proves nothing: "),
        (1 << 8, b"", "ended", "ended with status 1, which proves nothing"),
        (125 << 8, b"words\x1b", "ended", "ended with status 125, which proves nothing: words"),
        (FAULT_STATUS << 8, said("root-missing", "no root"), "root-missing", "no root"),
        (FAULT_STATUS << 8, b"", "ended", "ended with status 78, which proves nothing"),
        (signal.SIGKILL, said("kvm-missing", "x"), "killed", "was ended by SIGKILL: "),
        (signal.SIGABRT, b"thread panicked at\n builder.rs", "killed", "SIGABRT: thread panicked at builder.rs"),
        (signal.SIGSYS, b"", "killed", "the virtual machine was ended by SIGSYS"),
        (signal.SIGRTMIN + 3, b"", "killed", "was ended by signal 37"),
    ],
)
def test_no_end_is_a_success(status: int, stderr: bytes, kind: str, words: str) -> None:
    fault = describe_end(status, stderr)
    assert fault.kind == kind
    assert words in fault.reason


# -- the program, without a jail --


def config(root: Path, memory_mib: int = 256) -> MachineConfig:
    """Give a configuration with a root that will do."""
    program = root / PROGRAM.lstrip("/")
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text("#!/bin/sh\nexec sleep infinity\n")
    program.chmod(0o755)
    libraries = (str(machine_libraries()),)
    return MachineConfig(vcpus=1, memory_mib=memory_mib, root=str(root), libraries=libraries, log_level="debug")


async def fault_of(command: list[str], data: bytes, *, orphan: bool = False) -> dict[str, str]:
    with trio.fail_after(PATIENCE_SECONDS):
        async with started(command, data, orphan=orphan) as machine:
            return await machine.fault()


async def test_the_program_refuses_what_is_no_configuration() -> None:
    command = [sys.executable, "-I", "-m", "supervisor.microvm.vmm", "{fds}"]
    assert (await fault_of(command, b""))["fault"] == "configuration"
    assert (await fault_of(command, bytes(100_000)))["reason"] == "it is over 16384 bytes"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "three descriptors are needed: configuration, port, log"),
        (["3", "4"], "three descriptors are needed: configuration, port, log"),
        (["3", "4", "-1"], "three descriptors are needed: configuration, port, log"),
        (["3", "4", "5; reboot"], "three descriptors are needed: configuration, port, log"),
        (["900", "900", "900"], "descriptor 900: Bad file descriptor"),
        (["0", "0", "0"], "the configuration is no file"),
    ],
)
async def test_the_program_needs_its_three_descriptors(arguments: list[str], reason: str) -> None:
    command = [sys.executable, "-I", "-m", "supervisor.microvm.vmm", *arguments]
    assert await fault_of(command, b"") == {"fault": "configuration", "reason": reason}


async def test_the_program_does_not_start_for_nobody(tmp_path: Path) -> None:
    command, data = bare(config(tmp_path))
    assert (await fault_of(command, data, orphan=True))["fault"] == "parent-gone"


@pytest.mark.root
async def test_other_groups_are_given_up_or_the_machine_is_refused(tmp_path: Path) -> None:
    """``setpriv`` gives it groups; without the right to change them it must not go on."""
    command, data = bare(config(tmp_path, memory_mib=MAX_MEMORY_MIB))
    able = ["setpriv", "--groups", "64001,64002", *command]
    assert (await fault_of(able, data))["fault"] == "memory", "it went on, without the groups"
    unable = ["setpriv", "--groups", "64001,64002", "--inh-caps=-all", "--bounding-set=-setgid", *command]
    assert await fault_of(unable, data) == {
        "fault": "groups",
        "reason": "supplementary groups [64001, 64002]: Operation not permitted",
    }


PARENT = """
import os, subprocess, sys
passed = [int(each) for each in sys.argv[-3:]]
child = subprocess.Popen(sys.argv[1:], pass_fds=passed)
for fd in passed:
    os.close(fd)
sys.stdin.close()
child.wait()
"""


@pytest.mark.root
@pytest.mark.skipif(not Path(KVM).exists(), reason="this host has no /dev/kvm: no machine can be started")
async def test_a_running_machine_dies_with_who_started_it(tmp_path: Path) -> None:
    command, data = bare(config(tmp_path))
    with trio.fail_after(PATIENCE_SECONDS):
        async with started([sys.executable, "-I", "-c", PARENT, *command], data) as machine:
            await machine.log_has(b"mmio[fs]] set_irq_line")
            parent, child = machine.family()
            # A machine that does nothing more by itself, so that nothing but the kernel ends it.
            os.kill(child, signal.SIGSTOP)
            os.kill(parent, signal.SIGKILL)
            await machine.all_gone()
            assert await end_of_log(machine)


async def end_of_log(machine: Machine) -> bool:
    """Read on to the end, which comes when nobody holds the pipe."""
    while await machine.log.receive_some(65_536):
        pass
    return True


def test_the_program_can_be_started_by_hand_and_says_how() -> None:
    done = subprocess.run([sys.executable, "-I", "-m", "supervisor.microvm.vmm"], capture_output=True, check=False)
    assert done.returncode == FAULT_STATUS
    assert describe_end(FAULT_STATUS << 8, done.stderr).kind == "configuration"

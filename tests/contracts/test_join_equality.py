"""A process that joins a jail is exactly what nsjail makes of its own child, which in every jail is the init."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from supervisor.jailer.seccomp import compile_profiles
from supervisor.network.environment import OFFLINE
from supervisor.policy import load_seccomp_profiles
from supervisor.preparation.nsjail_program import nsjail_path
from supervisor.runtimes.catalogue import InstalledLanguage, load_languages, profiles_wanted
from tests.daemon import Daemon, eventually, process_name

pytestmark = pytest.mark.root

PROBE = r"""
import json, os, re
def read(path):
    with open(path) as file:
        return file.read()
def describe(pid):
    base = f"/proc/{pid}/"
    status = {k: v.strip() for k, v in (line.split(":", 1) for line in read(base + "status").splitlines())}
    keep = ("Umask", "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp",
            "Seccomp_filters", "Speculation_Store_Bypass", "SpeculationIndirectBranch", "Cpus_allowed", "Mems_allowed",
            "CoreDumping", "THP_enabled", "untag_mask", "SigPnd", "ShdPnd")
    stat = read(base + "stat").rpartition(")")[2].split()
    return {
        "status": {name: status[name] for name in keep if name in status},
        "limits": read(base + "limits").splitlines(),
        "mountinfo": read(base + "mountinfo").splitlines(),
        "namespaces": {name: os.readlink(base + "ns/" + name) for name in sorted(os.listdir(base + "ns"))},
        "cgroup": read(base + "cgroup"),
        "oom_score_adj": read(base + "oom_score_adj"),
        "root": os.readlink(base + "root"),
        "uid_map": read(base + "uid_map"),
        "setgroups": read(base + "setgroups"),
        "priority": stat[15:17],
        "policy": stat[38],
        "tty": stat[4],
        "session leader": status["NSsid"].split()[-1] == status["NSpid"].split()[-1],
        "environ": sorted(read(base + "environ").split("\0")),
        "descriptors": sorted(fd for fd in map(int, os.listdir(base + "fd")) if os.path.lexists(base + f"fd/{fd}")),
    }
joined = describe(os.getpid())
joined["os.environ"] = sorted(["", *(name + "=" + value for name, value in os.environ.items())])
print(json.dumps([describe(1), joined]))
"""


@pytest.fixture(scope="module", params=["forked", "executed"])
def pair(daemon: Daemon, request: pytest.FixtureRequest) -> tuple[dict[str, Any], dict[str, Any]]:
    """What nsjail's own child is, and what joined it: a fork of the warm zygote, or a program that was executed."""
    if request.param == "forked":
        result = daemon.execute(PROBE)
    else:
        result = daemon.execute(f"exec python3 -c '{PROBE.replace(chr(39), chr(34))}'", "bash")
    assert result["code"] == 0, result["stderr"]
    init, joined = json.loads(result["stdout"])
    return init, joined


WHAT = [
    "status",
    "limits",
    "mountinfo",
    "namespaces",
    "cgroup",
    "oom_score_adj",
    "root",
    "uid_map",
    "setgroups",
    "priority",
    "policy",
    "tty",
    "session leader",
]


@pytest.mark.parametrize("what", WHAT)
def test_a_joined_process_equals_the_one_that_nsjail_started(
    pair: tuple[dict[str, Any], dict[str, Any]], what: str
) -> None:
    init, joined = pair
    wanted = init[what]
    if what == "status":
        # The profile of its language lies on top of what nsjail gives.
        wanted = {**wanted, "Seccomp_filters": str(int(wanted["Seccomp_filters"]) + 1)}
    assert joined[what] == wanted


def test_both_have_three_descriptors(pair: tuple[dict[str, Any], dict[str, Any]]) -> None:
    init, joined = pair
    assert joined["descriptors"] == [0, 1, 2]
    # catatonit opens a signalfd of its own; nothing of ours may be among its descriptors.
    assert set(init["descriptors"]) >= {0, 1, 2}


def test_the_environment_is_the_languages_and_nothing_else(pair: tuple[dict[str, Any], dict[str, Any]]) -> None:
    init, joined = pair
    assert init["environ"] == [""]
    # bash adds its own three to what it starts.
    own = [entry for entry in joined["environ"] if entry.partition("=")[0] not in ("PWD", "SHLVL", "_", "OLDPWD")]
    language = load_languages()
    wanted = next(InstalledLanguage(each, {}, more=OFFLINE).environment for each in language if each.name == "python")
    assert own == sorted(["", *(f"{name}={value}" for name, value in wanted.items())])
    assert joined["os.environ"] == joined["environ"]


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long


def seccomp_filters(pid: int) -> list[bytes]:
    """Read the filters of a process from the kernel, the oldest first; needs real root and CHECKPOINT_RESTORE."""
    if _libc.ptrace(0x4206, pid, None, None) < 0:  # PTRACE_SEIZE
        raise OSError(ctypes.get_errno(), "ptrace seize")
    try:
        _libc.ptrace(0x4207, pid, None, None)  # PTRACE_INTERRUPT
        os.waitpid(pid, 0x40000000)
        found: list[bytes] = []
        while True:
            length = _libc.ptrace(0x420C, pid, ctypes.c_void_p(len(found)), None)  # PTRACE_SECCOMP_GET_FILTER
            if length < 0:
                if ctypes.get_errno() == errno.ENOENT:
                    return found
                raise OSError(ctypes.get_errno(), "PTRACE_SECCOMP_GET_FILTER")
            buffer = ctypes.create_string_buffer(int(length) * struct.calcsize("=HBBI"))
            _libc.ptrace(0x420C, pid, ctypes.c_void_p(len(found)), buffer)
            found.append(buffer.raw)
    finally:
        _libc.ptrace(17, pid, None, None)  # PTRACE_DETACH


SLEEPERS = {
    "executed": ("bash", "ln -s /usr/bin/sleep /tmp/executed; exec /tmp/executed 300"),
    "forked": ("py", "import ctypes, time; ctypes.CDLL(None).prctl(15, b'forked', 0, 0, 0); time.sleep(300)"),
}


@contextmanager
def running(daemon: Daemon, lang: str, code: str) -> Iterator[None]:
    """Have a program run for the block: it ends when its caller hangs up."""
    link = daemon.connection()
    try:
        link.request("POST", "/v1/exec", json.dumps({"lang": lang, "code": code}), {"X-API-Key": daemon.api_key})
        yield
    finally:
        link.close()


@pytest.mark.parametrize("how", SLEEPERS)
def test_the_seccomp_programs_are_nsjails_own_bytes_and_on_top_the_languages(daemon: Daemon, how: str) -> None:
    lang, code = SLEEPERS[how]
    wanted = profiles_wanted(load_languages())
    profiles = compile_profiles(str(nsjail_path()), {}, load_seccomp_profiles(wanted))[1]
    with running(daemon, lang, code):
        eventually(lambda: how in daemon.names())
        sleeper = daemon.named(how)
        inside = [pid for pid in daemon.family() if pid_namespace(pid) == pid_namespace(sleeper)]
        init = next(pid for pid in inside if process_name(pid) == "catatonit")
        try:
            of_init, of_sleeper = seccomp_filters(init), seccomp_filters(sleeper)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EACCES, errno.EIO):
                pytest.skip(f"this kernel does not show seccomp filters: {error}")
            raise
    eventually(lambda: how not in daemon.names())
    # The jailer's own, which everything in there inherits, and the policy's.
    assert len(of_init) == 2
    assert of_sleeper == [*of_init, profiles["bash" if lang == "bash" else "python"]]


def pid_namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except (FileNotFoundError, ProcessLookupError):
        return ""

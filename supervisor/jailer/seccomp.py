"""Compile a seccomp policy by letting nsjail do it, and take the finished program out of nsjail's own hands.

Processes that join a jail later need byte for byte the filter that nsjail gives its own child. There is one compiler,
nsjail's kafel; running it under ptrace up to the system call that installs the filter yields the very program, on any
kernel and with no privilege over other users' processes (unlike ``PTRACE_SECCOMP_GET_FILTER``). Done once for each
policy and each language's profile when the jailer starts, never with a request.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from supervisor.jailer import kernel
from supervisor.jailer.seccomp_filter import EXECVE, SECCOMP, FilterError, check_allows, check_default, watching

if TYPE_CHECKING:
    from supervisor.policy import Policy

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long

# <linux/ptrace.h>
_PTRACE_TRACEME: Final = 0
_PTRACE_GETREGS: Final = 12
_PTRACE_SYSCALL: Final = 24
_PTRACE_SETOPTIONS: Final = 0x4200
_OPTIONS: Final = 0x01 | 0x02 | 0x04 | 0x08 | 0x100000  # TRACESYSGOOD, FORK, VFORK, CLONE, EXITKILL
_SYSCALL_STOP: Final = signal.SIGTRAP | 0x80

_REGISTERS: Final = 27  # struct user_regs_struct, x86-64: 27 words of 8 bytes
_ORIG_RAX, _RDI, _RSI, _RDX = 15, 14, 13, 12
_SYS_PRCTL: Final = 157
_SYS_SECCOMP: Final = 317
_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2
_MAX_INSTRUCTIONS: Final = 4096  # the kernel's BPF_MAXINSNS
_WALL: Final = 0x40000000
_COMPILED, _REFUSED = b"+", b"-"
_STACKING: Final = "seccomp(SECCOMP_SET_MODE_FILTER): the profiles of languages are installed on top of it"


class SeccompError(Exception):
    """The policy does not compile, or nsjail did not install it; the message is kafel's own."""


def language_program(profile: str) -> str:
    """Give the name under which a zygote knows the program of a language's profile; no policy has such a name."""
    return f"language/{profile}"


def watch_program(policy: str, profile: str) -> str:
    """Give the name under which a zygote knows what is installed in logging mode."""
    return f"watch/{policy}/{profile}"


def compile_policy(nsjail: str, source: str) -> bytes:
    """Compile kafel ``source``; return the BPF program, 8 bytes an instruction. Blocks for some 30 ms.

    The tracing is done by a forked child, which waits for whatever it traces, so the caller's own children stay its
    own. The caller has no other thread that matters: the jailer before it serves, or a test.

    Raises:
        SeccompError: the policy does not compile, or is none: what it does not name would get through.
    """
    return compile_all(nsjail, {"": source})[""]


def compile_all(nsjail: str, sources: Mapping[str, str]) -> dict[str, bytes]:
    """Compile several at once, each as :func:`compile_policy` does; the names are those of files, for messages.

    Raises:
        SeccompError: the first that is none, with its name.
    """
    running = {name: _begin(nsjail, source) for name, source in sources.items()}
    programs: dict[str, bytes] = {}
    faults: list[str] = []
    for name, (pid, result_read) in running.items():
        with os.fdopen(result_read, "rb") as pipe:
            result = pipe.read()
        os.waitpid(pid, 0)
        try:
            if result[:1] != _COMPILED:
                raise SeccompError(result[1:].decode("utf-8", "replace") or "nsjail did not start")
            check_default(result[1:])
            programs[name] = result[1:]
        except (SeccompError, FilterError) as error:
            faults.append(f"{name}: {error}" if name else str(error))
    if faults:
        raise SeccompError(faults[0])
    return programs


def compile_profiles(
    nsjail: str, policies: Mapping[str, Policy], profiles: Mapping[str, str]
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Compile what policies and languages name; give the programs by name of the policy, and by name of the profile.

    Raises:
        SeccompError: one does not compile, lets through what it does not name, or refuses a call that every program
            begins with; the message names the file.
    """
    texts = {_policy_file(policy): policy.seccomp_source for policy in policies.values()}
    texts |= {_profile_file(name): source for name, source in profiles.items()}
    programs = compile_all(nsjail, texts)
    of_policies = {name: programs[_policy_file(policy)] for name, policy in policies.items()}
    of_languages = {name: programs[_profile_file(name)] for name in profiles}
    for name, policy in policies.items():
        try:
            check_allows(of_policies[name], SECCOMP, (kernel.SECCOMP_SET_MODE_FILTER,), _STACKING)
        except FilterError as error:
            raise SeccompError(f"{_policy_file(policy)}: {error}") from None
    for name, program in of_languages.items():
        try:
            check_allows(program, EXECVE, (), "execve, with which every program begins")
        except FilterError as error:
            raise SeccompError(f"{_profile_file(name)}: {error}") from None
    return of_policies, of_languages


class Compiled(Struct, frozen=True, forbid_unknown_fields=True):
    """The programs of policies and of languages' profiles, by name."""

    policies: dict[str, bytes]
    languages: dict[str, bytes]

    def fits(self, policies: Mapping[str, Policy], profiles: Mapping[str, str]) -> bool:
        """Say whether these are the programs of all these policies and profiles, by their names."""
        return self.policies.keys() == policies.keys() and self.languages.keys() == profiles.keys()


@dataclass(frozen=True, slots=True)
class Filters:
    """The compiled seccomp programs of a jailer: its own, those of policies and of languages' profiles by name."""

    own: bytes
    policies: Mapping[str, bytes]
    languages: Mapping[str, bytes]
    machine: bytes = b""
    """Of a virtual machine's helper, if there are any."""

    def programs(self, *, watched: bool) -> dict[str, bytes]:
        """Give what a zygote has to know; ``watched``: for logging mode, all that are stacked as one that asks.

        Raises:
            FilterError: they are too long together.
        """
        found = {**self.policies, **{language_program(name): code for name, code in self.languages.items()}}
        if watched:
            for policy, code in self.policies.items():
                for name, profile in self.languages.items():
                    found[watch_program(policy, name)] = watching(self.own, code, profile)
        return found


def _policy_file(policy: Policy) -> str:
    return f"seccomp/{policy.seccomp_name}.kafel"


def _profile_file(name: str) -> str:
    return f"seccomp/languages/{name}.kafel"


def _begin(nsjail: str, source: str) -> tuple[int, int]:
    """Start compiling; give the child, and where its result will come."""
    result_read, result_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(result_read)
        _report(nsjail, source, result_write)
    os.close(result_write)
    return pid, result_read


def _report(nsjail: str, source: str, result: int) -> None:
    """In the tracing child: write the program, or what is wrong, into the pipe ``result``, and end."""
    try:
        try:
            answer = _COMPILED + _compile(nsjail, source)
        except (SeccompError, OSError) as error:
            answer = _REFUSED + str(error).encode()
        with os.fdopen(result, "wb") as pipe:
            pipe.write(answer)
    finally:
        os._exit(0)


def _compile(nsjail: str, source: str) -> bytes:
    log_read, log_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        _run_nsjail(nsjail, source, log_write)
    os.close(log_write)
    try:
        program = _watch(pid)
    finally:
        with os.fdopen(log_read, "rb") as log:
            text = log.read(65_536).decode("utf-8", "replace")
    if program is None:
        reasons = [
            line.partition("] ")[2] or line for line in text.splitlines() if line.startswith(("[W]", "[E]", "[F]"))
        ]
        compiler = [reason for reason in reasons if "compile" in reason]
        raise SeccompError("; ".join(compiler or reasons[-2:]) or "nsjail did not start")
    return program


def _run_nsjail(nsjail: str, source: str, log: int) -> None:
    """In the child: ask to be traced and become an nsjail that would run nothing more than true(1)."""
    try:
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.set_inheritable(log, True)
        _libc.ptrace(_PTRACE_TRACEME, 0, None, None)
        arguments = [nsjail, "--mode", "o", "--log_fd", str(log), "--disable_clone_newuser", "--disable_clone_newns"]
        arguments += [
            "--disable_clone_newpid",
            "--disable_clone_newnet",
            "--disable_clone_newipc",
            "--disable_clone_newuts",
        ]
        arguments += ["--disable_clone_newcgroup", "--disable_rlimits", "--keep_caps", "--disable_no_new_privs"]
        arguments += ["--seccomp_string", source, "--", "/bin/true"]
        os.execve(nsjail, arguments, {})
    finally:
        os._exit(127)


def _watch(root: int) -> bytes | None:
    """Let the traced processes run from system call to system call until one installs a filter; end them all."""
    known: set[int] = set()
    program: bytes | None = None
    while True:
        pid, status = os.waitpid(-1 if known else root, _WALL)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            known.discard(pid)
            if not known:
                return program
            continue
        if pid not in known:
            known.add(pid)
            _libc.ptrace(_PTRACE_SETOPTIONS, pid, None, ctypes.c_void_p(_OPTIONS))
        stop = os.WSTOPSIG(status)
        if stop == _SYSCALL_STOP:
            program = _installed_program(pid)
            if program is not None:
                for each in known:
                    os.kill(each, signal.SIGKILL)
        deliver = 0 if stop in (_SYSCALL_STOP, signal.SIGTRAP, signal.SIGSTOP) else stop
        _libc.ptrace(_PTRACE_SYSCALL, pid, None, ctypes.c_void_p(deliver))


def _installed_program(pid: int) -> bytes | None:
    buffer = (ctypes.c_ulonglong * _REGISTERS)()
    if _libc.ptrace(_PTRACE_GETREGS, pid, None, buffer) < 0:
        return None
    call, first, second = buffer[_ORIG_RAX], buffer[_RDI], buffer[_RSI]
    by_prctl = call == _SYS_PRCTL and first == _PR_SET_SECCOMP and second == _SECCOMP_MODE_FILTER
    by_seccomp = call == _SYS_SECCOMP and first == kernel.SECCOMP_SET_MODE_FILTER
    if not (by_prctl or by_seccomp):
        return None
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        memory.seek(buffer[_RDX])
        length, address = struct.unpack("=HxxxxxxQ", memory.read(16))
        if not 0 < length <= _MAX_INSTRUCTIONS:
            raise SeccompError(f"nsjail installs a program of {length} instructions")
        memory.seek(address)
        return memory.read(length * 8)

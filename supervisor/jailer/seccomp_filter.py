"""What a compiled seccomp program says of a system call, found out without the kernel.

Used at start, to refuse profiles that would let anything through, and in logging mode, where the kernel asks us instead
of deciding itself. Programs are classic BPF over ``struct seccomp_data`` as nsjail's kafel writes it: whole words are
loaded, masked and compared, jumps go forward. Anything else is refused and not guessed at. Pure; the tests compare
every verdict with the kernel's.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from supervisor.jailer.seccomp_listener import PASSING_INSTRUCTIONS

AUDIT_ARCH_X86_64: Final = 0xC000003E
MAX_INSTRUCTIONS: Final = 4096
"""The kernel's BPF_MAXINSNS."""

KILL_PROCESS: Final = 0x80000000
KILL_THREAD: Final = 0x00000000
TRAP: Final = 0x00030000
ERRNO: Final = 0x00050000
USER_NOTIF: Final = 0x7FC00000
TRACE: Final = 0x7FF00000
LOG: Final = 0x7FFC0000
ALLOW: Final = 0x7FFF0000
_ACTION: Final = 0xFFFF0000
_DATA: Final = 0x0000FFFF
_MAX_ERRNO: Final = 4095
_NAMES: Final = {
    KILL_PROCESS: "KILL_PROCESS",
    KILL_THREAD: "KILL_THREAD",
    TRAP: "TRAP",
    USER_NOTIF: "USER_NOTIF",
    TRACE: "TRACE",
    LOG: "LOG",
    ALLOW: "ALLOW",
}

_LOAD_WORD, _JUMP, _AND, _RETURN = 0x20, 0x05, 0x54, 0x06
_EQUAL, _GREATER, _AT_LEAST, _ANY_BIT = 0x15, 0x25, 0x35, 0x45
_CONDITIONS: Final = (_EQUAL, _GREATER, _AT_LEAST, _ANY_BIT)
_FIRST_ARGUMENT: Final = 16
_DATA_BYTES: Final = 64
_INSTRUCTION: Final = struct.Struct("=HBBI")
_EMPTY: Final = (_AND, 0, 0, 0)
"""Whatever is in the accumulator is gone: where a filter begins, the kernel has nothing there."""
_PROBES: Final = (
    ("a call of the future", 0x3FFF_FFF0, AUDIT_ARCH_X86_64),
    ("an x32 call", 0x4000_0000 | 39, AUDIT_ARCH_X86_64),
    ("a call of a 32-bit program", 20, 0x4000_0003),
)
EXECVE: Final = 59
SECCOMP: Final = 317


class FilterError(Exception):
    """The program is not one that a profile may be; the message says why."""


@dataclass(frozen=True, slots=True)
class Call:
    """A system call as the kernel shows it to a filter."""

    number: int
    arguments: tuple[int, ...] = ()
    arch: int = AUDIT_ARCH_X86_64
    instruction_pointer: int = 0

    def packed(self) -> bytes:
        """Give the kernel's ``struct seccomp_data``."""
        words = [each & (2**64 - 1) for each in (*self.arguments, 0, 0, 0, 0, 0, 0)[:6]]
        return struct.pack("=IIQ6Q", self.number & 0xFFFFFFFF, self.arch, self.instruction_pointer, *words)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a program returns, and at which halves of arguments it looked to decide: 0 and 1 are those of the first."""

    value: int
    looked_at: frozenset[int] = frozenset()

    @property
    def action(self) -> int:
        """The action alone."""
        return self.value & _ACTION

    @property
    def errno(self) -> int | None:
        """What the program gets, if the call is refused and nothing worse."""
        return min(self.value & _DATA, _MAX_ERRNO) if self.action == ERRNO else None

    @property
    def kills(self) -> bool:
        """The process ends, or the thread; so it does where a signal is sent and in modes nobody watches."""
        return self.action not in (ALLOW, LOG, ERRNO)

    @property
    def name(self) -> str:
        """As kafel calls it."""
        return f"ERRNO({self.errno})" if self.action == ERRNO else _NAMES.get(self.action, "KILL_PROCESS")


def parse(program: bytes) -> list[tuple[int, int, int, int]]:
    """Take a program apart: code, jump if true, jump if false, constant.

    Raises:
        FilterError: it is not what kafel writes, or does not come to an end.
    """
    if not program or len(program) % _INSTRUCTION.size or len(program) > MAX_INSTRUCTIONS * _INSTRUCTION.size:
        raise FilterError(f"a program of {len(program)} bytes")
    found = list(_INSTRUCTION.iter_unpack(program))
    for at, (code, if_true, if_false, constant) in enumerate(found):
        left = len(found) - at - 1
        if code == _LOAD_WORD:
            good = constant % 4 == 0 and constant < _DATA_BYTES and left > 0
        elif code in _CONDITIONS:
            good = if_true < left and if_false < left
        elif code == _JUMP:
            good = constant < left
        elif code == _AND:
            good = left > 0
        else:
            good = code == _RETURN
        if not good:
            raise FilterError(f"instruction {at} is {code:#04x} {if_true} {if_false} {constant:#x}")
    return found


def evaluate(program: Sequence[tuple[int, int, int, int]], call: Call) -> Verdict:
    """Run a parsed program over a call, as the kernel would."""
    data = call.packed()
    looked_at: set[int] = set()
    accumulator = position = 0
    while True:
        code, if_true, if_false, constant = program[position]
        position += 1
        if code == _LOAD_WORD:
            accumulator = struct.unpack_from("=I", data, constant)[0]
            if constant >= _FIRST_ARGUMENT:
                looked_at.add((constant - _FIRST_ARGUMENT) // 4)
        elif code == _RETURN:
            return Verdict(constant, frozenset(looked_at))
        elif code == _JUMP:
            position += constant
        elif code == _AND:
            accumulator &= constant
        else:
            position += if_true if _holds(code, accumulator, constant) else if_false


def _holds(code: int, accumulator: int, constant: int) -> bool:
    if code == _EQUAL:
        return accumulator == constant
    if code == _GREATER:
        return accumulator > constant
    if code == _AT_LEAST:
        return accumulator >= constant
    return bool(accumulator & constant)


def stricter(newer: Verdict, older: Verdict) -> Verdict:
    """Give the word that counts of two stacked filters: the lower action; of equal ones, the newer filter's."""
    return older if _rank(older) < _rank(newer) else newer


def _rank(verdict: Verdict) -> int:
    """The kernel compares actions as signed numbers: KILL_PROCESS is the lowest."""
    return verdict.action - (1 << 32) if verdict.action & 0x80000000 else verdict.action


def check_default(program: bytes) -> None:
    """Make sure that what a profile does not name is killed or refused.

    Raises:
        FilterError: a call that nobody knows gets through, or would seem to have worked.
    """
    parsed = parse(program)
    for what, number, arch in _PROBES:
        verdict = evaluate(parsed, Call(number, arch=arch))
        if verdict.action in (KILL_PROCESS, KILL_THREAD) or verdict.errno:
            continue
        raise FilterError(f"its DEFAULT has to be KILL_PROCESS, KILL or ERRNO(n), but {what} gets {verdict.name}")


def check_allows(program: bytes, number: int, arguments: tuple[int, ...], why: str) -> None:
    """Make sure that a call that we make ourselves gets through.

    Raises:
        FilterError: it does not; ``why`` is part of the message.
    """
    verdict = evaluate(parse(program), Call(number, arguments))
    if verdict.action != ALLOW:
        raise FilterError(f"it has to ALLOW {why}, but says {verdict.name}")


def watching(*programs: bytes) -> bytes:
    """Make one program of several for logging mode: what all allow is allowed, about everything else we are asked.

    Each return that allows becomes a jump to the next program, which begins with an empty accumulator, as alone.

    Raises:
        FilterError: one of them is not what kafel writes, or all together are too long.
    """
    joined: list[tuple[int, int, int, int]] = []
    parsed = [parse(each) for each in programs]
    for number, each in enumerate(parsed):
        if number:
            joined.append(_EMPTY)
        for at, instruction in enumerate(each):
            if instruction[0] != _RETURN:
                joined.append(instruction)
            elif instruction[3] & _ACTION != ALLOW:
                joined.append((_RETURN, 0, 0, USER_NOTIF))
            elif number < len(parsed) - 1:
                joined.append((_JUMP, 0, 0, len(each) - at - 1))
            else:
                joined.append((_RETURN, 0, 0, ALLOW))
    if len(joined) + PASSING_INSTRUCTIONS > MAX_INSTRUCTIONS:
        raise FilterError(f"all filters together have {len(joined)} instructions")
    return b"".join(_INSTRUCTION.pack(*each) for each in joined)

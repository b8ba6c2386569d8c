"""Logging mode: what the seccomp filters of a run would kill or refuse is written down, and what would kill goes on.

A program's filter asks (:mod:`supervisor.jailer.seccomp_listener`), we judge by the filters that it would have, note
the answer and give it: a refusal is the refusal it would be, a kill is let through, so that one run finds everything.
The notes go into a file that the operator's own command has made and passed down; nothing in the protocol leads here,
so a daemon cannot be asked to run anything like this.
"""

from __future__ import annotations

import logging
import os
import select
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Final

import msgspec
import trio
from msgspec import Meta, Struct

from supervisor.jailer import seccomp_listener
from supervisor.jailer.seccomp import Filters
from supervisor.jailer.seccomp_filter import ALLOW, Call, Verdict, evaluate, parse, stricter

log: Final = logging.getLogger("gaoler.jailer.watch")

MAX_FINDINGS: Final = 400
"""More different ones are only counted."""
SLOT_BYTES: Final = 512
_LENGTH_BYTES: Final = 2
_Instructions = list[tuple[int, int, int, int]]
_Position = Annotated[int, Meta(ge=0, le=5)]
_Word = Annotated[int, Meta(ge=0)]
_Number = Annotated[int, Meta(ge=0, le=1 << 62)]


class Finding(Struct, frozen=True, forbid_unknown_fields=True):
    """A system call that a filter does not allow, how often, and whose it was.

    ``jailer``, ``policy`` and ``language`` are what the three filters say, as kafel writes it; ``arguments`` those that
    they looked at, each with its position. ``untrusted_process`` is the name that the process has given itself.
    """

    profile: str
    number: _Number
    arch: _Number
    jailer: str
    policy: str
    language: str
    arguments: tuple[tuple[_Position, _Word], ...]
    untrusted_process: str
    times: _Number = 0


class Header(Struct, frozen=True, forbid_unknown_fields=True):
    """How many processes were started under a filter that asks, and how many calls are not among the findings."""

    started: _Number = 0
    left_out: _Number = 0


class Notes:
    """The file: a header and findings in slots of one size, each written again when its count grows."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._slots: dict[Finding, int] = {}
        self._times: list[int] = []
        self._header = Header()

    def note_start(self) -> None:
        """Somebody runs under a filter that asks."""
        self._put_header(Header(started=self._header.started + 1, left_out=self._header.left_out))

    def note(self, finding: Finding) -> None:
        """Count a call; ``times`` of what is given is not looked at."""
        slot = self._slots.get(finding)
        if slot is None:
            if len(self._slots) >= MAX_FINDINGS:
                self._put_header(Header(started=self._header.started, left_out=self._header.left_out + 1))
                return
            slot = self._slots[finding] = len(self._slots)
            self._times.append(0)
        self._times[slot] += 1
        self._put(slot + 1, msgspec.structs.replace(finding, times=self._times[slot]))

    def _put_header(self, header: Header) -> None:
        self._header = header
        self._put(0, header)

    def _put(self, slot: int, record: Header | Finding) -> None:
        payload = msgspec.msgpack.encode(record)
        whole = len(payload).to_bytes(_LENGTH_BYTES, "little") + payload
        assert len(whole) <= SLOT_BYTES
        os.pwrite(self._fd, whole.ljust(SLOT_BYTES, b"\0"), slot * SLOT_BYTES)


def read_notes(fd: int) -> tuple[Header, list[Finding]]:
    """Read what was noted.

    Raises:
        msgspec.DecodeError: it is not what :class:`Notes` writes.
    """
    content = os.pread(fd, (MAX_FINDINGS + 1) * SLOT_BYTES, 0)
    payloads: list[bytes] = []
    for start in range(0, len(content), SLOT_BYTES):
        length = int.from_bytes(content[start : start + _LENGTH_BYTES], "little")
        payloads.append(content[start + _LENGTH_BYTES : start + _LENGTH_BYTES + length])
    if not payloads:
        return Header(), []
    header = msgspec.msgpack.decode(payloads[0], type=Header) if payloads[0] else Header()
    return header, [msgspec.msgpack.decode(each, type=Finding) for each in payloads[1:]]


class Watch:
    """Answers what filters ask. Use :func:`open_watch`."""

    def __init__(self, notes: Notes, filters: Filters, nursery: trio.Nursery) -> None:
        self._notes = notes
        self._own = parse(filters.own)
        self._policies = {name: parse(code) for name, code in filters.policies.items()}
        self._languages = {name: parse(code) for name, code in filters.languages.items()}
        self._nursery = nursery

    @contextmanager
    def follow(self, policy: str, language: str) -> Iterator[socket.socket]:
        """Give what a process sends its listener to, for the time of its start; it is followed until its last child."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._nursery.start_soon(self._serve, ours, policy, language)
        with theirs:
            yield theirs

    async def _serve(self, connection: socket.socket, policy: str, language: str) -> None:
        listener: int | None = None
        try:
            with connection:
                await trio.lowlevel.wait_readable(connection)
                listener = seccomp_listener.take_listener(connection)
            if listener is not None:
                self._notes.note_start()
                await self._listen(listener, policy, language)
        except OSError as error:
            log.error("a program is not watched any more reason=%s", error)
        finally:
            if listener is not None:
                # Whatever is asked after this fails with ENOSYS.
                os.close(listener)

    async def _listen(self, listener: int, policy: str, language: str) -> None:
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        while True:
            await trio.lowlevel.wait_readable(listener)
            if not any(events & select.POLLIN for _, events in poll.poll(0)):
                return  # nobody is left who could ask
            question = seccomp_listener.receive(listener)
            if question is not None:
                self._answer(listener, question, policy, language)

    def _answer(self, listener: int, question: seccomp_listener.Question, policy: str, language: str) -> None:
        call = Call(question.number, question.arguments, question.arch, question.instruction_pointer)
        oldest = evaluate(self._own, call)
        older, newer = evaluate(self._policies[policy], call), evaluate(self._languages[language], call)
        verdict = stricter(newer, stricter(older, oldest))
        if verdict.action != ALLOW:
            self._notes.note(
                Finding(
                    profile=language,
                    number=call.number & 0xFFFFFFFF,
                    arch=call.arch,
                    jailer=oldest.name,
                    policy=older.name,
                    language=newer.name,
                    arguments=decisive(call, oldest, older, newer),
                    untrusted_process=_process_name(question.pid),
                )
            )
        seccomp_listener.answer(listener, question, verdict.errno)


def decisive(call: Call, *verdicts: Verdict) -> tuple[tuple[int, int], ...]:
    """Give the arguments that were looked at by those who did not allow; of what was looked at in half, that half."""
    words = {word for verdict in verdicts if verdict.action != ALLOW for word in verdict.looked_at}
    found: list[tuple[int, int]] = []
    for position in sorted({word // 2 for word in words}):
        value = call.arguments[position] & (2**64 - 1)
        found.append((position, value if 2 * position + 1 in words else value & 0xFFFFFFFF))
    return tuple(found)


def _process_name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").rstrip("\n")[:16]
    except (FileNotFoundError, ProcessLookupError):
        return ""


@asynccontextmanager
async def open_watch(fd: int, filters: Filters) -> AsyncIterator[Watch]:
    """Watch for the block; the notes go into the file ``fd``, which stays the caller's."""
    async with trio.open_nursery() as nursery:
        yield Watch(Notes(fd), filters, nursery)
        nursery.cancel_scope.cancel()

"""Holds a guest to the conversation about its jail: what it may say when, how much, and how long it may take.

A jailer on the host is trusted to bound what a program writes and how long it runs. In a guest the same jailer does the
same, but it lives behind a kernel that the program may have taken over. So the host counts again: each answer in the
order of its question, within a time; output never more than the policy keeps; data only where they were announced.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
import trio
from msgspec import Meta, Struct

from supervisor.jailer import protocol
from supervisor.jailer.channels import MESSAGE
from supervisor.policy import LimitTable

ANSWER_SECONDS: Final = 60.0
"""For an answer that takes a moment; a guest that has just been made has to make its jail first."""
GRACE_SECONDS: Final = 20.0
"""Beyond the time limit of a run: its own jailer is the one to end it."""
CLOCK_SECONDS: Final = 30.0
"""A guest's clock stands still while the host sleeps, so it is set again so often, which has to work within that."""
LEAST_RATE: Final = 256 << 10
"""Bytes a second, of what was announced."""
MAX_DISPLAY_BYTES: Final = 1 << 27
"""As :data:`supervisor.jailer.protocol.DisplayBytes`."""
ARCHIVE_BYTES: Final = 64 << 20
"""What an archive of all packages may have beside the files: headers of so many entries."""
MAX_FAULT_CHARACTERS: Final = 200
_STREAMS: Final = 2
_ASKED: Final = (
    protocol.OpenJail | protocol.Filling | protocol.Looking | protocol.Save | protocol.Restore | protocol.Finish
)
_RUN: Final = protocol.Run | protocol.RunScript | protocol.RunCell


class Patience(Struct, frozen=True, forbid_unknown_fields=True):
    """How long a guest may take for what is always the same."""

    answer_seconds: Annotated[float, Meta(gt=0, le=600)] = ANSWER_SECONDS
    grace_seconds: Annotated[float, Meta(gt=0, le=600)] = GRACE_SECONDS
    clock_seconds: Annotated[float, Meta(gt=0, le=600)] = CLOCK_SECONDS


USUAL: Final = Patience()


class GuestFault(Exception):
    """The guest says what no honest one would, or nothing for too long. Its sandbox is lost, nobody else's."""


@dataclass(slots=True)
class _Owed:
    """An answer that is due, or the rest of announced data."""

    seconds: float
    run: bool = False
    data_bytes: int = 0
    output_bytes: int = 0
    """So much more output of the run may come."""
    content_bytes: int = 0
    """So many bytes may be announced by the answer."""


class Guard:
    """The rules for one jail's channel; give its methods to :func:`supervisor.microvm.relay.splice`.

    ``scope`` is cancelled when the guest takes too long; whoever owns it then raises :meth:`late`.
    """

    def __init__(
        self, limits: LimitTable, scope: trio.CancelScope, build_seconds: float, patience: Patience = USUAL
    ) -> None:
        self._limits = limits
        self._patience = patience
        self._build_seconds = build_seconds
        """The first run waits for the jail to be built."""
        self._scope = scope
        self._left_seconds = math.inf
        self._owed: deque[_Owed] = deque()

    def late(self) -> GuestFault:
        """Give what to raise when the scope was cancelled."""
        what = "end the run" if self._owed and self._owed[0].run else "answer"
        return GuestFault(f"the guest did not {what} in time")

    @property
    def busy(self) -> bool:
        """An answer is due."""
        return bool(self._owed)

    # -- who asks --

    def asked(self, request: protocol.Request) -> None:
        """Note what is asked."""
        if isinstance(request, _RUN):
            seconds = self._run_seconds(request) + self._patience.grace_seconds + self._build_seconds
            self._build_seconds = 0.0
            self._add(_Owed(seconds, run=True, output_bytes=_STREAMS * self._limits.output_bytes))
        elif isinstance(request, protocol.ToolResults):
            self._restart()
        elif isinstance(request, _ASKED):
            size = getattr(request, "size", 0)
            seconds = self._patience.answer_seconds + self._build_seconds + size / LEAST_RATE
            self._add(_Owed(seconds, content_bytes=self._content_bytes(request)))

    def _content_bytes(self, request: protocol.Request) -> int:
        limits = self._limits
        if isinstance(request, protocol.Save):
            return request.limit_bytes
        if isinstance(request, protocol.GetFile):
            # One with holes may be larger than all of the workspace.
            return max(limits.file_bytes, limits.workspace_bytes)
        if isinstance(request, protocol.GetPackages):
            return limits.workspace_bytes + ARCHIVE_BYTES
        return MAX_DISPLAY_BYTES if isinstance(request, protocol.GetDisplay) else 0

    def _run_seconds(self, request: protocol.Run | protocol.RunScript | protocol.RunCell) -> float:
        compiles = isinstance(request, protocol.Run) and request.phase == "compile"
        limit = self._limits.compile_seconds if compiles else self._limits.wall_seconds
        interrupt = request.interrupt_seconds if isinstance(request, protocol.RunCell) else 0.0
        return min(limit, request.wall_seconds or limit) + interrupt

    def _add(self, owed: _Owed) -> None:
        self._owed.append(owed)
        if len(self._owed) == 1:
            self._restart()

    # -- who answers --

    def answered(self, kind: int, payload: bytes) -> None:
        """Check what the guest says.

        Raises:
            GuestFault: it breaks a rule.
        """
        if kind != MESSAGE:
            self._take_data(len(payload))
            return
        answer = _decode(payload)
        if not self._owed or self._owed[0].data_bytes:
            raise GuestFault(f"{type(answer).__name__} from the guest, which nobody has asked for")
        if isinstance(answer, protocol.Output):
            self._take_output(answer)
        elif isinstance(answer, protocol.ToolCalls):
            self._take_calls(answer)
        else:
            self._take_answer(answer)

    def _take_answer(self, answer: protocol.Answer) -> None:
        owed = self._owed[0]
        if owed.run != isinstance(answer, protocol.Ended) and not isinstance(answer, protocol.Refused):
            raise GuestFault(f"{type(answer).__name__} from the guest, where something else was due")
        self._owed.popleft()
        if isinstance(answer, protocol.FileContent | protocol.Saved) and answer.size:
            self._announce(answer.size, owed.content_bytes)
        self._restart()

    def _take_output(self, output: protocol.Output) -> None:
        owed = self._owed[0]
        # An empty piece could be repeated for ever.
        if not owed.run or not 0 < len(output.data) <= owed.output_bytes:
            raise GuestFault("output from the guest that its jailer would not have let through")
        owed.output_bytes -= len(output.data)

    def _take_calls(self, calls: protocol.ToolCalls) -> None:
        if not self._owed[0].run:
            raise GuestFault("calls of tools from the guest while nothing runs")
        self._announce(calls.size, protocol.MAX_TOOL_BYTES)
        self._restart()

    def _announce(self, size: int, limit: int) -> None:
        if size > limit:
            raise GuestFault(f"the guest announces {size} bytes, where at most {limit} can be")
        self._owed.appendleft(_Owed(self._patience.answer_seconds + size / LEAST_RATE, data_bytes=size))

    def _take_data(self, size: int) -> None:
        owed = self._owed[0] if self._owed else None
        if owed is None or not 0 < size <= owed.data_bytes:
            raise GuestFault("data from the guest that were not announced")
        owed.data_bytes -= size
        if not owed.data_bytes:
            self._owed.popleft()
            if self._owed and self._owed[0].run:
                # It has called tools and waits, stopped, for whoever runs them.
                self._scope.deadline = math.inf
            else:
                self._restart()

    def hold(self) -> None:
        """Let the clock stand while an answer is passed on: it is not the guest's fault if who asked is slow."""
        self._left_seconds = self._scope.deadline - trio.current_time()
        self._scope.deadline = math.inf

    def go_on(self) -> None:
        """Let the clock go on after :meth:`hold`, unless it was set anew meanwhile."""
        if self._scope.deadline == math.inf:
            self._scope.deadline = trio.current_time() + self._left_seconds

    def _restart(self) -> None:
        """The clock is that of the first answer that is due."""
        self._scope.deadline = trio.current_time() + self._owed[0].seconds if self._owed else math.inf


class BackgroundGuard:
    """The rules for the channel of a program in the background; ``scope`` as for :class:`Guard`."""

    def __init__(self, scope: trio.CancelScope, seconds: float) -> None:
        self._scope = scope
        self._begun = self._over = False
        self._writes = 0
        """That are not answered yet."""
        scope.deadline = trio.current_time() + seconds

    def asked(self, request: protocol.Request) -> None:
        """Note what is asked."""
        self._writes += isinstance(request, protocol.WriteStdin)

    def answered(self, kind: int, payload: bytes) -> None:
        """Check what the guest says.

        Raises:
            GuestFault: it breaks a rule.
        """
        answer = _decode(payload) if kind == MESSAGE else None
        if isinstance(answer, protocol.Written):
            self._writes -= 1
        if answer is None or self._over or not self._is_due(answer):
            raise GuestFault(f"{type(answer).__name__} from a program in the background, where something else was due")
        self._scope.deadline = math.inf
        self._begun = True
        self._over = isinstance(answer, protocol.BackgroundEnded | protocol.Refused)

    def _is_due(self, answer: protocol.Answer) -> bool:
        if not self._begun:
            return isinstance(answer, protocol.Started | protocol.Refused)
        if isinstance(answer, protocol.Output):
            # An empty piece could be repeated for ever.
            return bool(answer.data)
        return isinstance(answer, protocol.BackgroundEnded) or (
            isinstance(answer, protocol.Written) and self._writes >= 0
        )


def _decode(payload: bytes) -> protocol.Answer:
    try:
        answer = protocol.decode_answer(payload)
    except msgspec.DecodeError as error:
        raise GuestFault(f"the guest breaks the protocol: {str(error)[:MAX_FAULT_CHARACTERS]!a}") from None
    if isinstance(answer, protocol.Fault):
        raise GuestFault(f"the guest's jailer has lost the jail: {answer.reason[:MAX_FAULT_CHARACTERS]!a}")
    return answer

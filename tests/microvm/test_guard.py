"""A guest is held to the conversation: what it may say when, how much, and how long it may take."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing

from supervisor.jailer import protocol
from supervisor.jailer.channels import DATA, MESSAGE
from supervisor.microvm.guard import ANSWER_SECONDS, GRACE_SECONDS, BackgroundGuard, Guard, GuestFault
from supervisor.policy import load_policies

LIMITS = load_policies()["default"].limits
ENDED = protocol.Ended(protocol.RunExited(code=0), wall_seconds=1, cpu_seconds=1, memory_peak_bytes=1)
MANIFEST = protocol.Manifest(
    entries=[], skipped=[], directories=[], truncated=False, packages=protocol.PackageScan(0, False, False)
)
RUN = protocol.Run(arguments=["/bin/true"], environment={}, seccomp="bash", wall_seconds=7)


class Told:
    """A guard, and shorter words for what it hears."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.guard = Guard(LIMITS, self.scope, 5.0)

    def ask(self, *requests: protocol.Request) -> Told:
        for each in requests:
            self.guard.asked(each)
        return self

    def answer(self, *answers: protocol.Message | bytes) -> Told:
        for each in answers:
            if isinstance(each, bytes):
                self.guard.answered(DATA, each)
            else:
                self.guard.answered(MESSAGE, protocol.encode(each))
        return self

    @property
    def left(self) -> float:
        return self.scope.deadline - trio.current_time()


async def test_an_honest_conversation_passes(mock_clock: trio.testing.MockClock) -> None:
    half = LIMITS.output_bytes // 2
    honest = Told().ask(protocol.OpenJail(policy="default"), protocol.PutFile(area="workspace", name=b"a", size=1))
    honest.ask(RUN, protocol.Scan()).answer(protocol.Opened(), protocol.Stored())
    for stream in ("stdout", "stderr"):
        pieces = [protocol.Output(stream=stream, data=bytes(half)) for _ in range(2)]
        honest.answer(*pieces)
    honest.answer(ENDED, MANIFEST)
    honest.ask(protocol.GetFile(name=b"a")).answer(protocol.FileContent(size=3), b"ab", b"c")
    assert honest.scope.deadline == math.inf


async def test_a_run_that_was_refused_and_its_scan_are_answered_in_turn(mock_clock: trio.testing.MockClock) -> None:
    refused = protocol.Refused(reason="no")
    assert Told().ask(RUN, protocol.Scan()).answer(refused, refused).scope.deadline == math.inf


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        pytest.param([], [protocol.Opened()], id="an answer that nobody asked for"),
        pytest.param([], [b"x"], id="data that nobody asked for"),
        pytest.param([RUN], [ENDED, ENDED], id="a second end"),
        pytest.param([RUN], [protocol.Stored()], id="another answer than the end of a run"),
        pytest.param([protocol.Scan()], [ENDED], id="an end of a run that never was"),
        pytest.param([protocol.Scan()], [protocol.Output(stream="stdout", data=b"x")], id="output while nothing runs"),
        pytest.param([RUN], [protocol.Output(stream="stdout", data=b"")], id="empty output"),
        pytest.param(
            [RUN],
            [protocol.Output(stream="stdout", data=bytes(LIMITS.output_bytes))] * 3,
            id="more output than the policy keeps of both streams",
        ),
        pytest.param([protocol.GetFile(name=b"a")], [protocol.FileContent(size=3), b"abcd"], id="too many data"),
        pytest.param([protocol.GetFile(name=b"a")], [protocol.FileContent(size=3), b""], id="empty data"),
        pytest.param(
            [protocol.GetFile(name=b"a"), protocol.Scan()],
            [protocol.FileContent(size=3), b"ab", protocol.Refused(reason="")],
            id="an answer amid data",
        ),
        pytest.param([protocol.GetFile(name=b"a")], [protocol.FileContent(size=1 << 40)], id="a terabyte"),
        pytest.param(
            [protocol.GetFile(name=b"a")],
            [protocol.FileContent(size=max(LIMITS.file_bytes, LIMITS.workspace_bytes) + 1)],
            id="a file that the workspace could not hold",
        ),
        pytest.param([protocol.Scan()], [protocol.FileContent(size=1)], id="content that nobody asked for"),
        pytest.param(
            [protocol.Save(limit_bytes=4096)],
            [protocol.Saved(size=4097, names=1, untrusted_unsaved=[])],
            id="a larger state than was asked for",
        ),
        pytest.param([RUN], [protocol.Fault(reason="x")], id="a fault"),
        pytest.param([protocol.Scan()], [protocol.ToolCalls(size=1)], id="calls of tools while nothing runs"),
    ],
)
async def test_what_no_honest_guest_says_is_a_fault(
    mock_clock: trio.testing.MockClock, asked: list[protocol.Request], answered: list[protocol.Message | bytes]
) -> None:
    guest = Told().ask(*asked)
    with pytest.raises(GuestFault):
        guest.answer(*answered)


async def test_a_message_that_is_none_is_a_fault(mock_clock: trio.testing.MockClock) -> None:
    with pytest.raises(GuestFault, match="breaks the protocol"):
        Told().ask(RUN).guard.answered(MESSAGE, b"\xc1")


async def test_the_clock_is_that_of_the_first_answer_that_is_due(mock_clock: trio.testing.MockClock) -> None:
    guest = Told().ask(RUN, protocol.Scan())
    assert guest.left == 7 + GRACE_SECONDS + 5

    assert "end the run" in str(guest.guard.late())
    guest.answer(ENDED)
    assert guest.left == ANSWER_SECONDS
    assert "answer" in str(guest.guard.late())


async def test_a_run_may_take_no_longer_than_the_policy_says(mock_clock: trio.testing.MockClock) -> None:
    assert Told().ask(protocol.RunScript(wall_seconds=1e9)).left == LIMITS.wall_seconds + GRACE_SECONDS + 5
    compiling = protocol.Run(arguments=["/bin/true"], environment={}, seccomp="bash", phase="compile")
    assert Told().ask(compiling).left == LIMITS.compile_seconds + GRACE_SECONDS + 5


async def test_while_tools_are_called_nothing_is_due(mock_clock: trio.testing.MockClock) -> None:
    guest = Told().ask(protocol.RunScript(tools="python", wall_seconds=5)).answer(protocol.ToolCalls(size=2), b"{}")
    assert guest.left == math.inf
    assert guest.ask(protocol.ToolResults(size=2)).left == 5 + GRACE_SECONDS + 5
    assert guest.answer(ENDED).left == math.inf


async def test_while_an_answer_waits_for_who_asked_the_clock_stands(autojump_clock: trio.testing.MockClock) -> None:
    guest = Told().ask(RUN, protocol.Scan()).answer(protocol.Output(stream="stdout", data=b"x"))
    left = guest.left
    guest.guard.hold()
    assert guest.left == math.inf
    await trio.sleep(1000)
    guest.guard.go_on()
    assert guest.left == left
    guest.answer(ENDED, MANIFEST).guard.hold()
    guest.ask(protocol.GetFile(name=b"a")).guard.go_on()
    assert guest.left == ANSWER_SECONDS


STARTED, WRITTEN = protocol.Started(), protocol.Written(size=1)
OUTPUT = protocol.Output(stream="stdout", data=b"x")
GONE = protocol.BackgroundEnded(code=0, signal=None)


async def test_an_honest_program_in_the_background_passes(mock_clock: trio.testing.MockClock) -> None:
    scope = trio.CancelScope()
    guard = BackgroundGuard(scope, 9.0)
    assert scope.deadline == trio.current_time() + 9
    guard.answered(MESSAGE, protocol.encode(STARTED))
    assert scope.deadline == math.inf
    guard.asked(protocol.WriteStdin(data=b"x"))
    for each in (OUTPUT, WRITTEN, OUTPUT, GONE):
        guard.answered(MESSAGE, protocol.encode(each))
    refused = BackgroundGuard(trio.CancelScope(), 9.0)
    refused.answered(MESSAGE, protocol.encode(protocol.Refused(reason="no")))


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([OUTPUT], id="output before it has begun"),
        pytest.param([STARTED, STARTED], id="two beginnings"),
        pytest.param([STARTED, WRITTEN], id="an answer to a write that nobody made"),
        pytest.param([STARTED, protocol.Output(stream="stdout", data=b"")], id="empty output"),
        pytest.param([STARTED, b"data"], id="data"),
        pytest.param([STARTED, GONE, OUTPUT], id="output after the end"),
        pytest.param([protocol.Refused(reason=""), STARTED], id="a beginning after it was refused"),
        pytest.param([STARTED, protocol.Fault(reason="x")], id="a fault"),
        pytest.param([STARTED, ENDED], id="the end of a run"),
    ],
)
async def test_what_no_program_in_the_background_says_is_a_fault(
    mock_clock: trio.testing.MockClock, answers: list[protocol.Message | bytes]
) -> None:
    guard = BackgroundGuard(trio.CancelScope(), 9.0)
    *honest, last = answers
    for each in honest:
        assert not isinstance(each, bytes)
        guard.answered(MESSAGE, protocol.encode(each))
    with pytest.raises(GuestFault):
        guard.answered(*(DATA, last) if isinstance(last, bytes) else (MESSAGE, protocol.encode(last)))

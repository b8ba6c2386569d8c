"""The words of the jailer protocol: typed messages, strictly decoded, small.

One channel (see :mod:`supervisor.jailer.channels`) is one jail. The client opens it, fills the workspace, runs
programs, looks at what they left and closes; each answer comes in the order of its question, so a client may send
ahead without waiting (behind a run only questions without data). Losing the channel, for whatever reason, destroys the
jail. The same messages travel over a unix socket to the host's jailer and over a virtio-console port to a guest's.

Names of files are bytes: a sandbox may choose them freely. What the jailer reports is hostile to the daemon until
checked, what the daemon asks is checked by the jailer against the policies it was started with.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

MAX_ARGUMENTS: Final = 256
MAX_PATH_BYTES: Final = 4096
MAX_PROGRAMS: Final = 16
"""In the background of one jail at once."""
MAX_PORTS: Final = 24
MAX_UNSAVED: Final = 200
MAX_STDIN_BYTES: Final = 65_536
MAX_TOOL_BYTES: Final = 64 << 20
MAX_MANIFEST_ENTRIES: Final = 4096
"""Entries of one manifest; a workspace with more is reported as truncated."""
MAX_POOLS: Final = 256

PlainName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Name = Annotated[bytes, Meta(min_length=1, max_length=MAX_PATH_BYTES)]
Text = Annotated[str, Meta(max_length=131_072)]
ShortText = Annotated[str, Meta(max_length=1000)]
Size = Annotated[int, Meta(ge=0, le=1 << 40)]
Share = Annotated[float, Meta(gt=0, le=1)]
WallSeconds = Annotated[float, Meta(gt=0)] | None
Stdin = Annotated[bytes, Meta(max_length=MAX_STDIN_BYTES)]
DisplayBytes = Annotated[int, Meta(ge=0, le=1 << 27)]
"""What a program may show beside its output, for :class:`GetDisplay`; 0: it has no place for it."""
Variables = Annotated[dict[Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")], Text], Meta(max_length=128)]
"""For the interpreter, beside those that it was started with."""
Area = Literal["workspace", "code"]
Then = Literal["destroy", "sweep", "pause"]
Phase = Literal["compile", "run"]
Tier = Literal["nsjail", "microvm"]
StreamName = Literal["stdout", "stderr"]


class Message(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """Base of all messages; the tag is the class name."""


# ---- client to jailer -------------------------------------------------------------------------------------------


class OpenJail(Message, frozen=True, tag="open"):
    """First message of a channel: have a jail of this policy, with an interpreter of the profile if one is named.

    ``share`` as in :class:`Weigh`. ``modest``: whoever asks has much running already and leaves the last jails that
    wait to others. ``tier`` may raise the policy's, never lower it.
    """

    policy: PlainName
    profile: PlainName | None = None
    share: Share = 1.0
    modest: bool = False
    tier: Tier = "nsjail"


class PutFile(Message, frozen=True, tag="put"):
    """Write a file; exactly ``size`` bytes follow as data frames. ``code`` is the read-only ``/code``.

    Not while something runs. What is there already under that name is replaced. After a refusal nothing will run.
    """

    area: Area
    name: Name
    size: Size
    read_only: bool = False
    executable: bool = False


class PutPackages(Message, frozen=True, tag="put_packages"):
    """Put back what :class:`GetPackages` gave; exactly ``size`` bytes follow as data frames. Not while something runs.

    Answered with :class:`Stored`.
    """

    size: Size


class RemoveFile(Message, frozen=True, tag="remove"):
    """Remove a file of the workspace, or an empty directory; what is not there is no error. Not while something runs.

    Answered with :class:`Stored`.
    """

    name: Name


class MakeDirectory(Message, frozen=True, tag="mkdir"):
    """Make a directory of the workspace, with its parents, unless it is there. Not while something runs.

    Answered with :class:`Stored`.
    """

    name: Name


class Run(Message, frozen=True, tag="run"):
    """Start a program in the jail and wait for its end.

    ``wall_seconds`` may shorten the policy's limit, never extend it. What becomes of the jail ``then``: ``destroy``,
    everything is killed and only the workspace is left; ``sweep``, what the program left running is killed, the jail
    stays, and somebody waits in it for the next program; ``pause``, everything that lives in it is stopped until the
    next run. ``seccomp`` names the profile of the program's language, which narrows what the policy leaves; one that
    the jailer does not know is refused. ``phase``: whose time limit of the policy holds, compiler's or program's.
    """

    arguments: Annotated[list[Text], Meta(min_length=1, max_length=MAX_ARGUMENTS)]
    environment: Annotated[dict[Text, Text], Meta(max_length=256)]
    seccomp: PlainName
    wall_seconds: WallSeconds = None
    stdin: Stdin = b""
    then: Then = "destroy"
    phase: Phase = "run"


class RunScript(Message, frozen=True, tag="script"):
    """Run ``main`` in the jail's interpreter as a program of its own; the jail is destroyed after it.

    ``main`` is a path as the sandbox sees it, and opened by it.
    With ``tools`` the program, or the bash script ``/code/main.sh``, may call tools of the client's, which
    ``/code/tools.json`` names: see :class:`ToolCalls`.
    """

    arguments: Annotated[list[Text], Meta(max_length=MAX_ARGUMENTS)] = []
    wall_seconds: WallSeconds = None
    stdin: Stdin = b""
    tools: Literal["python", "bash"] | None = None
    display_bytes: DisplayBytes = 0
    environment: Variables = {}
    main: Annotated[str, Meta(min_length=1, max_length=MAX_PATH_BYTES)] = "/code/main.py"


class ToolResults(Message, frozen=True, tag="tool_results"):
    """Answer to :class:`ToolCalls`; exactly ``size`` bytes follow as data frames. The program goes on."""

    size: Annotated[int, Meta(ge=1, le=MAX_TOOL_BYTES)]


class RunCell(Message, frozen=True, tag="cell"):
    """Run ``/code/main.py`` in the interpreter's lasting namespace; then everything in the jail is stopped.

    If the jail has no interpreter (any more) it gets one first. When the time is over, or at :class:`Interrupt`, the
    code gets SIGINT; if it has not come to an end ``interrupt_seconds`` later it is killed and the namespace is lost.
    ``environment`` holds for this cell.
    """

    arguments: Annotated[list[Text], Meta(max_length=MAX_ARGUMENTS)] = []
    wall_seconds: WallSeconds = None
    stdin: Stdin = b""
    interrupt_seconds: Annotated[float, Meta(gt=0, le=60)] = 2.0
    display_bytes: DisplayBytes = 0
    environment: Variables = {}


class Background(Message, frozen=True, tag="background"):
    """First message of a channel of its own: start a program in the jail of channel ``jail``, beside whatever runs.

    The jail is of the same connection and has an interpreter, or lasts. Answered with :class:`Started`; then
    :class:`Output` as it comes, never cut (who does not read stops the program), and :class:`BackgroundEnded`. Closing
    the channel kills the program with all that is in its session; so does the end of the jail. ``seccomp`` as in
    :class:`Run`.
    """

    jail: Annotated[int, Meta(ge=1)]
    arguments: Annotated[list[Text], Meta(min_length=1, max_length=MAX_ARGUMENTS)]
    environment: Annotated[dict[Text, Text], Meta(max_length=256)]
    seccomp: PlainName


class Spare(Message, frozen=True, tag="spare"):
    """First message of a channel of its own: memory is tight. While the channel is open no cell is kept waiting.

    Answered with :class:`Opened` once those that wait are given back. Whoever wants a jail has it made.
    """


class GetPools(Message, frozen=True, tag="pools"):
    """First message of a channel of its own: say how the pools of cells stand. Answered with :class:`Pools`."""


class WriteStdin(Message, frozen=True, tag="stdin"):
    """Write to a background program's standard input, and close it if so wished. Answered with :class:`Written`."""

    data: Stdin = b""
    close: bool = False


class SignalSession(Message, frozen=True, tag="signal"):
    """Send a signal to a background program and all that is in its session. Has no answer."""

    signal: Annotated[int, Meta(ge=1, le=64)]


class Pause(Message, frozen=True, tag="pause"):
    """Stop everything in the jail, so that its files can be looked at. Has no answer."""


class Resume(Message, frozen=True, tag="resume"):
    """Let what lives in the jail go on until the next :class:`Pause` or the end of the next run. Has no answer."""


class Connect(Message, frozen=True, tag="connect"):
    """Give the jail's network to the egress proxy, under this grant; also to a proxy that was started anew.

    The policy has to have a network. ``ports``: those that its rules name beside the usual ones. Has no answer: a jail
    whose network the proxy does not take has none.
    """

    grant: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$")]
    ports: Annotated[list[Annotated[int, Meta(ge=1, le=65_535)]], Meta(max_length=MAX_PORTS)] = []


class Weigh(Message, frozen=True, tag="weigh"):
    """Set the jail's part of the CPU when others want it too, of what one caller has. Has no answer."""

    share: Share


class Interrupt(Message, frozen=True, tag="interrupt"):
    """While something runs: end it as if its time were over. Otherwise ignored. Has no answer of its own."""


class Save(Message, frozen=True, tag="save"):
    """Have the interpreter write its namespace down, compressed, in at most ``limit_bytes``."""

    limit_bytes: Annotated[int, Meta(ge=4096, le=1 << 32)]


class Restore(Message, frozen=True, tag="restore"):
    """Give a (new) interpreter a saved namespace; exactly ``size`` bytes follow as data frames."""

    size: Size


class Finish(Message, frozen=True, tag="finish"):
    """Kill everything in the jail without running anything more; afterwards only the workspace is left."""


class Scan(Message, frozen=True, tag="scan"):
    """List what is in the workspace, and what has changed since the last time. Only while nothing runs."""


class GetFile(Message, frozen=True, tag="get"):
    """Read a regular file of the workspace. Only while nothing runs."""

    name: Name


class GetPackages(Message, frozen=True, tag="get_packages"):
    """Read the package directories, as one archive that only a jailer reads. Only while nothing runs, after a scan.

    Answered with :class:`FileContent`.
    """


class GetDisplay(Message, frozen=True, tag="display"):
    """Read what the last run has shown: lines of JSON, untrusted. Only while nothing runs.

    Answered with :class:`FileContent`, also if there is nothing.
    """


# ---- jailer to client -------------------------------------------------------------------------------------------


class Opened(Message, frozen=True, tag="opened"):
    """The jail is being made; files may be put."""


class Stored(Message, frozen=True, tag="stored"):
    """The file of a :class:`PutFile` is in place."""


class Finished(Message, frozen=True, tag="finished"):
    """Answer to :class:`Finish`: nothing runs any more."""


class Started(Message, frozen=True, tag="started"):
    """Answer to :class:`Background`: the program runs."""


class Written(Message, frozen=True, tag="written"):
    """Answer to :class:`WriteStdin`: so many bytes went into the pipe; the program does not read the rest now."""

    size: Size


class Output(Message, frozen=True, tag="output"):
    """A piece of output as it is produced. ``omitted_before`` bytes were cut between the last piece and this one."""

    stream: StreamName
    data: bytes
    omitted_before: Size = 0


class RunExited(Message, frozen=True, tag="exited"):
    """Outcome: the program ended by itself."""

    code: Annotated[int, Meta(ge=0, le=255)]


class RunSignalled(Message, frozen=True, tag="signalled"):
    """Outcome: a signal ended the program."""

    signal: Annotated[int, Meta(ge=1, le=64)]


class RunOutOfMemory(Message, frozen=True, tag="out-of-memory"):
    """Outcome: the kernel killed something in the jail for its memory limit."""

    limit_bytes: Size


class RunTimedOut(Message, frozen=True, tag="timed-out"):
    """Outcome: the wall-clock limit was reached."""

    limit_seconds: float


class RunOutputLimit(Message, frozen=True, tag="output-limit"):
    """Outcome: a stream grew past the limit at which the program is killed."""

    stream: StreamName
    limit_bytes: Size


class RunInterrupted(Message, frozen=True, tag="interrupted"):
    """Outcome: it was ended at :class:`Interrupt`."""


class BackgroundEnded(Message, frozen=True, tag="background_ended"):
    """A background program has ended, after its last :class:`Output`. Exactly one of the two is there."""

    code: Annotated[int, Meta(ge=0, le=255)] | None
    signal: Annotated[int, Meta(ge=1, le=64)] | None


RunOutcome = RunExited | RunSignalled | RunOutOfMemory | RunTimedOut | RunOutputLimit | RunInterrupted


class ToolCalls(Message, frozen=True, tag="tool_calls"):
    """The program wants tools of the client's: exactly ``size`` bytes follow, a line of JSON, untrusted.

    Until :class:`ToolResults` everything in the jail is stopped, and so is the clock of the run.
    """

    size: Annotated[int, Meta(ge=1, le=MAX_TOOL_BYTES)]


class Ended(Message, frozen=True, tag="ended"):
    """Answer to a run, after its last :class:`Output`.

    ``jail_lives``: more can be run in it. ``state_lives``: the interpreter lives, with its namespace.
    ``state_is_new``: the one that was there had gone, and a new one was made for this run.
    """

    outcome: RunOutcome
    wall_seconds: float
    cpu_seconds: float
    memory_peak_bytes: Size
    jail_lives: bool = False
    state_lives: bool = False
    state_is_new: bool = False


class Saved(Message, frozen=True, tag="saved"):
    """Answer to :class:`Save`; exactly ``size`` bytes follow as data frames. ``untrusted_unsaved``: (name, reason)."""

    size: Size
    names: Annotated[int, Meta(ge=0)]
    untrusted_unsaved: Annotated[list[tuple[ShortText, ShortText]], Meta(max_length=MAX_UNSAVED)]


class Restored(Message, frozen=True, tag="restored"):
    """Answer to :class:`Restore`: so many names are back."""

    names: Annotated[int, Meta(ge=0)]


class Entry(Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """One regular file of a manifest. ``unchanged``: an input that nobody wrote to, by inode, size and ctime."""

    untrusted_name: Name
    size: Size
    unchanged: bool
    executable: bool = False


class Skip(Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """Something in the workspace that is not a file to be kept."""

    untrusted_name: Name
    reason: Annotated[str, Meta(max_length=64)]


class PackageScan(Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """The package directories: bytes of their archive, and whether anything in them has changed."""

    size: Size
    changed: bool
    truncated: bool


class Manifest(Message, frozen=True, tag="manifest"):
    """Answer to :class:`Scan`. ``truncated``: there was more than is listed.

    ``directories``: all of them, without those that are skipped.
    """

    entries: Annotated[list[Entry], Meta(max_length=MAX_MANIFEST_ENTRIES)]
    skipped: Annotated[list[Skip], Meta(max_length=MAX_MANIFEST_ENTRIES)]
    directories: Annotated[list[Name], Meta(max_length=MAX_MANIFEST_ENTRIES)]
    truncated: bool
    packages: PackageScan
    """Of ``.packages`` and ``node_modules``, whose files are not listed."""


class FileContent(Message, frozen=True, tag="content"):
    """Answer to :class:`GetFile`; exactly ``size`` bytes follow as data frames."""

    size: Size


class PoolFigures(Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """One pool: what waits now, how many should, and what has happened since the jailer's start.

    ``lost``: cells that could not be made, or died before anybody wanted them.
    """

    policy: PlainName
    profile: PlainName | None
    ready: Size
    floor: Size
    ceiling: Size
    target: Size
    claims: Size
    misses: Size
    built: Size
    lost: Size


class Pools(Message, frozen=True, tag="pool_figures"):
    """Answer to :class:`GetPools`: the pools in which anything waits or has been asked for.

    ``jails``: those in use. ``removed_cgroups``: what an earlier jailer had left.
    """

    pools: Annotated[list[PoolFigures], Meta(max_length=MAX_POOLS)]
    jails: Size
    removed_cgroups: Size


class Refused(Message, frozen=True, tag="refused"):
    """The request breaks a rule or cannot be done; the jail lives on unless it was :class:`OpenJail`."""

    reason: Annotated[str, Meta(max_length=2048)]
    full: bool = False
    """The workspace has no room (bytes or inodes)."""


class Fault(Message, frozen=True, tag="fault"):
    """The jail was lost by our own fault; the channel ends after this."""

    reason: Annotated[str, Meta(max_length=2048)]


Filling = PutFile | PutPackages | RemoveFile | MakeDirectory
Small = OpenJail | Weigh | Connect | Interrupt | Finish | Pause | Resume
OfBackground = Background | WriteStdin | SignalSession
Looking = Scan | GetFile | GetPackages | GetDisplay
OfJailer = Spare | GetPools
Request = ToolResults | Filling | Run | RunScript | RunCell | Save | Restore | Looking | Small | OfBackground | OfJailer
Answer = (
    Opened
    | Stored
    | Finished
    | Started
    | Written
    | BackgroundEnded
    | Output
    | ToolCalls
    | RunExited
    | RunSignalled
    | RunOutOfMemory
    | RunTimedOut
    | RunOutputLimit
    | RunInterrupted
    | Ended
    | Saved
    | Restored
    | Manifest
    | FileContent
    | Pools
    | Refused
    | Fault
)

_encoder = msgspec.msgpack.Encoder()
_request_decoder: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_answer_decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def encode(message: Message) -> bytes:
    """Encode any message as MessagePack."""
    return _encoder.encode(message)


def decode_request(payload: bytes) -> Request:
    """Decode what a client sent.

    Raises:
        msgspec.DecodeError: not MessagePack, an unknown message, a wrong type or a broken bound.
    """
    try:
        return _request_decoder.decode(payload)
    except UnicodeDecodeError as error:
        # What is text in MessagePack and no UTF-8 is told otherwise than everything else.
        raise msgspec.DecodeError(f"text that is no UTF-8: {error.reason}") from None


def decode_answer(payload: bytes) -> Answer:
    """Decode what a jailer sent.

    Raises:
        msgspec.DecodeError: as :func:`decode_request`.
    """
    try:
        return _answer_decoder.decode(payload)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"text that is no UTF-8: {error.reason}") from None

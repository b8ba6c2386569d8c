"""For tests only: no virtual machine, but a program in a machine's jail that says on the port what a hostile guest might.

``python3 -I hostile_guest.py CONFIGURATION PORT LOG``, as ``supervisor.microvm.vmm``. The file ``scenario`` beside it
names how it starts; how it goes on when it has started honestly, the code that it is to run names in its first line:
``# hostile: NAME``. Without one it is an honest guest of few words.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from supervisor.jailer import protocol as jailer
from supervisor.microvm.places import GREETING

HERE: Final = Path(__file__).resolve().parent
ENOUGH: Final = HERE / "enough"
"""A flood goes on until it is there."""
MESSAGE, DATA, CREDIT, CLOSE = 1, 2, 3, 4
HEADER: Final = struct.Struct("!IIB3s")
COST: Final = 128
PIECE: Final = 65_536
UGLY: Final = "\x1b[31m\n2026 CRITICAL all is lost \u202e" + "x" * 500
TERABYTE: Final = 1 << 40
NAMES: Final = [
    b"../../etc/passwd",
    b"/etc/cron.d/x",
    b"a\0b",
    b"..",
    b".",
    b"a/../../b",
    b"\xff\n\x1b[2J",
    b"x" * 4096,
]
ADDRESSES: Final = (
    "127.0.0.1", "::1", "169.254.169.254", "10.0.0.1", "fe80::1%lo", "fe80::1%\0", "fe80::1%\u00e4.\u00e4", "0.0.0.0",
    "unix:/run/gaoler", "@abstract", "", "localhost", "::ffff:127.0.0.1",
)  # fmt: skip


class Port:
    """The host's port, byte by byte."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def send(self, number: int, kind: int, payload: bytes = b"") -> None:
        self.write(HEADER.pack(len(payload), number, kind, b"\0\0\0") + payload)

    def say(self, number: int, *messages: jailer.Message) -> None:
        for each in messages:
            self.send(number, MESSAGE, jailer.encode(each))

    def word(self, channel: int, kind: str, **fields: object) -> None:
        """Say one of :data:`supervisor.microvm.protocol.Word`, whose module needs more than there is in this jail."""
        self.send(channel, MESSAGE, msgspec.msgpack.encode({"type": kind, **fields}))

    def receive(self) -> tuple[int, int, bytes]:
        length, number, kind, _ = HEADER.unpack(self._exactly(HEADER.size))
        payload = self._exactly(length)
        if kind in (MESSAGE, DATA):
            self.send(number, CREDIT, struct.pack("!I", length + COST))
        return number, kind, payload

    @property
    def waiting(self) -> bool:
        """Something can be read, be it the end."""
        try:
            self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return True

    def _exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            data = self._socket.recv(size - len(found))
            if not data:
                os._exit(0)
            found += data
        return found


class Jail:
    """One channel of the jailer's: honest answers, but where the scenario has others."""

    def __init__(self, port: Port, number: int, guest: Guest) -> None:
        self._port = port
        self._number = number
        self._guest = guest
        self._scenario = ""
        self._left = 0
        self._runs = 0

    def take(self, kind: int, payload: bytes) -> None:
        if kind == DATA:
            first = payload.splitlines()[0].decode("utf-8", "replace") if payload else ""
            if first.startswith("# hostile: "):
                self._scenario = first.removeprefix("# hostile: ").strip()
            self._left -= len(payload)
            if not self._left:
                self._stored()
            return
        self._answer(jailer.decode_request(payload))

    def _stored(self) -> None:
        if self._scenario == "ends before it runs":
            self._port.say(self._number, ended())
        else:
            self._port.say(self._number, jailer.Stored())

    def _answer(self, request: jailer.Request) -> None:
        say, number = self._port.say, self._number
        if isinstance(request, jailer.OpenJail):
            say(number, jailer.Opened())
        elif isinstance(request, jailer.PutFile | jailer.PutPackages | jailer.Restore):
            self._left = request.size
            if not request.size:
                self._stored()
        elif isinstance(request, jailer.RemoveFile | jailer.MakeDirectory):
            say(number, jailer.Stored())
        elif isinstance(request, jailer.Run | jailer.RunScript | jailer.RunCell):
            act = RUNS.get(self._scenario)
            if act is not None:
                act(self._port, number, self._guest)
            self._runs += 1
            say(number, jailer.Output(stream="stdout", data=b"honest %d\n" % self._runs))
            say(number, ended(lives=isinstance(request, jailer.RunCell)))
        elif isinstance(request, jailer.Finish):
            say(number, jailer.Finished())
        elif isinstance(request, jailer.Scan):
            say(number, manifest(self._scenario))
        elif isinstance(request, jailer.GetFile | jailer.GetPackages | jailer.GetDisplay):
            self._content(request)

    def _content(self, request: jailer.Looking) -> None:
        if self._scenario == "a terabyte":
            self._port.say(self._number, jailer.FileContent(size=TERABYTE))
        elif self._scenario == "more than announced":
            self._port.say(self._number, jailer.FileContent(size=3))
            self._port.send(self._number, DATA, b"four")
        elif isinstance(request, jailer.GetFile):
            self._port.say(self._number, jailer.FileContent(size=1))
            self._port.send(self._number, DATA, b"1")
        else:
            self._port.say(self._number, jailer.FileContent(size=0))


def ended(*, lives: bool = False) -> jailer.Ended:
    exited = jailer.RunExited(code=0)
    return jailer.Ended(
        exited, wall_seconds=0.1, cpu_seconds=0.1, memory_peak_bytes=1, jail_lives=lives, state_lives=lives
    )


def manifest(scenario: str) -> jailer.Manifest:
    names: list[bytes] = []
    if scenario in ("a terabyte", "more than announced"):
        names = [b"out.txt"]
    elif scenario == "hostile names":
        names = [*NAMES, *(b"many-%d" % number for number in range(jailer.MAX_MANIFEST_ENTRIES - len(NAMES)))]
    entries = [jailer.Entry(untrusted_name=name, size=1, unchanged=False) for name in names]
    return jailer.Manifest(entries, [], [], truncated=False, packages=jailer.PackageScan(0, False, False))


class Guest:
    """What answers on the port."""

    def __init__(self, port: Port, log: int, scenario: str) -> None:
        self._port = port
        self.log = log
        self._scenario = scenario
        self._jails: dict[int, Jail] = {}
        self._known: set[int] = set()
        self.egress = 0
        self.carried: dict[int, int] = {}
        self.later: deque[tuple[int, int, bytes]] = deque()
        """What has come while something else was waited for."""

    def serve(self) -> NoReturn:
        while True:
            self.take(*(self.later.popleft() if self.later else self._port.receive()))

    def take(self, number: int, kind: int, payload: bytes) -> None:
        if kind == CLOSE:
            self._jails.pop(number, None)
            self._port.send(number, CLOSE)
        elif kind == CREDIT:
            pass
        elif number in self._known:
            if number in self._jails:
                self._jails[number].take(kind, payload)
        else:
            self._known.add(number)
            self._first(number, payload)

    def _first(self, number: int, payload: bytes) -> None:
        order = msgspec.msgpack.decode(payload)
        kind = order["type"]
        if kind == "begin":
            self._begin(number)
        elif kind == "clock":
            self._port.word(number, "begun")
        elif kind == "egress":
            self.egress = number
        elif kind == "carry":
            self.carried[order["number"]] = number
        else:
            self._jails[number] = Jail(self._port, number, self)
            self._jails[number].take(MESSAGE, payload)

    def _begin(self, number: int) -> None:
        if self._scenario == "never begins":
            return
        if self._scenario == "fails with ugly words":
            self._port.word(number, "failed", reason=UGLY)
        elif self._scenario == "fails at length":
            self._port.word(number, "failed", reason="y" * 200_000)
        elif self._scenario == "begins in no language":
            self._port.send(number, MESSAGE, b"\xa1\xff")
        else:
            self._port.word(number, "begun")


# -- how it starts --


def wrong_greeting(port: Port) -> None:
    port.write(b"HTTP/1.1 200 OK\r\n" * 8)
    time.sleep(3600)


def dripping(port: Port) -> None:
    for each in GREETING * 1000:
        port.write(bytes([each]))
        time.sleep(1)


def silent(_port: Port) -> None:
    time.sleep(3600)


STARTS: Final[dict[str, Callable[[Port], None]]] = {
    "greets wrongly": wrong_greeting,
    "greets drop by drop": dripping,
    "says nothing": silent,
    "ends at once": lambda _port: os._exit(0),
}

# -- what it does when it is to run something --


def endless(port: Port, number: int, data: bytes) -> None:
    piece = jailer.encode(jailer.Output(stream="stdout", data=data))
    while True:
        port.send(number, MESSAGE, piece)


def more_than_the_window(port: Port, number: int, _guest: Guest) -> None:
    for _ in range(20):
        port.send(number, DATA, b"x" * (256 << 10))


def answer_meanwhile(port: Port, number: int, guest: Guest) -> None:
    """Take what has come: who does not set its clock for seconds is ended for that."""
    while port.waiting:
        channel, kind, payload = port.receive()
        if channel == number and kind != CREDIT:
            guest.later.append((channel, kind, payload))
        else:
            guest.take(channel, kind, payload)


def crumbs(port: Port, number: int, guest: Guest) -> None:
    said = 0
    while said < 6000 or not ENOUGH.exists():
        for _ in range(100):
            port.say(number, jailer.Output(stream="stdout", data=b"."))
        said += 100
        answer_meanwhile(port, number, guest)


def floods_logs(_port: Port, _number: int, guest: Guest) -> None:
    line = b"a kernel says so\n" * 1000
    while True:
        os.write(2, line)
        os.write(guest.log, line)


def eats_memory(_port: Port, _number: int, _guest: Guest) -> None:
    kept = []
    while True:
        kept.append(os.urandom(1 << 20))


def forks(_port: Port, _number: int, _guest: Guest) -> None:
    while True:
        try:
            if os.fork() == 0:
                time.sleep(3600)
        except OSError:
            os._exit(9)


def late_words(port: Port, number: int, guest: Guest) -> None:
    """About a channel that has ended long ago."""
    words = HEADER.pack(4, 1, CREDIT, b"\0\0\0") + struct.pack("!I", 1)
    said = 0
    while said < 8 or not ENOUGH.exists():
        port.write(words * 1000)
        said += 1
        answer_meanwhile(port, number, guest)
    port.say(number, jailer.Output(stream="stdout", data=b"flooded\n"))


def wants(port: Port, number: int, guest: Guest) -> None:
    """Ask for all kinds of addresses, and tell which of them were carried."""
    for mark, address in enumerate(ADDRESSES, 1):
        for port_number, offset in ((22, 0), (8000, 100)):
            port.word(guest.egress, "wanted", number=mark + offset, address=address, port=port_number)
            port.word(guest.egress, "datagram", number=mark + offset, address=address, port=port_number, payload=b"x")
    closed: set[int] = set()
    while len(closed) < 2 * len(ADDRESSES):
        channel, kind, payload = port.receive()
        if kind == CLOSE and channel in guest.carried.values():
            closed.add(channel)
            port.send(channel, CLOSE)
        elif kind == DATA:
            port.say(number, jailer.Output(stream="stdout", data=b"data: " + payload[:100]))
        elif channel == number:
            guest.later.append((channel, kind, payload))
        else:
            guest.take(channel, kind, payload)
    port.say(number, jailer.Output(stream="stdout", data=b"%d refused\n" % len(closed)))


def wants_for_ever(port: Port, _number: int, guest: Guest) -> None:
    """Never close a channel that the host has closed."""
    mark = 0
    while True:
        mark += 1
        port.word(guest.egress, "wanted", number=mark, address="nowhere", port=1)
        port.word(guest.egress, "datagram", number=mark, address="127.0.0.1", port=53, payload=b"x")
        if not mark % 64:
            for _ in range(64):
                port.receive()


def frames(*sent: bytes) -> Callable[[Port, int, Guest], None]:
    def act(port: Port, _number: int, _guest: Guest) -> None:
        for each in sent:
            port.write(each)
        time.sleep(3600)

    return act


def header(length: int, number: int, kind: int) -> bytes:
    return HEADER.pack(length, number, kind, b"\0\0\0")


def _say(*messages: jailer.Message) -> Callable[[Port, int, Guest], None]:
    def act(port: Port, number: int, _guest: Guest) -> None:
        port.say(number, *messages)
        time.sleep(3600)

    return act


def _segfault(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


RUNS: Final[dict[str, Callable[[Port, int, Guest], None]]] = {
    "answers nothing any more": lambda _port, _number, _guest: time.sleep(3600),
    "garbage": frames(os.urandom(100_000)),
    "four gigabytes": frames(header((1 << 32) - 1, 1, MESSAGE), b"x" * 1000),
    "an unknown channel": frames(header(0, 999_999, DATA)),
    "a channel of its own": frames(header(1, 4_000_000_000, MESSAGE), b"x"),
    "channel zero": frames(header(1, 0, MESSAGE), b"x"),
    "an unknown kind": frames(header(1, 1, 77), b"x"),
    "data that nobody announced": lambda port, number, _: port.send(number, DATA, b"x" * 100),
    "credit that was never used": lambda port, number, _: port.send(number, CREDIT, struct.pack("!I", 1 << 20)),
    "more than the window": more_than_the_window,
    "no message": lambda port, number, _: port.send(number, MESSAGE, b"\xc1" * 1000),
    "endless output": lambda port, number, _: endless(port, number, b"x" * PIECE),
    "endless empty output": lambda port, number, _: endless(port, number, b""),
    "a fault with ugly words": _say(jailer.Fault(reason=UGLY)),
    "two ends": lambda port, number, _: port.say(number, ended(), ended()),
    "a manifest in place of the end": lambda port, number, _: port.say(number, manifest("hostile names")),
    "closes its port": lambda _port, _number, _guest: os._exit(0),
    "crashes": _segfault,
    "floods its logs": floods_logs,
    "eats memory": eats_memory,
    "forks": forks,
    "late words": late_words,
    "crumbs": crumbs,
    "wants": wants,
    "wants for ever": wants_for_ever,
}


def main() -> None:
    """Be the guest."""
    _config, port_fd, log = (int(each) for each in sys.argv[1:4])
    port = Port(port_fd)
    scenario = (HERE / "scenario").read_text().strip()
    act = STARTS.get(scenario)
    if act is not None:
        act(port)
    port.write(GREETING)
    Guest(port, log, scenario).serve()


if __name__ == "__main__":
    main()

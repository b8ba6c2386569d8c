"""What goes wrong between the processes of a fleet: a TCP proxy that cuts and stalls; clocks that are wrong; who ran what.

Everything here runs on a thread of its own, beside tests that are not Trio's: see :func:`open_faults`.
"""

from __future__ import annotations

import http.client
import json
import re
import secrets
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import redis
import trio
import trio.testing

from tests.daemon import KEY, Daemon
from tests.kept_port import held_port
from tests.redis_server import RedisServer
from tests.s3_server import FaultProxy, open_fault_proxy

NONCE: Final = re.compile(rb"ran:([a-z]*\d+):([0-9a-f]{16})")

_JOB: Final = re.compile(rb'"job" "([^"]+)"')

SKEW: Final = """
import os, time
_shift, _time, _time_ns = float(os.environ["TEST_CLOCK_SHIFT"]), time.time, time.time_ns
time.time = lambda: _time() + _shift
time.time_ns = lambda: _time_ns() + int(_shift * 1e9)
"""


def marked(number: str, then: str = "") -> str:
    """Give a program that says its number and something that no other run of it would say, and then does more."""
    return f"import secrets\nprint('ran:%s:%s' % ({number!r}, secrets.token_hex(8)), flush=True)\n{then}"


def skewed(home: Path, seconds: float) -> dict[str, str]:
    """Give the environment of a daemon whose clock is ahead by so many seconds, in every Python process of it.

    The kernel cannot do it: its time namespaces have no time of day. What asks the C library itself is not shifted.
    """
    home.mkdir(exist_ok=True)
    (home / "sitecustomize.py").write_text(SKEW)
    return {"PYTHONPATH": str(home), "TEST_CLOCK_SHIFT": str(seconds)}


@dataclass
class Wire:
    """A TCP proxy. Its methods are for the test's thread; each has happened when it returns."""

    upstream: int
    token: trio.lowlevel.TrioToken
    nursery: trio.Nursery
    port: int
    is_cut: bool = False
    _open: trio.Event = field(default_factory=trio.Event)
    _scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    def stall(self) -> None:
        """Pass nothing on; connections stay, new ones are taken."""
        self._do(self._stall)

    def flow(self) -> None:
        """Pass on what was held back, and all after it."""
        self._do(self._open.set)

    def cut(self) -> None:
        """End all connections and refuse new ones."""
        self.is_cut = True
        trio.from_thread.run(self._cut, trio_token=self.token)

    def mend(self) -> None:
        """Listen again, on the same port."""
        self.is_cut = False
        trio.from_thread.run(self.listen, trio_token=self.token)

    def _do(self, work: Callable[[], None]) -> None:
        trio.from_thread.run_sync(work, trio_token=self.token)

    def _stall(self) -> None:
        self._open = trio.Event()

    async def _cut(self) -> None:
        self._scope.cancel()
        # The listener is closed by its task.
        await trio.testing.wait_all_tasks_blocked(0.001)

    async def listen(self) -> None:
        """Begin."""
        listeners = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
        self._scope = trio.CancelScope()
        self._open.set()
        self.nursery.start_soon(self._serve, listeners, self._scope)

    async def _serve(self, listeners: list[trio.SocketListener], scope: trio.CancelScope) -> None:
        with scope:
            await trio.serve_listeners(self._pass_on, listeners)

    async def _pass_on(self, client: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            async with (
                client,
                await trio.open_tcp_stream("127.0.0.1", self.upstream) as server,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(self._pump, client, server, nursery.cancel_scope)
                nursery.start_soon(self._pump, server, client, nursery.cancel_scope)

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream, over: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            while data := await source.receive_some():
                await self._open.wait()
                await sink.send_all(data)
        over.cancel()


@dataclass
class Faults:
    """Makes proxies. Use :func:`open_faults`."""

    token: trio.lowlevel.TrioToken
    nursery: trio.Nursery
    ports: ExitStack

    def wire(self, upstream: int) -> Wire:
        """Have a proxy before a port of the loopback."""
        wire = Wire(upstream, self.token, self.nursery, self.ports.enter_context(held_port()))
        wire.mend()
        return wire

    def s3(self, upstream: int) -> S3Faults:
        """Have a proxy before an S3 server."""

        async def run(*, task_status: trio.TaskStatus[FaultProxy]) -> None:
            async with open_fault_proxy(upstream) as proxy:
                task_status.started(proxy)
                await trio.sleep_forever()

        async def start() -> FaultProxy:
            proxy: FaultProxy = await self.nursery.start(run)
            return proxy

        return S3Faults(trio.from_thread.run(start, trio_token=self.token), self.token)


@dataclass
class S3Faults:
    """A :class:`tests.s3_server.FaultProxy`, for the test's thread."""

    proxy: FaultProxy
    token: trio.lowlevel.TrioToken
    is_away: bool = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.proxy.port}"

    def stall(self, what: str) -> None:
        """Hold such requests, as :attr:`tests.s3_server.FaultProxy.stall` has it."""
        self.proxy.stall = what

    def flow(self) -> None:
        """Let go on what was held, and hold nothing more."""
        trio.from_thread.run_sync(self._flow, trio_token=self.token)

    def _flow(self) -> None:
        self.proxy.stall = ""
        self.proxy.release.set()
        self.proxy.release = trio.Event()

    def go_away(self) -> None:
        self.is_away = True
        trio.from_thread.run(self.proxy.go_away, trio_token=self.token)

    def come_back(self) -> None:
        self.is_away = False
        trio.from_thread.run(self.proxy.come_back, trio_token=self.token)


@contextmanager
def open_faults() -> Iterator[Faults]:
    """Have a thread for proxies in the block."""
    ready: list[Faults] = []
    started = threading.Event()

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            ready.append(Faults(trio.lowlevel.current_trio_token(), nursery, ports))
            started.set()
            await trio.sleep_forever()

    with ExitStack() as ports:
        thread = threading.Thread(target=trio.run, args=(serve,))
        thread.start()
        started.wait()
        try:
            yield ready[0]
        finally:
            trio.from_thread.run_sync(ready[0].nursery.cancel_scope.cancel, trio_token=ready[0].token)
            thread.join()


@dataclass(frozen=True)
class Told:
    """What a caller was told: ``done``, the code of an error, ``broken``: the connection ended; ``refused``: there was none."""

    what: str
    text: str = ""
    """Everything that came on the way."""
    body: dict[str, Any] = field(default_factory=dict)
    """Of the result or the error."""

    @property
    def nonces(self) -> list[str]:
        return [nonce.decode() for _, nonce in NONCE.findall(self.text.encode())]


def stream(
    daemon: Daemon, code: str, lang: str = "py", on_text: Callable[[str], None] = lambda _text: None, **fields: Any
) -> Told:
    """Have code run and hear what it says as it says it."""
    body = json.dumps({"lang": lang, "code": code, **fields})
    text = ""
    if not daemon.address:
        return Told("refused")  # it does not say yet where it listens
    connection = daemon.connection()
    try:
        try:
            connection.connect()
        except ConnectionError:
            return Told("refused")
        connection.request("POST", "/v1/exec?stream=1", body, {"Content-Type": "application/json", "X-API-Key": KEY})
        response = connection.getresponse()
        if response.status != 200:
            told = json.loads(response.read())
            return Told(told["error"], body=told | {"status": response.status})
        for kind, data in _events(response):
            if kind == "output":
                text += data["text"]
                on_text(text)
            else:
                return Told("done" if kind == "result" else data["error"], text, data)
    except TimeoutError:
        raise AssertionError("a caller was left waiting") from None
    except (OSError, http.client.HTTPException):
        pass
    finally:
        connection.close()
    return Told("broken", text)


def _events(response: http.client.HTTPResponse) -> Iterator[tuple[str, Any]]:
    kind = ""
    while line := response.readline():
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)


class Ran:
    """Hears, at Redis, what every run of a marked program has said of itself on its way to a gateway.

    Only output that is listened to goes that way: ask with :func:`stream`.
    """

    def __init__(self, server: RedisServer) -> None:
        self.nonces: dict[str, set[str]] = defaultdict(set)
        self.jobs: dict[str, str] = {}
        """The ledger's name of each that has said something."""
        self._server = server
        self._last = f"heard to the end {secrets.token_hex(8)}"
        self._all = threading.Event()
        self._listening = threading.Event()
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._listen)

    def _listen(self) -> None:
        with self._server.client() as client, client.monitor() as monitor:
            self._socket = monitor.connection._sock
            self._listening.set()
            with suppress(redis.RedisError, OSError):
                while True:
                    said = monitor.connection.read_response()
                    if self._last.encode() in said:
                        self._all.set()
                    for number, nonce in NONCE.findall(said):
                        self.nonces[number.decode()].add(nonce.decode())
                        if (job := _JOB.search(said)) is not None:
                            self.jobs[number.decode()] = job[1].decode()

    @property
    def twice(self) -> dict[str, set[str]]:
        """What has run more than once."""
        return {number: found for number, found in list(self.nonces.items()) if len(found) > 1}

    def __enter__(self) -> Ran:
        self._thread.start()
        assert self._listening.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._socket is not None
        # What was said before is heard before it: nothing that still waits to be read is lost.
        with suppress(redis.RedisError):
            self._server.command("ECHO", self._last)
            self._all.wait(60)
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()

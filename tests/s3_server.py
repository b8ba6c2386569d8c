"""A real server of the S3 protocol, and a proxy before it that breaks in the ways that networks and servers do.

The server is a process of its own, one for all tests of a session, that ends when its standard input does; each test
has a bucket of its own. It keeps everything in memory, so an outage is made with the proxy; and says of every
unfinished upload that it was begun in 2010, so a sweeper takes it for one that a crash left.
"""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import boto3
import botocore.config
import pytest
import trio
import trio.testing

from supervisor.settings.fleet import S3Settings
from tests.kept_port import held_port

ACCESS_KEY, SECRET_KEY = "an-access-key", "a-secret-key"

_SERVER: Final = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
_numbers = itertools.count(1)


@dataclass
class S3Server:
    """A running server. It can be killed; what it held is lost then."""

    port: int
    process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @functools.cached_property
    def _client(self) -> Any:
        config = botocore.config.Config(
            s3={"addressing_style": "path"}, request_checksum_calculation="when_required", proxies={}
        )
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            config=config,
        )

    def client(self) -> Any:
        """Give a client of our own kind, to look at what is really there."""
        return self._client

    def new_bucket(self) -> str:
        """Make an empty bucket that nobody else uses."""
        name = f"bucket-{next(_numbers)}"
        self.client().create_bucket(Bucket=name)
        return name

    def settings(self, bucket: str, port: int | None = None, **others: Any) -> S3Settings:
        """Give settings for a bucket; ``port`` is that of a proxy."""
        url = self.url if port is None else f"http://127.0.0.1:{port}"
        keys = {"region": "us-east-1", "access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
        given: dict[str, Any] = {"url": url, "bucket": bucket, **keys}
        return S3Settings(**(given | others))

    def kill(self) -> None:
        """End it at once, and all that it holds."""
        self.process.kill()
        self.process.wait()


@contextmanager
def run_s3_server() -> Iterator[S3Server]:
    """Run a server for the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield S3Server(int(process.stdout.readline()), process)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One server for all tests."""
    with run_s3_server() as server:
        yield server


@dataclass(frozen=True)
class Seen:
    """A request that came by."""

    method: str
    target: str
    headers: dict[str, str]


@dataclass
class FaultProxy:
    """Passes HTTP requests on, one for each connection, and breaks as it is told. Use :func:`open_fault_proxy`."""

    upstream: int
    port: int
    seen: list[Seen] = field(default_factory=list)
    fail: int = 0
    """So many requests, from now, are answered with an error; -1: all."""
    fail_target: str = ""
    """Only those do whose target has this in it."""
    fail_with: tuple[int, str] = (503, "SlowDown")
    cut_answers: int = 0
    """So many answers are cut in the middle of their bodies."""
    cut_bodies: int = 0
    """So many requests with a body are cut in the middle of it."""
    lost_answers: int = 0
    """So many requests are done, but not answered."""
    trickle_bytes: int = 0
    """Answers come in pieces of this size, with pauses."""
    stall: str = ""
    """``body``: a request's body is read no further; ``answer``: no answer comes; or a method: those are not answered."""
    change: bytes = b""
    """Bodies of answers have this at their start."""
    stalled: trio.Event = field(default_factory=trio.Event)
    """Set when a request has come to where it stalls."""
    release: trio.Event = field(default_factory=trio.Event)
    """Set it to let such requests go on."""
    _stop: trio.CancelScope = field(default_factory=trio.CancelScope)
    _nursery: trio.Nursery | None = None

    async def come_back(self) -> None:
        """Listen, on the port of before."""
        assert self._nursery is not None
        listeners = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
        self._stop = trio.CancelScope()
        self._nursery.start_soon(self._listen, listeners, self._stop)

    async def go_away(self) -> None:
        """Refuse connections, and end those that there are."""
        self._stop.cancel()
        await trio.testing.wait_all_tasks_blocked(0.001)

    async def _listen(self, listeners: list[trio.SocketListener], stop: trio.CancelScope) -> None:
        with stop:
            await trio.serve_listeners(self._serve, listeners)

    async def _serve(self, client: trio.SocketStream) -> None:
        try:
            async with client:
                await self._exchange(client)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass  # one side went; the other learns it now

    async def _exchange(self, client: trio.SocketStream) -> None:
        read = b""
        while b"\r\n\r\n" not in read:
            data = await client.receive_some()
            if not data:
                return
            read += data
        head, _, body = read.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        method, target, _ = first.split(" ", 2)
        self.seen.append(Seen(method, target, headers))
        length = int(headers.get("content-length", "0"))
        if self.stall == method or (self.stall == "body" and length):
            await self._hang()
        if self.fail and self.fail_target in target:
            self.fail -= self.fail > 0
            await self._refuse(client, method, length - len(body))
            return
        cut = length > 1 and self.cut_bodies > 0
        self.cut_bodies -= cut
        async with await trio.open_tcp_stream("127.0.0.1", self.upstream) as server:
            await server.send_all(head + b"\r\nConnection: close\r\n\r\n" + body)
            left = (length // 2 if cut else length) - len(body)
            while left > 0:
                data = await client.receive_some(min(left, 1 << 16))
                if not data:
                    return
                left -= len(data)
                await server.send_all(data)
            if cut:
                return
            if self.stall == "answer":
                # The server has done what was asked: only who asked does not hear of it.
                await trio.lowlevel.wait_readable(server.socket)
                await self._hang()
            if self.lost_answers:
                self.lost_answers -= 1
                await server.receive_some()
                return
            await self._answer(client, server, method)

    async def _answer(self, client: trio.SocketStream, server: trio.SocketStream, method: str) -> None:
        read = b""
        while b"\r\n\r\n" not in read:
            data = await server.receive_some()
            if not data:
                break
            read += data
        head, _, body = read.partition(b"\r\n\r\n")
        lengths = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        left = lengths[0] if lengths and method == "GET" else 0
        # What is left of a body, if it is to be cut: half of it.
        allowed = left // 2 if self.cut_answers > 0 and left > 1 else None
        self.cut_answers -= allowed is not None
        await client.send_all(head + b"\r\n\r\n")
        if not body:
            body = await server.receive_some(1 << 16)
        if self.change and method == "GET":
            body = self.change + body[len(self.change) :]
        while body:
            piece = body if allowed is None else body[:allowed]
            await self._send(client, piece)
            if allowed is not None:
                allowed -= len(piece)
                if not allowed:
                    return
            body = await server.receive_some(1 << 16)

    async def _send(self, client: trio.SocketStream, data: bytes) -> None:
        step = self.trickle_bytes or len(data)
        for start in range(0, len(data), step):
            await client.send_all(data[start : start + step])
            if self.trickle_bytes:
                await trio.sleep(0.001)

    async def _refuse(self, client: trio.SocketStream, method: str, left: int) -> None:
        while left > 0:
            data = await client.receive_some(1 << 16)
            if not data:
                return
            left -= len(data)
        status, code = self.fail_with
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>told to</Message></Error>".encode()
        head = f"HTTP/1.1 {status} Told\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        await client.send_all(head + (b"" if method == "HEAD" else body))

    async def _hang(self) -> None:
        self.stalled.set()
        await self.release.wait()


@asynccontextmanager
async def open_fault_proxy(upstream: int) -> AsyncIterator[FaultProxy]:
    """Run a proxy on a free port of the loopback, before the server on port ``upstream``, for the block."""
    with held_port() as port:
        async with trio.open_nursery() as nursery:
            proxy = FaultProxy(upstream, port, _nursery=nursery)
            await proxy.come_back()
            yield proxy
            nursery.cancel_scope.cancel()

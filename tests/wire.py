"""Talk to a daemon in bytes: what clients' libraries would never send, and from addresses of our choice."""

from __future__ import annotations

import http.client
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.daemon import KEY, Daemon

AUTHORIZED = f"Host: localhost\r\nX-API-Key: {KEY}\r\n"
SECONDS = 60
"""Longer than anything here takes."""


def connect(daemon: Daemon, source: str = "127.0.0.1", receive_buffer: int | None = None) -> socket.socket:
    """Open a connection; every address of 127/8 is ours."""
    link = socket.socket()
    if receive_buffer is not None:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    link.settimeout(SECONDS)
    link.bind((source, 0))
    host, _, port = daemon.address.rpartition(":")
    link.connect((host, int(port)))
    return link


def read_to_end(link: socket.socket) -> bytes:
    """Read until the other side ends it."""
    pieces: list[bytes] = []
    try:
        while piece := link.recv(1 << 16):
            pieces.append(piece)
    except (ConnectionResetError, BrokenPipeError):
        pass
    return b"".join(pieces)


def exchange(daemon: Daemon, *sent: bytes, source: str = "127.0.0.1", end: bool = False) -> bytes:
    """Send, until the other side wants no more, and give all that comes back."""
    with connect(daemon, source) as link:
        try:
            for piece in sent:
                link.sendall(piece)
            if end:
                link.shutdown(socket.SHUT_WR)
        except (ConnectionResetError, BrokenPipeError):
            pass
        return read_to_end(link)


def drip(link: socket.socket, byte: bytes) -> bytes:
    """Send one byte again and again, as often as nothing comes back for a moment; give what came in the end."""
    while not select.select([link], [], [], 0.05)[0]:
        try:
            link.sendall(byte)
        except (ConnectionResetError, BrokenPipeError):
            break
    return read_to_end(link)


def request(method: str, path: str, headers: str = "", body: bytes = b"") -> bytes:
    """Write a request that is alone on its connection."""
    head = f"{method} {path} HTTP/1.1\r\n{AUTHORIZED}Connection: close\r\n{headers}"
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{head}{length}\r\n".encode() + body


def ask(daemon: Daemon, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """Send a request in one piece, for a daemon that would wait for no second one; give status and body."""
    with connect(daemon) as link:
        link.sendall(request(method, path, body=body))
        with http.client.HTTPResponse(link) as response:
            response.begin()
            return response.status, response.read()


def status_of(answer: bytes) -> int:
    """Give the status of the first answer; 0 if there is none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def answers_in(data: bytes) -> int:
    """Count the answers."""
    return data.count(b"HTTP/1.1 ")


def is_served(daemon: Daemon, source: str = "127.0.0.1") -> bool:
    """Say whether somebody else gets an answer."""
    return status_of(exchange(daemon, request("GET", "/health"), source=source)) == 200


def memory(daemon: Daemon) -> int:
    """Give the daemon's resident bytes; its start process is not it."""
    fields = (Path("/proc") / str(main_pid(daemon)) / "status").read_text()
    return int(fields.partition("VmRSS:")[2].split()[0]) * 1024


def main_pid(daemon: Daemon) -> int:
    """Give the process that listens."""
    return daemon.process.pid


def descriptors(daemon: Daemon) -> int:
    """Count the daemon's open descriptors."""
    return len(list((Path("/proc") / str(main_pid(daemon)) / "fd").iterdir()))


@contextmanager
def many(daemon: Daemon, count: int, source: str = "127.0.0.1") -> Iterator[list[socket.socket]]:
    """Have so many connections for the block."""
    with ExitStack() as stack:
        yield [stack.enter_context(connect(daemon, source)) for _ in range(count)]

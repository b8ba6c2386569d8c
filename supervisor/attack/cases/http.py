"""Group H, the bind itself: who lets us wait, what two readers read differently, bombs, and paths that lead away."""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import trio

from supervisor.attack import host, wire
from supervisor.attack.case import Broken, Collection, Untried
from supervisor.attack.target import Target, together

COLLECTION: Final = Collection()
_case: Final = COLLECTION.case
_OURS: Final = "Report it with the JSON of this run: this is a fault of Gaoler's own."
_SLOW: Final = 12
_IDLE: Final = 200
_PLACES: Final = 64
_MARGIN_SECONDS: Final = 15.0
_LONGEST_SECONDS: Final = 120.0
_DRIP_SECONDS: Final = 0.5
_SERVED_SECONDS: Final = 10.0
_MAY_GROW: Final = 64 << 20
_READ: Final = 1 << 16
_DOWNLOAD: Final = 24 << 20


def status_of(answer: bytes) -> int:
    """Give the status of a raw answer; 0 if it has none."""
    words = answer.split(b" ", 2)
    return int(words[1]) if answer.startswith(b"HTTP/1.1 ") and words[1].isdigit() else 0


async def read_to_end(stream: trio.SocketStream, limit: int = 256 << 20) -> bytes:
    """Read what comes until the daemon ends the connection."""
    taken = bytearray()
    try:
        while len(taken) < limit and (piece := await stream.receive_some(_READ)):
            taken += piece
    except trio.BrokenResourceError:
        pass
    return bytes(taken)


async def exchange(target: Target, *pieces: bytes) -> bytes:
    """Send bytes on a connection of their own and give what comes back before its end.

    Raises:
        Broken: the connection does not end.
    """
    with trio.move_on_after(_LONGEST_SECONDS):
        async with await wire.connect(target.address) as stream:
            try:
                for piece in pieces:
                    await stream.send_all(piece)
            except trio.BrokenResourceError:
                pass
            return await read_to_end(stream)
    raise Broken(f"the connection is open {_LONGEST_SECONDS:.0f} s after {pieces[0][:60]!r}")


async def served(target: Target) -> None:
    """Ask as somebody else.

    Raises:
        Broken: no answer soon.
    """
    with trio.move_on_after(_SERVED_SECONDS):
        answer = await target.request("GET", "/health", caller=target.colleague)
        if answer.status != 200:
            raise Broken(f"meanwhile another client gets {answer.status}")
        return
    raise Broken(f"meanwhile another client waits for more than {_SERVED_SECONDS:.0f} s")


def resident(target: Target) -> int:
    """Give the daemon's memory, in bytes."""
    return host.resident_bytes(target.daemon_pid)


def head_of(target: Target, method: str = "POST", path: str = "/v1/exec", more: str = "") -> bytes:
    """Write the head of a request that may come in, without its end."""
    who = f"X-API-Key: {target.me.key}\r\nX-User-Id: {target.user}\r\n"
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{who}{more}".encode()


async def _drip(target: Target, begin: bytes, seconds: float) -> None:
    """Begin, go on byte by byte, and have the daemon end it within its time."""
    if seconds + _MARGIN_SECONDS > _LONGEST_SECONDS:
        raise Untried(f"the settings let a client take {seconds:.0f} s, which is too long to be tried")
    async with await wire.connect(target.address) as stream, trio.open_nursery() as nursery:

        async def drip() -> None:
            while True:
                await stream.send_all(b"a")
                await trio.sleep(_DRIP_SECONDS)

        async def dripping() -> None:
            try:
                await drip()
            except trio.BrokenResourceError:
                pass

        await stream.send_all(begin)
        nursery.start_soon(dripping)
        with trio.move_on_after(seconds + _MARGIN_SECONDS) as patience:
            await read_to_end(stream)
        nursery.cancel_scope.cancel()
    if patience.cancelled_caught:
        raise Broken(f"a client that sends a byte now and then is waited for longer than {seconds:.0f} s")


async def _many(target: Target, count: int, begin: Callable[[], bytes], seconds: float) -> str:
    """Do that on many connections, and see that others are served."""
    works: Sequence[Callable[[], Awaitable[object]]] = [partial(_drip, target, begin(), seconds) for _ in range(count)]
    before = resident(target)
    await together(*works, partial(served, target))
    await served(target)
    grown = resident(target) - before
    if grown > _MAY_GROW:
        raise Broken(f"{count} slow clients cost the daemon {grown >> 20} MiB")
    return f"{count} slow clients were cut, others were served"


_WAITING: Final = "A few slow clients take every connection, or all memory, and nobody else is served."


@_case(
    "H1",
    "heads byte by byte",
    promise="A client that sends the head of a request slowly is cut after http.header_seconds; others are served.",
    meaning=_WAITING,
    mend="Lower http.header_seconds; report it.",
)
async def slow_heads(target: Target) -> str:
    """Drip headers."""
    head = head_of(target, "GET", "/health", "X-Slow: ")
    return await _many(target, _SLOW, lambda: head, target.settings.http.header_seconds)


@_case(
    "H1",
    "bodies byte by byte",
    promise="A client that sends a body slowly is cut after http.body_seconds for each 64 KiB; others are served.",
    meaning=_WAITING,
    mend="Lower http.body_seconds; report it.",
)
async def slow_bodies(target: Target) -> str:
    """Drip bodies."""
    head = head_of(target, more="Content-Length: 1000000\r\n\r\n")
    return await _many(target, _SLOW, lambda: head, target.settings.http.body_seconds)


@_case(
    "H1",
    "answers that nobody reads",
    promise="A client that does not read its answer is cut after http.send_seconds; its file is closed.",
    meaning=_WAITING,
    mend="Lower http.send_seconds; report it.",
)
async def slow_readers(target: Target) -> str:
    """Ask for a download and leave it."""
    seconds = target.settings.http.send_seconds
    if seconds + _MARGIN_SECONDS > _LONGEST_SECONDS:
        raise Untried(f"the settings let a client take {seconds:.0f} s, which is too long to be tried")
    kept = await target.upload(("large", os.urandom(_DOWNLOAD)))
    if kept.status != 200:
        raise Untried(f"a file of {_DOWNLOAD >> 20} MiB is not taken here: {kept.status}")
    path = f"/v1/download/{kept.json['session_id']}/{kept.json['files'][0]['fileId']}"
    async with await wire.connect(target.address) as stream:
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
        await stream.send_all(head_of(target, "GET", path, "\r\n"))
        await served(target)
        await trio.sleep(seconds + _MARGIN_SECONDS)
        with trio.move_on_after(_SERVED_SECONDS):
            got = await read_to_end(stream)
            if len(got) > _DOWNLOAD:
                raise Broken(f"a client that read nothing for {seconds + _MARGIN_SECONDS:.0f} s gets its whole answer")
            return f"cut after {len(got) >> 10} KiB"
    raise Broken("the connection of a client that does not read stays open")


@_case(
    "H1",
    "connections on which nothing is asked",
    promise="Idle connections keep nobody out.",
    meaning=_WAITING,
    mend="Lower http.connections and http.connections_per_address; report it.",
    place="twin",
)
async def idle(target: Target) -> str:
    """Open more than there are places for, and say nothing."""
    twin = target.twin
    assert twin is not None
    await twin.stop()
    try:
        await twin.start({"GAOLER_HTTP_CONNECTIONS": str(_PLACES), "GAOLER_HTTP_CONNECTIONS_PER_ADDRESS": str(_PLACES)})
        return await _idle(target)
    finally:
        with trio.CancelScope(shield=True):
            if twin.running:
                await twin.stop()
            await twin.start()


async def _idle(target: Target) -> str:
    before = resident(target)
    streams = [await wire.connect(target.address) for _ in range(_IDLE)]
    try:
        await served(target)
        grown = resident(target) - before
    finally:
        for stream in streams:
            await stream.aclose()
    if grown > _MAY_GROW:
        raise Broken(f"{_IDLE} idle connections cost {grown >> 20} MiB")
    return f"{_IDLE} idle connections, of {_PLACES} places, cost {max(0, grown) >> 10} KiB"


_HIDDEN: Final = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"


def _ambiguous(target: Target) -> dict[str, bytes]:
    """Give messages that two readers can read differently."""
    head = head_of(target)
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    return {
        "a length and chunks": head + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "two lengths": head + b"Content-Length: 0\r\nContent-Length: 33\r\n\r\n",
        "one length twice": head + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "a signed length": head + b"Content-Length: +4\r\n\r\nabcd",
        "two codings": head + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
        "a folded header": head + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        "a space before the colon": head + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "bare line feeds": head + b"X: y\nContent-Length: 0\r\n\r\n",
        "a bare carriage return": head + b"X: y\rTransfer-Encoding: chunked\r\n\r\n",
        "a NUL": head + b"X: \0\r\n\r\n",
        "two hosts": head_of(target, "GET", "/health", "Host: y\r\n\r\n"),
        "a chunk size that is none": chunked + b"xyz\r\n",
        "a chunk size beyond all numbers": chunked + b"f" * 30 + b"\r\n",
        "a chunk longer than said": chunked + b"1\r\nab\r\n0\r\n\r\n",
        "an extension without end": chunked + b"2;" + b"x" * 200_000,
        "HTTP/0.9": b"GET /health\r\n\r\n",
        "HTTP/1.0 with chunks": chunked.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n",
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0" * 50,
        "an absolute target": b"GET http://other/health HTTP/1.1\r\nHost: x\r\n\r\n",
        "a tunnel": b"CONNECT other:80 HTTP/1.1\r\nHost: other:80\r\n\r\n",
    }


@_case(
    "H2",
    "messages that can be read in two ways",
    promise="A message that a proxy in front may read otherwise is refused, and ends its connection.",
    meaning="Behind a proxy, one client's bytes become another client's request.",
    mend="Report it; until then let a strict proxy stand in front.",
)
async def smuggling(target: Target) -> str:
    """Send each, with a hidden request after it."""
    forms = _ambiguous(target)
    for name, sent in forms.items():
        answer = await exchange(target, sent + _HIDDEN)
        if answer.count(b"HTTP/1.1 ") != 1 or status_of(answer) not in (400, 431, 505):
            raise Broken(f"{name}: answered with {answer[:60]!r} and {answer.count(b'HTTP/1.1 ')} answers")
    return f"{len(forms)} forms were refused"


@_case(
    "H2",
    "other protocols",
    promise="Nothing but HTTP/1.1 is spoken, also when it is asked for by an upgrade.",
    meaning="Floods of HTTP/2 and websockets reach code that Gaoler does not need.",
    mend=_OURS,
)
async def upgrades(target: Target) -> None:
    """Ask for h2c and for a websocket."""
    for name in ("h2c", "websocket"):
        more = f"Connection: Upgrade, close\r\nUpgrade: {name}\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"
        answer = await exchange(target, head_of(target, "GET", "/health", more))
        if status_of(answer) == 101 or answer.count(b"HTTP/1.1 ") != 1:
            raise Broken(f"it speaks {name}: {answer[:60]!r}")


@_case(
    "H10",
    "the unix socket",
    promise="A unix socket cannot be opened by users whom the operator has not let in.",
    meaning="Every user of the host talks to the daemon.",
    mend="Start the daemon again: it makes the socket with mode 0660. Look who is in its group.",
)
async def unix_socket(target: Target) -> str:
    """Look at the socket's mode."""
    if not target.address.startswith("unix:"):
        raise Untried(f"the daemon listens at {target.address}, not on a unix socket")
    mode = (await trio.Path(target.address.removeprefix("unix:")).stat()).st_mode
    if not stat.S_ISSOCK(mode) or mode & 0o007:
        raise Broken(f"its mode is {stat.filemode(mode)}")
    return stat.filemode(mode)

"""Attacks on the one bind of both doors, in bytes: memory stays bounded, others are served, nothing is smuggled."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.daemon import KEY, Daemon, daemon_with, eventually
from tests.wire import (
    AUTHORIZED,
    answers_in,
    ask,
    connect,
    descriptors,
    drip,
    exchange,
    is_served,
    main_pid,
    many,
    memory,
    read_to_end,
    request,
    status_of,
)

pytestmark = pytest.mark.root
OTHER = "127.0.0.2"
MEBIBYTE = 1 << 20
MAY_GROW = 48 * MEBIBYTE
"""What an attack may leave in the daemon's memory; each below would take gigabytes if it were not bounded."""


@pytest.fixture(scope="module")
def hasty(image_dir: Path) -> Iterator[Daemon]:
    """A daemon that loses patience soon."""
    settings = {
        "GAOLER_HTTP_CONNECTIONS": "64",
        "GAOLER_HTTP_CONNECTIONS_PER_ADDRESS": "32",
        "GAOLER_HTTP_HEADER_SECONDS": "1",
        "GAOLER_HTTP_BODY_SECONDS": "1",
        "GAOLER_HTTP_SEND_SECONDS": "1",
        "GAOLER_HTTP_IDLE_SECONDS": "4",
    }
    with daemon_with(image_dir, settings) as running:
        yield running


@pytest.fixture(autouse=True)
def flat(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing here may cost the daemon memory, and it serves afterwards."""
    name = "hasty" if "hasty" in request.fixturenames else "daemon" if "daemon" in request.fixturenames else None
    if name is None:
        yield
        return
    running: Daemon = request.getfixturevalue(name)
    before = memory(running)
    yield
    assert is_served(running, OTHER)
    grown = memory(running) - before
    assert grown < MAY_GROW, grown


# -- who lets us wait --


def test_a_head_that_comes_byte_by_byte_is_cut(hasty: Daemon) -> None:
    with connect(hasty) as link:
        link.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert status_of(drip(link, b"a")) == 408


def test_a_head_that_stops_is_cut_and_others_are_served_meanwhile(hasty: Daemon) -> None:
    with many(hasty, 30) as links:
        for link in links:
            link.sendall(b"POST /exec HTTP/1.1\r\nHost: x\r\n")
        assert is_served(hasty)
        assert is_served(hasty, OTHER)
        assert {status_of(read_to_end(link)) for link in links} <= {0, 408}


@pytest.mark.parametrize("path", ["/v1/exec", "/mcp", "/v1/upload"])
def test_a_body_that_comes_byte_by_byte_is_cut(hasty: Daemon, path: str) -> None:
    kind = "multipart/form-data; boundary=b" if path.endswith("upload") else "application/json"
    with connect(hasty) as link:
        link.sendall(
            f"POST {path} HTTP/1.1\r\n{AUTHORIZED}Content-Type: {kind}\r\nContent-Length: 1000000\r\n\r\n".encode()
        )
        assert status_of(drip(link, b" ")) == 408
    assert not [line for line in hasty.lines() if "Traceback" in line]


def test_a_connection_on_which_nothing_is_asked_is_closed(hasty: Daemon) -> None:
    with connect(hasty) as link:
        assert read_to_end(link) == b""
    with connect(hasty) as link:
        body = b'{"lang": "cobol", "code": ""}'
        link.sendall(f"POST /exec HTTP/1.1\r\n{AUTHORIZED}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert answers_in(read_to_end(link)) == 1


def test_who_does_not_read_a_download_is_cut(hasty: Daemon) -> None:
    # An upload may take longer than such a daemon waits.
    code = f"head -c {60 * MEBIBYTE} /dev/urandom > big.bin"
    status, answer = ask(hasty, "POST", "/v1/exec", json.dumps({"lang": "bash", "code": code}).encode())
    assert status == 200, answer
    (kept,) = json.loads(answer)["files"]
    with connect(hasty, receive_buffer=4096) as link:
        link.sendall(request("GET", f"/v1/download/{kept['storage_session_id']}/{kept['id']}"))
        # The file is open before anything of the answer comes.
        assert link.recv(100).startswith(b"HTTP/1.1 200")
        eventually(lambda: not blobs_open(hasty))
        assert len(read_to_end(link)) < 60 * MEBIBYTE


def blobs_open(daemon: Daemon) -> list[str]:
    """Name the stored files that a daemon has open."""
    found = []
    for each in (Path("/proc") / str(main_pid(daemon)) / "fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(os.readlink(each))
    return [each for each in found if "/data/blobs/" in each]


def test_a_long_execution_is_waited_for_however_hasty_we_are(hasty: Daemon) -> None:
    body = json.dumps({"lang": "py", "code": "import time; time.sleep(5); print(1)"}).encode()
    status, answer = ask(hasty, "POST", "/v1/exec", body)
    assert (status, json.loads(answer)["stdout"]) == (200, "1\n")


def test_a_slow_reader_does_not_hold_up_the_end(image_dir: Path) -> None:
    with daemon_with(image_dir, {}) as daemon:
        kept = daemon.upload(("big.bin", os.urandom(30 * MEBIBYTE))).json
        with connect(daemon, receive_buffer=4096) as link:
            link.sendall(request("GET", f"/v1/download/{kept['session_id']}/{kept['files'][0]['fileId']}"))
            assert link.recv(100).startswith(b"HTTP/1.1 200")
            daemon.stop()


# -- how many --


def test_thousands_that_say_nothing_keep_nobody_out(hasty: Daemon) -> None:
    with many(hasty, 100), many(hasty, 100, "127.0.0.3"):
        assert is_served(hasty)
        assert is_served(hasty, OTHER)
        assert descriptors(hasty) < 64 + 60


def test_who_holds_all_places_of_an_address_keeps_out_only_its_own(image_dir: Path) -> None:
    settings = {"GAOLER_HTTP_CONNECTIONS": "16", "GAOLER_HTTP_CONNECTIONS_PER_ADDRESS": "8"}
    with daemon_with(image_dir, settings) as daemon:
        with many(daemon, 8) as links:
            hold(links)
            refused = exchange(daemon, request("GET", "/health"))
            assert status_of(refused) == 503
            assert json.loads(refused.partition(b"\r\n\r\n")[2])["error"] == "connections"
            assert is_served(daemon, OTHER)
            with many(daemon, 8, "127.0.0.3") as more:
                hold(more)
                assert status_of(exchange(daemon, request("GET", "/health"), source=OTHER)) == 503
        eventually(lambda: is_served(daemon))
        told = [line for line in daemon.lines() if "connections refused" in line]
        assert 1 <= len(told) <= 2, "a flood is no reason to fill the log"


def hold(links: list[socket.socket]) -> None:
    """Have a request begun on each; that we may go on tells that it is being worked on."""
    for link in links:
        link.sendall(
            f"POST /v1/exec HTTP/1.1\r\n{AUTHORIZED}Expect: 100-continue\r\nContent-Length: 100\r\n\r\n".encode()
        )
        assert link.recv(100).startswith(b"HTTP/1.1 100")


def test_requests_in_a_row_on_one_connection_are_answered_one_after_the_other(daemon: Daemon) -> None:
    body = b'{"lang": "cobol", "code": ""}'
    one = f"POST /exec HTTP/1.1\r\n{AUTHORIZED}Content-Length: {len(body)}\r\n\r\n".encode() + body
    with connect(daemon) as link:
        link.sendall(one * 300 + request("GET", "/health"))
        assert is_served(daemon, OTHER)
        answer = read_to_end(link)
    assert answers_in(answer) == 301
    assert answer.count(b'"field":"lang"') == 300


# -- what two readers could read differently --

HEAD = f"POST /v1/exec HTTP/1.1\r\n{AUTHORIZED}"
GET = f"GET /health HTTP/1.1\r\n{AUTHORIZED}"
HIDDEN = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
SMUGGLED: dict[str, tuple[str, int]] = {
    "a length and chunks": (f"{HEAD}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}", 400),
    "chunks and a length": (f"{HEAD}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n{HIDDEN}", 400),
    "two lengths": (f"{HEAD}Content-Length: 0\r\nContent-Length: 35\r\n\r\n{HIDDEN}", 400),
    "the same length twice": (f"{HEAD}Content-Length: 1\r\nContent-Length: 1\r\n\r\nx{HIDDEN}", 400),
    "a list of lengths": (f"{HEAD}Content-Length: 0, 35\r\n\r\n{HIDDEN}", 400),
    "a signed length": (f"{HEAD}Content-Length: +4\r\n\r\nabcd{HIDDEN}", 400),
    "a negative length": (f"{HEAD}Content-Length: -4\r\n\r\n{HIDDEN}", 400),
    "a hexadecimal length": (f"{HEAD}Content-Length: 0x4\r\n\r\nabcd{HIDDEN}", 400),
    "a length of a thousand digits": (f"{HEAD}Content-Length: {'9' * 1000}\r\n\r\n{HIDDEN}", 400),
    "two transfer codings": (f"{HEAD}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n{HIDDEN}", 400),
    "an unknown coding": (f"{HEAD}Transfer-Encoding: gzip, chunked\r\n\r\n{HIDDEN}", 501),
    "a coding with a tab": (f"{HEAD}Transfer-Encoding:\tchunked\r\nContent-Length: 4\r\n\r\n{HIDDEN}", 400),
    "a vertical tab": (f"{HEAD}Transfer-Encoding: \x0bchunked\r\n\r\n{HIDDEN}", 400),
    "space before the colon": (f"{HEAD}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{HIDDEN}", 400),
    "a folded header": (f"{HEAD}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n{HIDDEN}", 400),
    "a folded first header": (f"GET /health HTTP/1.1\r\n X: y\r\n{AUTHORIZED}\r\n{HIDDEN}", 400),
    "bare line feeds": (f"{HEAD}X: y\nContent-Length: 0\r\n\r\n{HIDDEN}", 400),
    "only line feeds": ((f"{GET}\r\n{HIDDEN}").replace("\r", ""), 400),
    "a bare carriage return": (f"{HEAD}X: y\rTransfer-Encoding: chunked\r\n\r\n{HIDDEN}", 400),
    "a NUL in a header": (f"{HEAD}X: \0\r\n\r\n{HIDDEN}", 400),
    "an empty header name": (f"{HEAD}: y\r\n\r\n{HIDDEN}", 400),
    "two hosts": (f"{GET}Host: y\r\n\r\n{HIDDEN}", 400),
    "no host": ("GET /health HTTP/1.1\r\n\r\n", 400),
    "a bad chunk size": (f"{HEAD}Transfer-Encoding: chunked\r\n\r\nxyz\r\n{HIDDEN}", 400),
    "a chunk size with a sign": (f"{HEAD}Transfer-Encoding: chunked\r\n\r\n+2\r\n{{}}\r\n0\r\n\r\n{HIDDEN}", 400),
    "a chunk size beyond all numbers": (f"{HEAD}Transfer-Encoding: chunked\r\n\r\n{'f' * 30}\r\n{HIDDEN}", 400),
    "a chunk longer than said": (f"{HEAD}Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n{HIDDEN}", 400),
    "a chunk that ends with a line feed": (
        f"{HEAD}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\n0\r\n\r\n{HIDDEN}",
        400,
    ),
    "a folded trailer": (f"{HEAD}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\nX: y\r\n z\r\n\r\n{HIDDEN}", 400),
    "HTTP/0.9": ("GET /health\r\n\r\n", 400),
    "HTTP/1.0 with chunks": (
        f"{HEAD}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}".replace("1.1", "1.0", 1),
        400,
    ),
    "HTTP/2 by prior knowledge": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\0\0\0\4\0\0\0\0\0" * 100, 505),
    "HTTP/3.0": ("GET /health HTTP/3.0\r\nHost: x\r\n\r\n", 505),
    "an absolute target": ("GET http://other/health HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a target that is no path": ("GET ?health HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a broken absolute target": ("GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "an asterisk": ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a tunnel": ("CONNECT other:80 HTTP/1.1\r\nHost: other:80\r\n\r\n", 400),
    "a target with a space": ("GET /health /x HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a target of bytes": ("GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a line before the request": ("\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "TLS": ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "x" * 100, 400),
    "a long target": (f"GET /{'x' * 9000} HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "many headers": (GET + "".join(f"X-{number}: y\r\n" for number in range(101)) + "\r\n", 431),
    "one huge header": (f"{GET}X: {'y' * 40_000}\r\n\r\n", 431),
}


@pytest.mark.parametrize("name", SMUGGLED)
def test_a_message_that_is_not_plain_is_refused_and_ends_its_connection(daemon: Daemon, name: str) -> None:
    sent, status = SMUGGLED[name]
    answer = exchange(daemon, sent.encode("latin-1"))
    assert (status_of(answer), answers_in(answer)) == (status, 1), answer[:300]


@pytest.mark.parametrize(
    "upgrade",
    ["Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
     "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"],
    ids=["HTTP/2", "websocket"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/health", "/mcp", "/v1/exec"])
def test_no_other_protocol_is_spoken(daemon: Daemon, upgrade: str, path: str) -> None:
    answer = exchange(daemon, f"GET {path} HTTP/1.1\r\n{AUTHORIZED}{upgrade}\r\n".encode(), end=True)
    assert answers_in(answer) == 1
    assert status_of(answer) in (200, 400, 405, 406)


def test_a_length_that_is_too_short_ends_the_connection_after_the_answer(daemon: Daemon) -> None:
    body = b'{"lang": "cobol", "code": ""}'
    head = f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode()
    answer = exchange(daemon, head + body + b"\x00trailing" + HIDDEN.encode())
    assert answers_in(answer) == 2
    assert status_of(answer[answer.rindex(b"HTTP/1.1") :]) == 400


# -- bombs --


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


BOMBS: dict[str, tuple[bytes, bytes, int, set[int]]] = {
    # Head, what is sent again and again, how many times, and how it may end.
    "a head without end": (GET.encode(), b"X: " + b"y" * 60_000, 2000, {431}),
    "headers without end": (GET.encode(), b"X: y\r\n" * 10_000, 2000, {431}),
    "a chunked body without end": (
        f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode(),
        chunk(bytes(1 << 20)),
        1000,
        {413},
    ),
    "a body without end at MCP": (
        f"POST /mcp HTTP/1.1\r\n{AUTHORIZED}Transfer-Encoding: chunked\r\n\r\n".encode(),
        chunk(bytes(1 << 20)),
        1000,
        {413},
    ),
    "a body that nobody may send": (
        b"POST /v1/exec HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        chunk(bytes(1 << 20)),
        1000,
        {401},
    ),
    "a body that nobody may send, at MCP": (
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
        chunk(bytes(1 << 20)),
        1000,
        {401},
    ),
    "a body to where none belongs": (
        b"POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        chunk(bytes(1 << 20)),
        1000,
        {405},
    ),
    "chunks of a byte": (f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode(), chunk(b" ") * 10_000, 1000, {400}),
    "chunks of two bytes": (f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode(), chunk(b"  ") * 10_000, 1000, {400}),
    "a chunk's extension without end": (
        f"{HEAD}Transfer-Encoding: chunked\r\n\r\n2;".encode(),
        b"x" * 60_000,
        2000,
        {400, 431},
    ),
    "trailers without end": (
        f"{HEAD}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n".encode(),
        b"X: y\r\n" * 10_000,
        2000,
        {400, 431},
    ),
    "parts without end": (
        f"POST /v1/upload HTTP/1.1\r\n{AUTHORIZED}Content-Type: multipart/form-data; boundary=b\r\n"
        "Transfer-Encoding: chunked\r\n\r\n".encode(),
        chunk(b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n' * 1000),
        1000,
        {400},
    ),
    "a field's name without end": (
        f"POST /v1/upload HTTP/1.1\r\n{AUTHORIZED}Content-Type: multipart/form-data; boundary=b\r\n"
        "Transfer-Encoding: chunked\r\n\r\n".encode()
        + chunk(b'--b\r\nContent-Disposition: form-data; name="'),
        chunk(b"x" * 60_000),
        2000,
        {400},
    ),
    "a preamble without end": (
        f"POST /v1/upload HTTP/1.1\r\n{AUTHORIZED}Content-Type: multipart/form-data; boundary=b\r\n"
        "Transfer-Encoding: chunked\r\n\r\n".encode(),
        chunk(b"x" * 60_000),
        2000,
        {400},
    ),
    "a part's headers without end": (
        f"POST /v1/upload HTTP/1.1\r\n{AUTHORIZED}Content-Type: multipart/form-data; boundary=b\r\n"
        "Transfer-Encoding: chunked\r\n\r\n".encode()
        + chunk(b"--b\r\n"),
        chunk(b"X: y\r\n" * 10_000),
        2000,
        {400},
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused(daemon: Daemon, name: str) -> None:
    head, piece, count, statuses = BOMBS[name]
    answer = exchange(daemon, head, *([piece] * count))
    # Who sends a gigabyte and more may find the connection closed in its face; it never gets anything else.
    assert status_of(answer) in {0, *statuses}, answer[:300]
    assert is_served(daemon, OTHER)


JSON_BOMBS: dict[str, bytes] = {
    "a million digits": b'{"lang": "cobol", "language": "cobol", "code": "1", "x": ' + b"9" * 1_000_000 + b"}",
    "a million digits where a number belongs": b'{"lang": "cobol", "language": "cobol", "code": "1", "timeout": '
    + b"9" * 1_000_000
    + b"}",
    "a million digits in an argument": b'{"lang": "cobol", "language": "cobol", "code": "1", "args": ['
    + b"9" * 1_000_000
    + b"]}",
    "a version of a million digits": b'{"lang": "cobol", "language": "cobol", "code": "1", "files": [{"id": "'
    + b"A" * 21
    + b'", "name": "x", "version": '
    + b"9" * 1_000_000
    + b"}]}",
    "an exponent of a million digits": b'{"lang": "cobol", "language": "cobol", "code": "1", "timeout": 1e'
    + b"9" * 1_000_000
    + b"}",
    "the same key a million times": b'{"lang": "cobol", "language": "cobol", "code": "1"'
    + b', "lang": "cobol"' * 1_000_000
    + b"}",
    "a million keys": b'{"lang": "cobol", "language": "cobol", "code": "1"'
    + b"".join(b', "%d": 1' % n for n in range(1_000_000))
    + b"}",
    "objects in objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "lists that do not end": b"[" * 1_000_000,
    "a million files": b'{"lang": "cobol", "language": "cobol", "code": "1", "files": [' + b"{}," * 1_000_000 + b"{}]}",
    "a million arguments": b'{"lang": "cobol", "language": "cobol", "code": "1", "args": ['
    + b"1," * 1_000_000
    + b"1]}",
    "minus infinity": b'{"lang": "cobol", "language": "cobol", "code": "1", "timeout": -Infinity}',
    "UTF-32": '{"lang": "cobol", "language": "cobol", "code": "1"}'.encode("utf-32"),
    "a text that does not end": b'{"lang": "' + b"\\u0000" * 1_000_000,
}


@pytest.mark.parametrize("name", JSON_BOMBS)
@pytest.mark.parametrize("path", ["/v1/exec", "/v1/exec/programmatic", "/v1/sessions", "/mcp"])
def test_json_of_every_kind_is_refused(daemon: Daemon, name: str, path: str) -> None:
    headers = "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
    answer = exchange(daemon, request("POST", path, headers, JSON_BOMBS[name]))
    assert status_of(answer) == (413 if len(JSON_BOMBS[name]) > 16 * MEBIBYTE and path == "/mcp" else 400), answer[:300]
    assert not [line for line in daemon.lines() if "Traceback" in line]


PARTS: dict[str, tuple[str, bytes]] = {
    "no boundary": ("multipart/form-data", b"--b--\r\n"),
    "an empty boundary": ("multipart/form-data; boundary=", b"----\r\n"),
    "a huge boundary": (f"multipart/form-data; boundary={'b' * 5000}", b"--b--\r\n"),
    "a boundary of pattern signs": ('multipart/form-data; boundary="(.*)+$"', b"--(.*)+$--\r\n"),
    "a boundary with a line break": ("multipart/form-data; boundary*=utf-8''b%0d%0ac", b"--b\r\nc--\r\n"),
    "a part of parts": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="file"\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c--\r\n--b--\r\n',
    ),
    "nothing of a name": ("multipart/form-data; boundary=b", b"--b\r\n\r\nx\r\n--b--\r\n"),
    "a part that is cut off": ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="file'),
    **{
        f"a name that leads away: {name}": (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"; ' + name.encode() + b"\r\n\r\nx\r\n--b--\r\n",
        )
        for name in (
            "filename*=UTF-8''..%2f..%2fetc%2fpasswd",
            "filename*=UTF-8''%00",
            "filename*=UTF-8''a%0d%0ab",
            'filename*0=".."; filename*1="/x"',
            'filename=".."',
            'filename="/etc/passwd"',
            'filename="C:\\\\x\\\\y"',
            'filename=""',
            'filename="' + "x" * 5000 + '"',
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_forms_of_every_kind_are_refused_and_nothing_is_kept(daemon: Daemon, name: str) -> None:
    kind, body = PARTS[name]
    blobs = daemon.state_dir / "data" / "blobs"

    def kept() -> set[Path]:
        # What was begun may still be on its way out.
        eventually(lambda: not any((blobs / "incoming").glob("*")))
        return {path for path in blobs.rglob("*") if path.is_file()}

    before = kept()
    for path in ("/v1/upload", "/v1/upload/batch"):
        answer = exchange(daemon, request("POST", path, f"Content-Type: {kind}\r\n", body))
        assert status_of(answer) == 400, (path, answer)
    assert kept() == before


# -- paths --

PATHS = [
    "/../../etc/passwd", "/v1/../admin/egress", "//exec", "/%2e%2e/%2e%2e/etc/passwd", "/v1/download/..%2f..%2fx/y",
    "/v1/download/%00/%00", "/v1/files/%c0%ae%c0%ae%c0%af", "/v1/files/..%5c..%5c", "/v1/files/a;b=c", "/v1/files/a#b",
    "/v1/sessions/x/files/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/v1/sessions/x/files//etc/passwd", "/v1/sessions/x/files/a%00b",
    "/v1/sessions/x/files/%ff%fe", "/v1/sessions/x/files/" + "a/" * 2000, "/v1/files/" + "x" * 8000, "/%", "/%%", "/%zz",
    "/v1/files/%u002e", "/v1/files/a%0d%0aSet-Cookie:x", "/shared/../../x/y", "/shared/%00/x", "/mcp/../v1/admin/egress",
    "/mcp/%2e%2e/health/../x", "/.well-known/oauth-protected-resource/../../x", "/v1/files/x?kind=user&id=%00",
    "/v1/files/x?kind=user&kind=agent&id=a&id=b", "/v1/files/x?" + "a=b&" * 1500, "/v1/files/x?detail=%ff",
    "/%f0%9f%92%a9", "/v1/exec%00", "/v1/exec/", "/V1/EXEC", "/v1/v1/health/x",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_a_path_leads_nowhere_it_should_not(daemon: Daemon, path: str) -> None:
    for method in ("GET", "DELETE", "POST"):
        answer = exchange(daemon, request(method, path))
        assert status_of(answer) in {200, 400, 403, 404, 405, 406, 414} - ({200} if method != "GET" else set()), answer
        assert b"root:" not in answer
        # Of what is not there, a listing is empty.
        assert status_of(answer) != 200 or answer.endswith(b"[]") or b"Content-Length: 0" in answer, answer
        assert b"\nSet-Cookie" not in answer
    assert not [line for line in daemon.lines() if "Traceback" in line]


# -- who is asking --


def test_a_header_about_the_address_gives_no_more_calls(image_dir: Path) -> None:
    with daemon_with(image_dir, {"GAOLER_RATES_LISTING": "3/60", "GAOLER_RATES_SHARED_FACTOR": "1"}) as daemon:
        statuses = []
        for number in range(6):
            forged = "".join(
                f"{name}: 10.0.0.{number}\r\n"
                for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded", "CF-Connecting-IP", "X-Client-IP")
            )
            source = f"127.0.0.{number + 2}"
            statuses.append(status_of(exchange(daemon, request("GET", f"/v1/files/{'A' * 21}", forged), source=source)))
        assert statuses == [200, 200, 200, 429, 429, 429]


def test_a_flood_without_credentials_stores_nothing_and_others_are_served(daemon: Daemon) -> None:
    # What an earlier upload had begun may still be on its way out.
    blobs = daemon.state_dir / "data" / "blobs"
    eventually(lambda: not any((blobs / "incoming").glob("*")))
    before = set(blobs.rglob("*"))
    body = os.urandom(256 * 1024)
    flood = (
        f"POST /v1/upload HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY[:-1]}\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    for _ in range(5):
        with many(daemon, 40) as links:
            for link in links:
                link.sendall(flood)
            assert is_served(daemon, OTHER)
            assert {status_of(read_to_end(link)) for link in links} == {401}
    assert set(blobs.rglob("*")) == before


def test_one_user_who_floods_does_not_keep_another_waiting(daemon: Daemon) -> None:
    # None of it ends by itself: who came after the flood would wait longer than he may.
    code = "ln -s /usr/bin/sleep /tmp/of-the-flood; exec /tmp/of-the-flood 300"
    body = json.dumps({"lang": "bash", "code": code, "user_id": "flooder"}).encode()
    with many(daemon, 60, "127.0.0.3") as links:
        for link in links:
            link.sendall(request("POST", "/v1/exec", body=body))
        # So many places one user has; the others wait.
        eventually(lambda: daemon.names().count("of-the-flood") == 6)
        assert daemon.execute("print(1)", user="neighbour")["stdout"] == "1\n"
    eventually(lambda: "of-the-flood" not in daemon.names())

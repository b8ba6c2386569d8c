"""HTTP/2 as clients see it, and as those see it who mean harm: memory stays flat, others are served, nothing hangs."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.certificates import Certificates, certificates
from tests.daemon import KEY, Daemon, daemon_with, eventually
from tests.h2_client import H2Client, Headers, Reply, block, h2_connection
from tests.wire import descriptors, memory

pytestmark = pytest.mark.root
MEBIBYTE = 1 << 20
MAY_GROW = 24 * MEBIBYTE
OTHER = "127.0.0.2"
INITIAL_WINDOW = int(SettingCodes.INITIAL_WINDOW_SIZE)


@pytest.fixture(scope="module")
def made() -> Iterator[Certificates]:
    with certificates() as found:
        yield found


CONNECTIONS = {"GAOLER_HTTP_CONNECTIONS": "128", "GAOLER_HTTP_CONNECTIONS_PER_ADDRESS": "64"}


@pytest.fixture(scope="module")
def served(image_dir: Path, made: Certificates) -> Iterator[Daemon]:
    with daemon_with(image_dir, made.settings() | CONNECTIONS) as running:
        yield running


@pytest.fixture(scope="module")
def hasty(image_dir: Path, made: Certificates) -> Iterator[Daemon]:
    """A daemon that loses patience soon: sooner than a busy machine may let a client go on."""
    settings = {
        "GAOLER_HTTP_HEADER_SECONDS": "1",
        "GAOLER_HTTP_BODY_SECONDS": "1",
        "GAOLER_HTTP_SEND_SECONDS": "1",
        "GAOLER_HTTP_IDLE_SECONDS": "4",
    }
    with daemon_with(image_dir, made.settings() | CONNECTIONS | settings) as running:
        yield running


@pytest.fixture(autouse=True)
def flat(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing here may cost the daemon memory, make it stumble, or keep others out."""
    name = next((each for each in ("hasty", "served") if each in request.fixturenames), None)
    if name is None:
        yield
        return
    running, made = request.getfixturevalue(name), request.getfixturevalue("made")
    before = memory(running)
    yield
    with h2_connection(running, made, OTHER) as other:
        assert other.get("/health").status == 200
    grown = memory(running) - before
    assert grown < MAY_GROW, grown
    lines = running.lines()
    stumbled = next((at for at, line in enumerate(lines) if "Traceback" in line or "a fault in" in line), len(lines))
    assert stumbled == len(lines), "\n".join(lines[stumbled - 1 : stumbled + 60])


@pytest.fixture
def client(served: Daemon, made: Certificates) -> Iterator[H2Client]:
    with h2_connection(served, made) as found:
        yield found


# -- as it is meant --


def test_curl_executes_over_it_and_over_http_1_1_if_it_prefers(served: Daemon, made: Certificates) -> None:
    for option, version in (("--http2", "2"), ("--http1.1", "1.1")):
        command = ["curl", "--silent", "--show-error", option, "--cacert", str(made.ca), "-H", f"X-API-Key: {KEY}"]
        command += ["-w", "\n%{http_version}", "-d", json.dumps({"lang": "py", "code": "print(6 * 7)"})]
        said = subprocess.run([*command, f"https://{served.address}/v1/exec"], capture_output=True, check=True)
        body, _, spoken = said.stdout.decode().rpartition("\n")
        assert (json.loads(body)["stdout"], spoken) == ("42\n", version)


def test_many_requests_share_a_connection_and_each_has_its_own_answer(client: H2Client) -> None:
    numbers = {}
    for number in range(16):
        body = json.dumps({"lang": "bash", "code": f"echo {number}"}).encode()
        numbers[client.ask("POST", "/v1/exec", [("content-length", str(len(body)))], body)] = number
    for stream, number in numbers.items():
        assert json.loads(client.wait(stream).body)["stdout"] == f"{number}\n"
    assert client.get("/v1/health").status == 200


def test_large_bodies_come_through_both_ways(client: H2Client) -> None:
    content = os.urandom(5 * MEBIBYTE)
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="big.bin"\r\n\r\n'
    kind = [("content-type", "multipart/form-data; boundary=b")]
    reply = client.wait(client.ask("POST", "/v1/upload", kind, head + content + b"\r\n--b--\r\n"))
    kept = json.loads(reply.body)
    answer = client.get(f"/v1/download/{kept['session_id']}/{kept['files'][0]['fileId']}")
    assert (answer.status, bytes(answer.body) == content) == (200, True)


def test_an_answer_to_half_a_body_ends_its_stream_and_nothing_else(client: H2Client) -> None:
    number = client.ask("POST", "/v1/nowhere", body=b"")
    assert client.wait(number).status == 404
    number = client.h2.get_next_available_stream_id()
    client.replies[number] = Reply()
    client.h2.send_headers(number, client.headers("POST", "/v1/exec", [("x-api-key", "wrong")]))
    client.flush()
    client.upload(number, b" " * 1000, end=False)
    assert client.wait(number).status in (400, 401, 408)
    assert client.get("/health").status == 200


def test_a_client_that_loses_interest_ends_its_program(served: Daemon, client: H2Client) -> None:
    number = client.ask("POST", "/v1/exec", body=json.dumps({"lang": "bash", "code": "sleep 61"}).encode())
    eventually(lambda: "sleep" in served.names())
    client.h2.reset_stream(number)
    client.flush()
    eventually(lambda: "sleep" not in served.names())
    assert client.get("/health").status == 200


def test_the_mcp_door_is_there_too(client: H2Client) -> None:
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    kind = [("content-type", "application/json"), ("accept", "application/json, text/event-stream")]
    reply = client.wait(client.ask("POST", "/mcp", kind, json.dumps(message).encode()))
    assert reply.status == 200
    assert b"serverInfo" in reply.body


# -- as strict as HTTP/1.1 --

PLAIN = [(":method", "GET"), (":path", "/health"), (":scheme", "https"), (":authority", "localhost")]


def with_pseudo(**changes: str) -> Headers:
    return [(name, changes.get(name[1:], value)) for name, value in PLAIN if changes.get(name[1:], value)]


REFUSED: dict[str, tuple[Headers, int]] = {
    # 0: the connection is ended, as it may be with any of them.
    "an asterisk": (with_pseudo(method="OPTIONS", path="*"), 400),
    "an absolute target": (with_pseudo(path="https://other/health"), 400),
    "no target": (with_pseudo(path=""), 0),
    "an empty target": ([(":method", "GET"), (":path", ""), *PLAIN[2:]], 0),
    "a target with a space": (with_pseudo(path="/health /x"), 400),
    "a target with a line feed": (with_pseudo(path="/health\nx: y"), 400),
    "a target of bytes": (with_pseudo(path="/é"), 400),
    "a tunnel": ([(":method", "CONNECT"), (":authority", "other:80")], 400),
    "a websocket": ([(":method", "CONNECT"), (":protocol", "websocket"), *PLAIN[1:]], 400),
    "a small method": (with_pseudo(method="get"), 400),
    "a method with a space": (with_pseudo(method="GET /x"), 400),
    "no host": (with_pseudo(authority=""), 0),
    "two hosts": ([*PLAIN, ("host", "other")], 0),
    "three hosts": ([*PLAIN, ("host", "localhost"), ("host", "localhost")], 0),
    "a host with a path": (with_pseudo(authority="localhost/x"), 400),
    "a host with a line feed": (with_pseudo(authority="localhost\nx: y"), 400),
    "two lengths": ([*PLAIN, ("content-length", "0"), ("content-length", "0")], 400),
    "a length and no body": ([*PLAIN, ("content-length", "5")], 400),
    "a signed length": ([*PLAIN, ("content-length", "+0")], 0),
    "chunks": ([*PLAIN, ("transfer-encoding", "chunked")], 0),
    "a connection header": ([*PLAIN, ("connection", "close")], 0),
    "an upgrade": ([*PLAIN, ("upgrade", "websocket")], 0),
    "a NUL in a value": ([*PLAIN, ("x", "a\0b")], 400),
    "a line feed in a value": ([*PLAIN, ("x", "a\nb: c")], 400),
    "a carriage return in a value": ([*PLAIN, ("x", "a\rb")], 400),
    "a name with a colon": ([*PLAIN, ("x:y", "z")], 400),
    "a name with a space": ([*PLAIN, ("x y", "z")], 400),
    "a large name": ([*PLAIN, ("X-Large", "z")], 0),
    "an empty name": ([*PLAIN, ("", "z")], 0),
    "an unknown pseudo header": ([*PLAIN, (":x", "z")], 0),
    "a pseudo header at the end": ([*PLAIN[1:], ("x", "y"), PLAIN[0]], 0),
    "a pseudo header twice": ([*PLAIN, PLAIN[0]], 0),
    "many headers": ([*PLAIN, *((f"x-{number}", "y") for number in range(101))], 431),
    "a long target": (with_pseudo(path="/" + "x" * 9000), 414),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_request_that_is_not_plain_is_refused(client: H2Client, name: str) -> None:
    headers, status = REFUSED[name]
    frame = HeadersFrame(1, block(headers), flags=["END_HEADERS", "END_STREAM"])
    client.h2.get_next_available_stream_id()
    client.send_frames(frame)
    # Its own state machine knows nothing of the stream, so the frames are read here.
    seen = read_frames(client)
    if seen.statuses:
        assert seen.statuses == [status]
    else:
        # h2 itself refuses it, and the connection with it.
        assert seen.goodbye is not None


class Seen:
    """Frames of the server, as far as they are of interest."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.resets: list[int] = []
        self.goodbye: int | None = None


def read_frames(client: H2Client, *, to_the_end: bool = False) -> Seen:
    """Read until a stream or the connection has come to an end; or only until the connection has."""
    from hpack import Decoder

    seen, data, decoder = Seen(), bytearray(), Decoder()
    while (to_the_end or not (seen.statuses or seen.resets)) and seen.goodbye is None:
        piece = client.link.recv(1 << 16)
        if not piece:
            break
        data += piece
        while len(data) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(bytes(data[:9])))
            if len(data) < 9 + length:
                break
            frame.parse_body(memoryview(bytes(data[9 : 9 + length])))
            del data[: 9 + length]
            if isinstance(frame, HeadersFrame):
                said = dict(decoder.decode(frame.data, raw=True))
                seen.statuses.append(int(said[b":status"]))
            elif isinstance(frame, RstStreamFrame):
                seen.resets.append(frame.error_code)
            elif type(frame).__name__ == "GoAwayFrame":
                seen.goodbye = frame.error_code  # type: ignore[attr-defined]
    return seen


# -- floods --


def headers_frame(number: int, *, end: bool = True) -> Frame:
    flags = ["END_HEADERS", "END_STREAM"] if end else ["END_HEADERS"]
    return HeadersFrame(number, block([*PLAIN, ("x-api-key", KEY)]), flags=flags)


def rapid_resets() -> Iterator[bytes]:
    for number in range(1, 40_001, 2):
        yield headers_frame(number).serialize() + RstStreamFrame(number, error_code=8).serialize()


def again(frame: Frame, times: int = 30_000) -> Callable[[], Iterator[bytes]]:
    def frames() -> Iterator[bytes]:
        yield from [frame.serialize() * 100] * (times // 100)

    return frames


def continuations() -> Iterator[bytes]:
    yield HeadersFrame(1, block(PLAIN)).serialize()
    for _ in range(100_000):
        yield ContinuationFrame(1, b"").serialize()


def fat_continuations() -> Iterator[bytes]:
    yield HeadersFrame(1, block(PLAIN)).serialize()
    for _ in range(1000):
        yield ContinuationFrame(1, b"\x40\x01x\x7f\x80\x7f" + b"y" * 16_000).serialize()


def empty_pieces() -> Iterator[bytes]:
    yield headers_frame(1, end=False).serialize()
    yield from again(DataFrame(1, b""))()


def tiny_pieces() -> Iterator[bytes]:
    yield headers_frame(1, end=False).serialize()
    yield from again(DataFrame(1, b"x"))()


def packed_bomb() -> Iterator[bytes]:
    """One entry of 4 KiB in the table, then named thousands of times, a byte each."""
    entry = b"\x40\x01x" + b"\x7f" + b"\xa1\x1e" + b"y" * 4000
    yield HeadersFrame(1, block(PLAIN) + entry + b"\xbe" * 10_000, flags=["END_HEADERS", "END_STREAM"]).serialize()


FLOODS: dict[str, Callable[[], Iterator[bytes]]] = {
    "streams that are reset at once": rapid_resets,
    "pings": again(PingFrame(0, b"12345678")),
    "acknowledged pings": again(PingFrame(0, b"12345678", flags=["ACK"])),
    "settings": again(SettingsFrame(0, {SettingCodes.INITIAL_WINDOW_SIZE: 70_000})),
    "empty settings": again(SettingsFrame(0)),
    "priorities": again(PriorityFrame(1, depends_on=3, stream_weight=7)),
    "windows": again(WindowUpdateFrame(0, window_increment=1)),
    "frames of no kind": again(ExtensionFrame(0xFA, 0, body=b"x")),
    "empty pieces": empty_pieces,
    "pieces of one byte": tiny_pieces,
    "continuations": continuations,
    "continuations with something in them": fat_continuations,
    "a packed bomb": packed_bomb,
    "resets of what never was": again(RstStreamFrame(1, error_code=8)),
    "frames that are too large": again(DataFrame(1, b"x" * 17_000), 100),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends_its_connection(served: Daemon, client: H2Client, name: str) -> None:
    sent, told = 0, endings(served)
    client.link.settimeout(20)
    for piece in FLOODS[name]():
        try:
            client.link.sendall(piece)
        except (ConnectionError, OSError):
            break
        sent += len(piece)
    try:
        while client.link.recv(1 << 16):
            pass
    except ConnectionError:
        pass
    assert sent < 32 * MEBIBYTE
    # Not only because it fell silent in the end. The first two are errors of the protocol, for which h2 itself ends it.
    if name not in ("a packed bomb", "resets of what never was"):
        eventually(lambda: endings(served) > told)


def endings(daemon: Daemon) -> int:
    return sum("an HTTP/2 connection of" in line for line in daemon.lines())


def test_more_streams_than_were_allowed_end_the_connection(client: H2Client) -> None:
    # All at once: one that is answered meanwhile is none any more.
    client.send_frames(*(headers_frame(2 * number + 1, end=False) for number in range(40)))
    assert read_frames(client, to_the_end=True).goodbye is not None or client.link.recv(1) == b""


# -- who lets us wait --


def test_a_window_that_never_opens_costs_a_stream_and_no_more(hasty: Daemon, made: Certificates) -> None:
    with h2_connection(hasty, made) as client:
        # An upload may take longer than such a daemon waits.
        code = f"head -c {30 * MEBIBYTE} /dev/urandom > big.bin"
        body = json.dumps({"lang": "bash", "code": code}).encode()
        (kept,) = json.loads(client.wait(client.ask("POST", "/v1/exec", body=body)).body)["files"]
    path = f"/v1/download/{kept['storage_session_id']}/{kept['id']}"
    before = descriptors(hasty)
    for settings in ({INITIAL_WINDOW: 0}, {}, {INITIAL_WINDOW: 500}):
        with h2_connection(hasty, made, settings=settings, takes=False) as client:
            numbers = [client.ask("GET", path) for _ in range(8)]
            assert [client.wait(number).reset for number in numbers] == [ErrorCodes.CANCEL] * 8
    eventually(lambda: descriptors(hasty) <= before + 2)


def test_a_body_that_stops_is_answered_and_its_place_is_free_again(hasty: Daemon, made: Certificates) -> None:
    with h2_connection(hasty, made) as client:
        numbers = []
        for _ in range(5):
            numbers.append(client.h2.get_next_available_stream_id())
            client.replies[numbers[-1]] = Reply()
            client.h2.send_headers(numbers[-1], client.headers("POST", "/v1/exec"))
        client.flush()
        assert [client.wait(number).status for number in numbers] == [408] * 5
        assert client.get("/health").status == 200


def test_headers_that_never_end_are_not_waited_for(hasty: Daemon, made: Certificates) -> None:
    with h2_connection(hasty, made) as client:
        client.send_frames(HeadersFrame(1, block(PLAIN)))
        client.wait_end()
        with_preface_only = descriptors(hasty)
        assert with_preface_only < 200


def test_a_connection_on_which_nothing_is_asked_is_closed(hasty: Daemon, made: Certificates) -> None:
    with h2_connection(hasty, made) as client:
        assert client.get("/health").status == 200
        client.wait_end()


# -- how many --


def test_streams_count_as_connections_do(image_dir: Path, made: Certificates) -> None:
    settings = made.settings() | {"GAOLER_HTTP_CONNECTIONS": "16", "GAOLER_HTTP_CONNECTIONS_PER_ADDRESS": "8"}
    with daemon_with(image_dir, settings) as daemon:
        with h2_connection(daemon, made) as client:
            numbers = []
            for _ in range(12):
                numbers.append(client.h2.get_next_available_stream_id())
                client.h2.send_headers(numbers[-1], client.headers("POST", "/v1/exec"))
            client.flush()
            while sum(reply.reset is not None for reply in client.replies.values()) < 4:
                client.read()
            refused = [number for number, reply in client.replies.items() if reply.reset is not None]
            assert refused == numbers[8:]
            assert {client.replies[number].reset for number in refused} == {ErrorCodes.REFUSED_STREAM}
            with h2_connection(daemon, made, OTHER) as other:
                assert other.get("/health").status == 200
        eventually(lambda: answers(daemon, made))
        with h2_connection(daemon, made, takes=False) as client:
            client.ask("POST", "/v1/exec", body=json.dumps({"lang": "bash", "code": "sleep 62"}).encode())
            eventually(lambda: "sleep" in daemon.names())
            # A program that runs is not waited for when the daemon is stopped.
            daemon.stop()


def answers(daemon: Daemon, made: Certificates) -> bool:
    try:
        with h2_connection(daemon, made) as client:
            return client.get("/health").status == 200
    except (ConnectionError, ssl.SSLError):
        # Refused before or within the handshake: the places of the last client are not free yet.
        return False

"""HTTPS as clients see it: what is spoken, how certificates are renewed, and that nobody can hold it up."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import Certificates, certificates, secure, serial_of
from tests.daemon import KEY, Daemon, daemon_with, eventually
from tests.wire import AUTHORIZED, connect, descriptors, many, read_to_end, request, status_of

pytestmark = pytest.mark.root
COBOL = b'{"lang": "cobol", "code": ""}'
KEPT = f"POST /exec HTTP/1.1\r\n{AUTHORIZED}Content-Length: {len(COBOL)}\r\n\r\n".encode() + COBOL
"""A request that is refused quickly, and leaves its connection open."""


@pytest.fixture(scope="module")
def made() -> Iterator[Certificates]:
    with certificates() as found:
        yield found


@pytest.fixture(scope="module")
def served(image_dir: Path, made: Certificates) -> Iterator[Daemon]:
    with daemon_with(image_dir, made.settings()) as running:
        yield running


@pytest.fixture(scope="module")
def hasty(image_dir: Path, made: Certificates) -> Iterator[Daemon]:
    """A daemon that loses patience soon."""
    settings = made.settings(HANDSHAKE_SECONDS="4", HANDSHAKES="16")
    with daemon_with(image_dir, settings) as running:
        yield running


@pytest.fixture(autouse=True)
def whole(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    for name in {"served", "hasty"}.intersection(request.fixturenames):
        running: Daemon = request.getfixturevalue(name)
        assert not [line for line in running.lines() if "Traceback" in line]


def ask(daemon: Daemon, context: ssl.SSLContext, path: str = "/v1/health", source: str = "127.0.0.1") -> int:
    with secure(daemon, context, source) as link:
        link.sendall(request("GET", path))
        return status_of(read_to_end(link))


def serial(daemon: Daemon, made: Certificates) -> int:
    with secure(daemon, made.client()) as link:
        return serial_of(link.getpeercert(binary_form=True))


def told(daemon: Daemon, words: str) -> bool:
    return any(words in line for line in daemon.lines())


def test_curl_executes_over_https_and_over_nothing_older_than_tls_1_2(served: Daemon, made: Certificates) -> None:
    curl = ["curl", "--silent", "--show-error", "--cacert", str(made.ca), "-H", f"X-API-Key: {KEY}"]
    url = f"https://{served.address}/v1/exec"
    body = json.dumps({"lang": "py", "code": "print(6 * 7)"})
    answer = subprocess.run([*curl, url, "-d", body], capture_output=True, check=True, text=True)
    assert json.loads(answer.stdout)["stdout"] == "42\n"
    old = subprocess.run(
        [*curl, "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0", url], capture_output=True, check=False
    )
    assert old.returncode == 35, old.stderr
    stranger = subprocess.run(["curl", "--silent", url], capture_output=True, check=False)
    assert stranger.returncode == 60, "who does not trust the authority says so"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_large_bodies_and_answers_come_through(served: Daemon, made: Certificates, version: ssl.TLSVersion) -> None:
    context = made.client()
    context.minimum_version = context.maximum_version = version
    content = os.urandom(5 << 20)
    connection = http.client.HTTPSConnection(served.address, context=context, timeout=60)
    boundary = b'--b\r\nContent-Disposition: form-data; name="file"; filename="big.bin"\r\n\r\n'
    sent = {"X-API-Key": KEY, "Content-Type": "multipart/form-data; boundary=b"}
    connection.request("POST", "/v1/upload", boundary + content + b"\r\n--b--\r\n", sent)
    kept = json.loads(connection.getresponse().read())
    connection.close()
    connection.request("GET", f"/v1/download/{kept['session_id']}/{kept['files'][0]['fileId']}", headers=sent)
    assert connection.getresponse().read() == content
    connection.close()


def test_the_end_of_an_answer_is_said_so_that_none_can_be_cut_short_unseen(served: Daemon, made: Certificates) -> None:
    context, raw = made.client(), connect(served)
    with context.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as link:
        link.sendall(request("GET", "/health").replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert status_of(read_to_end(link)) == 200


def test_who_speaks_http_is_told_and_who_speaks_nothing_of_the_kind_is_not(served: Daemon) -> None:
    with connect(served) as link:
        link.sendall(request("GET", "/health"))
        answer = read_to_end(link)
    assert status_of(answer) == 400
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == "https_only"
    for nonsense in (b"\0" * 100, b"\x80\x2e\x01\x00\x02", b"\x16" + b"x" * 100, b"\xff"):
        with connect(served) as link:
            link.sendall(nonsense)
            assert not status_of(read_to_end(link))


def test_messages_are_read_as_strictly_as_without_tls(served: Daemon, made: Certificates) -> None:
    both = f"POST /v1/exec HTTP/1.1\r\n{AUTHORIZED}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    with secure(served, made.client()) as link:
        link.sendall(both.encode() + request("GET", "/hidden"))
        assert read_to_end(link).count(b"HTTP/1.1 ") == 1


def test_handshakes_that_do_not_come_to_an_end_are_cut_and_keep_nobody_out(hasty: Daemon, made: Certificates) -> None:
    before = descriptors(hasty)
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    with many(hasty, 60) as links, many(hasty, 60, "127.0.0.3") as silent:
        for link in links:
            link.sendall(hello)
        assert ask(hasty, made.client()) == ask(hasty, made.client(), source="127.0.0.2") == 200
        assert descriptors(hasty) < before + 40
        for link in (*links, *silent):
            assert read_to_end(link) == b""
    eventually(lambda: descriptors(hasty) <= before)


def test_a_handshake_that_comes_byte_by_byte_has_no_more_time(hasty: Daemon) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    half = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        half.do_handshake()
    hello = outgoing.read()
    with connect(hasty) as link:
        link.settimeout(0.1)
        for byte in hello[:-1]:
            try:
                link.sendall(bytes([byte]))
                if link.recv(10) == b"":
                    return
            except TimeoutError:
                continue
            except OSError:
                return
    raise AssertionError("it had all the time in the world")


def test_a_renewed_certificate_is_taken_and_connections_of_before_go_on(served: Daemon, made: Certificates) -> None:
    before = serial(served, made)
    with secure(served, made.client()) as link:
        link.sendall(KEPT)
        refused(link)
        after = made.issue()
        assert after != before
        eventually(lambda: serial(served, made) == after)
        link.sendall(KEPT)
        refused(link)


def refused(link: ssl.SSLSocket) -> None:
    """Read the answer to such a request."""
    answer = b""
    while b"Unsupported language" not in answer:
        piece = link.recv(1 << 16)
        assert piece
        answer += piece


def look(daemon: Daemon) -> None:
    """Have the certificate read again now."""
    os.kill(daemon.process.pid, signal.SIGHUP)


def test_a_broken_certificate_is_told_of_and_the_old_one_goes_on(served: Daemon, made: Certificates) -> None:
    before, content, key = serial(served, made), made.certificate.read_bytes(), made.key.read_bytes()
    made.certificate.write_text("nonsense")
    look(served)
    eventually(lambda: told(served, "the old one goes on: tls.certificate"))
    other = made.authority.issue_cert("localhost")
    made.certificate.write_bytes(content)
    made.key.write_bytes(other.private_key_pem.bytes())
    look(served)
    eventually(lambda: told(served, "KEY_VALUES_MISMATCH"))
    assert serial(served, made) == before
    made.key.write_bytes(key)
    after = made.issue()
    look(served)
    eventually(lambda: serial(served, made) == after)


def test_a_signal_has_it_read_at_once_with_all_else_that_is_read_anew(served: Daemon, made: Certificates) -> None:
    lines = len(served.lines())
    look(served)
    for words in ("certificate read again", "reloaded"):
        eventually(lambda words=words: any(words in line for line in served.lines()[lines:]))  # type: ignore[misc]
    assert ask(served, made.client()) == 200


def test_a_key_that_only_root_can_read_serves_and_its_renewal_says_what_to_do(image_dir: Path) -> None:
    with certificates() as made:
        first = made.issue(owner=0)
        with daemon_with(image_dir, made.settings()) as daemon:
            assert serial(daemon, made) == first
            made.issue(owner=0)
            look(daemon)
            eventually(lambda: told(daemon, "cannot be read by uid 199999"))
            assert serial(daemon, made) == first


def test_with_an_authority_of_clients_only_those_with_a_certificate_come_in(image_dir: Path) -> None:
    with certificates() as made, daemon_with(image_dir, made.settings(CLIENT_CA=str(made.ca))) as daemon:
        assert ask(daemon, made.client(certificate=True)) == 200
        with pytest.raises((ssl.SSLError, ConnectionError), match=r"(?i)certificate.required|reset"):
            ask_without_mercy(daemon, made.client())
        with certificates() as others:
            context = made.client()
            others.authority.issue_cert("client@example.org").configure_cert(context)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                ask_without_mercy(daemon, context)


def ask_without_mercy(daemon: Daemon, context: ssl.SSLContext) -> None:
    """As :func:`ask`; whatever goes wrong is raised."""
    with secure(daemon, context) as link:
        link.sendall(request("GET", "/health"))
        while link.recv(1 << 16):
            pass
        raise AssertionError("it was served")


def test_the_daemon_sees_the_directory_of_the_certificate_and_no_way_out_of_it(image_dir: Path) -> None:
    with certificates() as made:
        way_out = made.directory / "service.sock"
        with socket.socket(socket.AF_UNIX) as service:
            service.bind(str(way_out))
            service.listen()
            with daemon_with(image_dir, made.settings()) as daemon:
                root = Path(f"/proc/{daemon.process.pid}/root")
                assert (root / str(made.certificate)[1:]).read_bytes() == made.certificate.read_bytes()
                assert not (root / str(way_out)[1:]).is_socket()
                mounts = Path(f"/proc/{daemon.process.pid}/mountinfo").read_text().splitlines()
                shown = [line.split() for line in mounts if line.split()[4] == str(made.directory)]
                assert [fields[5].split(",")[0] for fields in shown] == ["ro"]

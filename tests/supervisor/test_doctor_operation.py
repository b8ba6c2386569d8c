"""``gaoler doctor`` about certificates, keys of tokens and the receiver of spans: real files, real servers."""

from __future__ import annotations

import os
import shutil
import ssl
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import trustme

from supervisor.doctor.host import Finding, examine
from supervisor.doctor.operation import examine_operation
from supervisor.settings.loading import load
from tests.certificates import DAEMON_UID, Certificates, certificates
from tests.daemon import nobodys_port
from tests.otlp_receiver import run_receiver, say

TOKEN = "a-token-for-the-receiver"


def found(**given: Any) -> dict[str, Finding]:
    flags = {key.replace("__", "."): value for key, value in given.items()}
    return {each.name: each for each in examine_operation(load(file=None, environment={}, flags=flags).settings)}


@pytest.fixture
def files() -> Iterator[Certificates]:
    with certificates() as made:
        yield made


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="gt-"))
    yield path
    shutil.rmtree(path)


def of_tls(files: Certificates, **more: str) -> dict[str, Finding]:
    return found(tls__certificate=str(files.certificate), tls__key=str(files.key), **more)


def test_what_is_not_set_is_not_tried() -> None:
    assert found() == {}


# -- certificates --


@pytest.mark.root
def test_a_certificate_that_the_daemons_user_may_read_is_well(files: Certificates) -> None:
    told = of_tls(files, tls__client_ca=str(files.ca))
    assert {name: each.status for name, each in told.items()} == {"certificate": "ok", "renewed certificate": "ok"}
    assert told["renewed certificate"].found == f"would be taken: uid {DAEMON_UID} reads it"


@pytest.mark.root
@pytest.mark.parametrize("name", ["tls.certificate", "tls.key", "tls.client_ca"])
def test_a_file_that_only_root_may_read_serves_and_would_not_be_renewed(files: Certificates, name: str) -> None:
    path = {"tls.certificate": files.certificate, "tls.key": files.key, "tls.client_ca": files.ca}[name]
    os.chown(path, 0, 0)
    path.chmod(0o600)
    told = of_tls(files, tls__client_ca=str(files.ca))
    assert told["certificate"].status == "ok"
    renewed = told["renewed certificate"]
    assert (renewed.status, renewed.found) == (
        "note",
        f"{name}: uid {DAEMON_UID} cannot read {path}: Permission denied",
    )
    assert f"let uid {DAEMON_UID} read the file" in renewed.fix


@pytest.mark.root
def test_directories_above_do_not_count_and_each_one_on_the_way_of_a_link_does(files: Certificates) -> None:
    """As Let's Encrypt has it: links from ``live`` to ``archive``, both in directories that only root may enter."""
    live, archive = files.directory / "live" / "host", files.directory / "archive" / "host"
    for path in (live, archive):
        path.mkdir(parents=True)
        path.chmod(0o755)
        path.parent.chmod(0o700)
    for path in (files.certificate, files.key):
        path.rename(archive / path.name)
        (live / path.name).symlink_to(f"../../archive/host/{path.name}")
    links = {"tls__certificate": str(live / files.certificate.name), "tls__key": str(live / files.key.name)}
    assert found(**links)["renewed certificate"].status == "ok"
    archive.chmod(0o700)
    told = found(**links)["renewed certificate"]
    assert (told.status, str(archive) in told.found) == ("note", True)
    archive.chmod(0o755)
    live.chmod(0o700)
    told = found(**links)["renewed certificate"]
    assert (told.status, str(live) in told.found) == ("note", True)


def test_a_certificate_that_does_not_hold_any_more_or_soon_will_not_is_said(files: Certificates) -> None:
    for left, status in ((timedelta(days=-1), "fail"), (timedelta(days=3), "note"), (timedelta(days=60), "ok")):
        made = files.authority.issue_cert("localhost", not_after=datetime.now(UTC) + left)
        files.certificate.write_bytes(b"".join(each.bytes() for each in made.cert_chain_pems))
        files.key.unlink()
        files.key.write_bytes(made.private_key_pem.bytes())
        assert of_tls(files)["certificate"].status == status


def test_a_certificate_with_which_nothing_would_start_is_said_with_its_setting(files: Certificates) -> None:
    files.ca.write_text("none")
    told = of_tls(files, tls__client_ca=str(files.ca))
    assert list(told) == ["certificate"]
    assert (told["certificate"].status, told["certificate"].fix) == ("fail", "mend tls.client_ca: a start would fail")


# -- keys of tokens --


def test_keys_of_tokens_are_read_and_what_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_text("[]")
    told = found(
        mcp__authorization_server="https://login.example.org",
        mcp__oauth_jwks=str(path),
        mcp__oauth_audience="https://gaoler.example.org",
    )
    assert (told["keys of tokens"].status, str(path) in told["keys of tokens"].found) == ("fail", True)
    assert told["keys of tokens"].fix == "mend what mcp.oauth_jwks names: a start would fail"


# -- the receiver of spans --


def test_a_receiver_that_takes_spans_is_sent_none_and_told_our_token() -> None:
    with run_receiver() as receiver:
        told = found(tracing__url=receiver.url, tracing__headers=f"Authorization=Bearer {TOKEN} ")["tracing"]
        assert (receiver.bodies, receiver.spans) == ([b""], [])
    assert told.status == "ok", told
    assert "without TLS" in told.found
    assert receiver.heads[0]["authorization"] == f"Bearer {TOKEN}", "a space at the end is no part of it"


@pytest.mark.parametrize(
    ("status", "verdict", "fix"),
    [
        (401, "fail", "set tracing.headers"),
        (403, "fail", "set tracing.headers"),
        (404, "fail", "look at the path of tracing.url"),
        (307, "fail", "look at the path of tracing.url"),
        (503, "note", "it cannot take spans now"),
    ],
)
def test_one_that_does_not_take_them_is_said_with_what_to_do(status: int, verdict: str, fix: str) -> None:
    with run_receiver() as receiver:
        receiver.answers = [lambda handler: say(handler, status, Location="http://localhost:9/")]
        told = found(tracing__url=receiver.url, tracing__headers=f"Authorization=Bearer {TOKEN}")["tracing"]
    assert (told.status, told.found) == (verdict, f"status {status}")
    assert told.fix.startswith(fix)


def no_http(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"SSH-2.0-nothing of that\r\n\r\n")


def test_one_that_is_not_there_or_speaks_something_else_is_said_and_no_secret_is() -> None:
    headers = f"Authorization=Bearer {TOKEN}"
    with nobodys_port() as port:
        nobody = found(tracing__url=f"http://127.0.0.1:{port}", tracing__headers=headers)["tracing"]
    with run_receiver() as receiver:
        receiver.answers = [no_http]
        other = found(tracing__url=receiver.url, tracing__headers=headers)["tracing"]
    for told in (nobody, other):
        assert told.status == "fail"
        assert "is the receiver running" in told.fix
        assert TOKEN not in str(told)


def test_tls_of_the_receiver_is_tried_with_the_authorities_of_the_settings(directory: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = trustme.CA()
    authority.issue_cert("localhost").configure_cert(context)
    trusted, other = directory / "ca.pem", directory / "other.pem"
    authority.cert_pem.write_to_path(str(trusted))
    trustme.CA().cert_pem.write_to_path(str(other))
    with run_receiver(context) as receiver:
        well = found(tracing__url=receiver.url, tracing__ca=str(trusted))["tracing"]
        unknown = found(tracing__url=receiver.url, tracing__ca=str(other))["tracing"]
    assert (well.status, "with TLS" in well.found) == ("ok", True)
    assert (unknown.status, "set tracing.ca" in unknown.fix) == ("fail", True)
    assert found(tracing__url=receiver.url, tracing__ca=str(directory / "none.pem"))["tracing"].fix == "mend tracing.ca"


def test_a_gateway_is_looked_at_in_the_same_way(directory: Path) -> None:
    with nobodys_port() as port:
        given = {
            "fleet.role": "gateway",
            "fleet.secret": "s" * 32,
            "fleet.service_token": "t" * 32,
            "fleet.signing_key": str(directory / "one.pem"),
            "api_key": "k" * 20,
            "redis.url": f"redis://127.0.0.1:{port}",
            "s3.url": f"http://127.0.0.1:{port}",
            "s3.access_key": "a",
            "s3.secret_key": "b",
            "tracing.url": f"http://127.0.0.1:{port}",
        }
        findings = {each.name: each for each in examine(load(file=None, environment={}, flags=given).settings)}
    assert findings["tracing"].status == "fail"

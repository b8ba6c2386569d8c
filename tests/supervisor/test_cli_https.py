"""Commands ask a daemon that speaks HTTPS in the name of a host, from where it runs."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import trustme
from mcp import Client, StdioServerParameters

from tests.certificates import Certificates, certificates
from tests.daemon import ADMIN_KEY, KEY, ROOT, Daemon, daemon_with
from tests.supervisor.command_line import gaoler

OURS: Final = {"PYTHONPATH": str(ROOT)}
"""For commands that run elsewhere than in the checkout."""


@pytest.mark.root
def test_the_certificate_of_the_settings_is_believed_and_no_other(image_dir: Path, state_dir: Path) -> None:
    files = {name: state_dir / f"{name}.pem" for name in ("own", "key", "other")}
    own, other = (trustme.CA().issue_cert("gaoler.example") for _ in range(2))
    files["own"].write_bytes(b"".join(each.bytes() for each in own.cert_chain_pems))
    own.private_key_pem.write_to_path(files["key"])
    files["other"].write_bytes(other.cert_chain_pems[0].bytes())
    certificate, key = str(files["own"]), str(files["key"])
    with daemon_with(image_dir, {"GAOLER_TLS_CERTIFICATE": certificate, "GAOLER_TLS_KEY": key}) as daemon:
        done = gaoler("status", daemon=daemon, GAOLER_TLS_CERTIFICATE=certificate, GAOLER_TLS_KEY=key)
        assert done.returncode == 0, done.stderr
        another = gaoler("status", daemon=daemon, GAOLER_TLS_CERTIFICATE=str(files["other"]), GAOLER_TLS_KEY=key)
        assert another.returncode == 69
        assert "certificate verify failed" in another.stderr
        by_url = gaoler("status", "--url", f"https://{daemon.address}", daemon=daemon)
        assert by_url.returncode == 69, "what --url names has to be in the name of its host"


def said(
    *arguments: str, settings: Mapping[str, str], daemon: Daemon | None = None, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    return gaoler(*arguments, daemon=daemon, stdin="", cwd=cwd, **settings)


@dataclass(frozen=True)
class Own:
    """What a client has: a certificate and its key, together and apart."""

    certificate: Path
    key: Path
    both: Path


def own(authority: trustme.CA, directory: Path, name: str) -> Own:
    made = authority.issue_cert(f"{name}@example.org")
    found = Own(*(directory / f"{name}-{each}.pem" for each in ("certificate", "key", "both")))
    found.certificate.write_bytes(b"".join(each.bytes() for each in made.cert_chain_pems))
    made.private_key_pem.write_to_path(found.key)
    made.private_key_and_cert_chain_pem.write_to_path(found.both)
    return found


@pytest.fixture(scope="module")
def files() -> Iterator[Certificates]:
    with certificates() as made:
        yield made


@pytest.fixture(scope="module")
def asking(image_dir: Path, files: Certificates) -> Iterator[Daemon]:
    """A daemon that asks its clients for certificates."""
    with daemon_with(image_dir, files.settings(CLIENT_CA=str(files.ca))) as daemon:
        yield daemon


@pytest.mark.root
def test_a_daemon_that_asks_for_a_certificate_is_shown_that_of_flags_environment_or_file(
    asking: Daemon, files: Certificates, tmp_path: Path
) -> None:
    here = files.settings(CLIENT_CA=str(files.ca))
    ours, others = own(files.authority, tmp_path, "ours"), own(trustme.CA(), tmp_path, "others")
    flags = ("--client-cert", str(ours.certificate), "--client-key", str(ours.key))
    assert said("status", *flags, daemon=asking, settings=here).returncode == 0
    relative = said("status", "--client-cert", ours.both.name, daemon=asking, cwd=tmp_path, settings=here | OURS)
    assert relative.returncode == 0, relative.stderr
    by_environment = {
        "GAOLER_TLS_CLIENT_CERTIFICATE": str(ours.certificate),
        "GAOLER_TLS_CLIENT_KEY": str(ours.key),
    }
    for command in (["status"], ["sessions"], ["executions"], ["top"]):
        done = said(*command, daemon=asking, settings=here | by_environment)
        assert done.returncode == 0, done.stderr
    config = tmp_path / "gaoler.toml"
    config.write_text(f'[tls]\nclient_certificate = "{others.certificate}"\nclient_key = "{others.key}"\n')
    refused = said("status", "--config", str(config), daemon=asking, settings=here)
    assert refused.returncode == 77
    assert "no authority that it trusts has signed it" in refused.stderr
    assert "--client-cert FILE" in refused.stderr
    # The environment wins over the file, and a flag over both.
    assert said("status", "--config", str(config), daemon=asking, settings=here | by_environment).returncode == 0
    wrong = ("--client-cert", str(others.both))
    done = said("status", "--config", str(config), *wrong, daemon=asking, settings=here | by_environment)
    assert done.returncode == 78, "that certificate does not fit the key of the environment"
    assert "tls.client_certificate and tls.client_key" in done.stderr


@pytest.mark.root
def test_without_a_certificate_it_says_what_to_do_and_the_key_is_not_said(asking: Daemon, files: Certificates) -> None:
    here = files.settings(CLIENT_CA=str(files.ca))
    known = said("status", daemon=asking, settings=here)
    by_url = said(
        "status", "--url", f"https://{asking.address}", daemon=asking, settings={"SSL_CERT_FILE": str(files.ca)}
    )
    assert (known.returncode, by_url.returncode) == (77, 77), by_url.stderr
    assert known.stderr.startswith("gaoler: the daemon asks its clients for certificates (tls.client_ca)\n")
    assert by_url.stderr.startswith(f"gaoler: https://{asking.address} asks its clients for certificates")
    for done in (known, by_url):
        assert "  -> show one of an authority that it trusts: --client-cert FILE and --client-key FILE" in done.stderr
        assert ADMIN_KEY not in done.stderr
    ours = own(files.authority, files.directory, "by-url")
    shown = ("--url", f"https://{asking.address}", "--client-cert", str(ours.both))
    assert said("status", *shown, daemon=asking, settings={"SSL_CERT_FILE": str(files.ca)}).returncode == 0


def test_with_tls_1_2_a_server_does_not_say_what_it_wants_so_it_is_guessed(files: Certificates) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    files.authority.issue_cert("localhost").configure_cert(context)
    files.authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        port = listening.getsockname()[1]
        settings = {"GAOLER_ADMIN_KEY": ADMIN_KEY, "SSL_CERT_FILE": str(files.ca)}
        done = pool.submit(said, "status", "--url", f"https://localhost:{port}", settings=settings)
        accepted, _ = listening.accept()
        with accepted, pytest.raises(ssl.SSLError, match="did not return a certificate"):
            context.wrap_socket(accepted, server_side=True)
    assert done.result().returncode == 69
    assert "one that asks its clients for certificates does so with TLS 1.2 (--client-cert)" in done.result().stderr


@pytest.mark.root
async def test_mcp_over_standard_input_shows_it_too(asking: Daemon, files: Certificates, tmp_path: Path) -> None:
    ours = own(files.authority, tmp_path, "agent")
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "supervisor", "mcp", "--url", f"https://{asking.address}", "--client-cert", str(ours.both)],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "GAOLER_API_KEY": KEY,
            "SSL_CERT_FILE": str(files.ca),
        },
    )
    async with Client(server, mode="legacy", cache=None) as client:
        assert len((await client.list_tools()).tools) == 21


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("--client-cert", "none.pem"), "tls.client_certificate: {directory}/none.pem: No such file or directory"),
        (("--client-cert", "text.pem"), "a chain and its private key in PEM, without password"),
        (("--client-cert", "text.pem", "--client-key", "none.key"), "tls.client_key: {directory}/none.key: No such"),
        (("--client-key", "text.pem"), "tls.client_key goes with tls.client_certificate"),
    ],
)
def test_a_certificate_that_cannot_be_shown_is_named(tmp_path: Path, given: tuple[str, ...], says: str) -> None:
    (tmp_path / "text.pem").write_text("no certificate\n")
    url = ("--url", "https://localhost:9")
    done = said("status", *url, *given, cwd=tmp_path, settings={"GAOLER_ADMIN_KEY": ADMIN_KEY} | OURS)
    assert done.returncode == 78, done.stderr
    assert says.format(directory=tmp_path) in done.stderr

"""Certificates and where they lie: what refuses to start, and what the daemon is shown."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from supervisor.errors import ConfigurationError
from supervisor.serving.tls import TlsFiles, open_certificate, shown_directories
from supervisor.settings.doors import TlsSettings
from supervisor.settings.loading import load
from supervisor.settings.tree import Settings


def settings(certificate: Path, key: Path, client_ca: str = "") -> Settings:
    tls = TlsSettings(certificate=str(certificate), key=str(key), client_ca=client_ca)
    return msgspec.structs.replace(Settings(), tls=tls)


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    made = trustme.CA().issue_cert("localhost")
    found = TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem")
    found.certificate.write_bytes(made.cert_chain_pems[0].bytes())
    found.key.write_bytes(made.private_key_pem.bytes())
    return found


def with_password(files: TlsFiles) -> None:
    key = load_pem_private_key(files.key.read_bytes(), None)
    locked = BestAvailableEncryption(b"secret")
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))


def as_pipe(files: TlsFiles) -> None:
    files.key.unlink()
    os.mkfifo(files.key)


def as_folder(files: TlsFiles) -> None:
    files.key.unlink()
    files.key.mkdir()


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (lambda files: files.certificate.unlink(), "tls.certificate"),
        (lambda files: files.key.unlink(), "tls.key"),
        (lambda files: files.certificate.write_text("x"), "tls.certificate"),
        (lambda files: files.key.write_text("x"), "tls.certificate"),
        (lambda files: files.key.write_bytes(trustme.CA().private_key_pem.bytes()), "tls.certificate"),
        (with_password, "tls.certificate"),
        (as_pipe, "tls.key"),
        (as_folder, "tls.key"),
        (lambda files: os.truncate(files.key, 5 << 20), "tls.key"),
    ],
    ids=["no certificate", "no key", "nonsense", "nonsense key", "another key", "password", "pipe", "folder", "huge"],
)
def test_what_cannot_be_used_refuses_to_start(files: TlsFiles, spoil: Callable[[TlsFiles], object], field: str) -> None:
    spoil(files)
    with pytest.raises(ConfigurationError) as caught:
        open_certificate(settings(files.certificate, files.key))
    assert caught.value.field == field


def test_authorities_of_clients_that_are_none_refuse_to_start(files: TlsFiles) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_certificate(settings(files.certificate, files.key, str(files.key)))
    assert caught.value.field == "tls.client_ca"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"tls.certificate": "/a/b/c"}, "tls.key"),
        ({"tls.key": "/a/b/c"}, "tls.key"),
        ({"tls.client_ca": "/a/b/c"}, "tls.client_ca"),
        ({"tls.certificate": "relative"}, "tls.certificate"),
    ],
)
def test_settings_that_do_not_fit_refuse_to_start(given: dict[str, str], field: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(file=None, environment={}, flags=given)
    assert caught.value.field == field


def test_without_a_certificate_there_is_none_and_nothing_is_shown() -> None:
    assert open_certificate(Settings()) is None
    assert shown_directories(Settings()) == []


def test_the_daemon_is_shown_the_directories_behind_links_too(tmp_path: Path, files: TlsFiles) -> None:
    # As Let's Encrypt has it: live/NAME/fullchain.pem -> ../../archive/NAME/fullchain1.pem.
    live, archive = tmp_path / "live" / "a", tmp_path / "archive" / "a"
    for each in (live, archive):
        each.mkdir(parents=True)
    for name, source in (("fullchain", files.certificate), ("privkey", files.key)):
        source.rename(archive / f"{name}1.pem")
        (live / f"{name}.pem").symlink_to(f"../../archive/a/{name}1.pem")
    named = settings(live / "fullchain.pem", live / "privkey.pem")
    assert shown_directories(named) == [archive, live]
    assert open_certificate(named) is not None


@pytest.mark.parametrize("path", ["/etc/cert.pem", "/cert.pem", "/tmp/../etc/cert.pem"])
def test_a_directory_that_is_too_much_to_show_is_refused(path: str, files: TlsFiles) -> None:
    with pytest.raises(ConfigurationError, match="a directory of its own") as caught:
        shown_directories(settings(Path(path), files.key))
    assert caught.value.field == "tls.certificate"


def test_a_link_into_such_a_directory_is_refused(tmp_path: Path, files: TlsFiles) -> None:
    link = tmp_path / "link.pem"
    link.symlink_to("/etc/passwd")
    with pytest.raises(ConfigurationError, match="/etc"):
        shown_directories(settings(link, files.key))

"""A gateway before it serves: as root, as root who may mount nothing, and as nobody; and what refuses to start."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from supervisor.errors import ConfigurationError
from supervisor.preparation.remote import read_remote_files
from supervisor.settings.loading import load
from tests.daemon import ROOT
from tests.open_way import OPEN_WAY

pytestmark = pytest.mark.root
NOBODY = 65_534
DAEMON = 199_999
IN_A_CONTAINER = (*OPEN_WAY, "setpriv", "--bounding-set", "-sys_admin")
AS_NOBODY = (*OPEN_WAY, "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")


@dataclass
class House:
    directory: Path
    server: socket.socket

    def settings(self, **changed: Any) -> dict[str, Any]:
        host, port = self.server.getsockname()
        given = {
            "fleet.role": "gateway",
            "state_dir": str(self.directory / "state"),
            "bind": "127.0.0.1:0",
            "api_key": "a-key-of-enough-length",
            "redis.host": host,
            "redis.port": port,
            "redis.ca": str(self.directory / "ca.pem"),
            "s3.url": "https://s3.example",
            "s3.access_key": "a",
            "s3.secret_key": "b",
            "fleet.secret": "s" * 32,
            "fleet.service_token": "t" * 32,
            "fleet.signing_key": str(self.directory / "one.pem"),
            "fleet.trusted_keys": str(self.directory / "trusted"),
        }
        return given | changed

    def prepare(self, prefix: Sequence[str] = (), **changed: Any) -> dict[str, Any]:
        """Have a gateway prepared by a process of its own; give what it says."""
        done = subprocess.run(
            [*prefix, sys.executable, "-B", "-m", "tests.supervisor.confined_gateway"],
            input=json.dumps(self.settings(**changed)),
            cwd=ROOT,
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert isinstance(told, dict)
        return told


def private_pem(key: Any) -> bytes:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert isinstance(pem, bytes)
    return pem


@pytest.fixture
def house() -> Iterator[House]:
    directory = Path(tempfile.mkdtemp(prefix="gt-"))
    directory.chmod(0o755)
    key = Ed25519PrivateKey.generate()
    (directory / "one.pem").write_bytes(private_pem(key))
    (directory / "one.pem").chmod(0o600)
    (directory / "trusted").mkdir()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for name in ("one.pem", "two.pem", "README"):
        (directory / "trusted" / name).write_bytes(public)
    trustme.CA().cert_pem.write_to_path(str(directory / "ca.pem"))
    (directory / "ca.pem").chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield House(directory, server)
    shutil.rmtree(directory)


def test_started_by_root_it_is_what_a_daemon_is(house: House) -> None:
    assert house.prepare() == {
        "uid": DAEMON,
        "capabilities": "0" * 32,
        "no_new_privs": "1",
        "key": "one",
        "trusted": ["one", "two"],
        "listens": True,
        "new socket": "OSError",
        "redis": "done",
        "elsewhere": "PermissionError",
        "authorities": "done",
        "the key's file": "FileNotFoundError",
        "the connector's memory": "FileNotFoundError",
        "view": False,
    }


def test_a_umask_that_lets_nobody_pass_does_not_close_the_view(house: House) -> None:
    told = house.prepare(("sh", "-c", 'umask 077; exec "$@"', "sh"))
    assert (told["uid"], told["redis"], told["authorities"]) == (DAEMON, "done", "done")


def test_where_nothing_can_be_mounted_it_becomes_an_ordinary_user_all_the_same(house: House) -> None:
    told = house.prepare(IN_A_CONTAINER)
    assert (told["uid"], told["capabilities"], told["no_new_privs"]) == (DAEMON, "0" * 32, "1")
    assert (told["new socket"], told["redis"], told["elsewhere"]) == ("OSError", "done", "PermissionError")
    # What was read as root is still what it has, and not the file.
    assert (told["authorities"], told["the key's file"]) == ("done", "PermissionError")
    assert told["the connector's memory"] == "PermissionError"


def test_started_by_nobody_it_stays_nobody_under_its_filter(house: House) -> None:
    for path in (house.directory, *house.directory.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    told = house.prepare(AS_NOBODY)
    assert (told["uid"], told["capabilities"], told["no_new_privs"]) == (NOBODY, "0" * 32, "1")
    assert (told["new socket"], told["redis"], told["elsewhere"]) == ("OSError", "done", "PermissionError")
    assert told["the connector's memory"] == "PermissionError"


def test_a_directory_that_cannot_be_made_is_said(house: House) -> None:
    for name in ("one.pem", "ca.pem"):
        os.chown(house.directory / name, NOBODY, NOBODY)
    told = house.prepare(AS_NOBODY)
    assert told["field"] == "state_dir"
    assert "any writable directory" in told["message"]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"fleet.signing_key": "/nonexistent/one.pem"}, "fleet.signing_key"),
        ({"fleet.signing_key": "{}/other.pem"}, "fleet.signing_key"),
        ({"fleet.signing_key": "{}/trusted/one.pem"}, "fleet.signing_key"),
        ({"fleet.signing_key": "{}/trusted/README"}, "fleet.signing_key"),
        ({"fleet.trusted_keys": "{}/state"}, "fleet.trusted_keys"),
        ({"fleet.trusted_keys": "{}"}, "fleet.trusted_keys"),
        ({"redis.ca": "/nonexistent"}, "redis.ca"),
    ],
)
def test_what_is_wrong_refuses_to_start_with_the_setting(house: House, changed: dict[str, str], field: str) -> None:
    (house.directory / "other.pem").write_bytes(private_pem(X25519PrivateKey.generate()))
    (house.directory / "state").mkdir()
    given = {key: value.format(house.directory) for key, value in changed.items()}
    with pytest.raises(ConfigurationError) as caught:
        read_remote_files(load(file=None, environment={}, flags=house.settings(**given)).settings)
    assert caught.value.field == field


def test_a_node_that_is_none_refuses_to_start(house: House) -> None:
    assert house.prepare(**{"redis.nodes": "everywhere"})["field"] == "redis.nodes"

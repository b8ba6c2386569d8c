"""Which languages there are, over HTTP, and what becomes of code in one that is not there."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.runtimes.catalogue import load_groups, load_languages
from tests.daemon import Daemon, daemon_with

pytestmark = pytest.mark.root


MISSING = "typescript"


@pytest.fixture(scope="module")
def few(image_dir: Path) -> Iterator[Daemon]:
    """A daemon with an image that has no compiler of this language, whatever the image of the tests has."""
    current = (image_dir / "current").resolve()
    # Of hard links, so beside the image.
    with tempfile.TemporaryDirectory(dir=image_dir, prefix=".few-") as made:
        less = Path(made)
        less.chmod(0o755)
        shutil.copytree(current, less / current.name, symlinks=True, copy_function=os.link)
        (less / current.name / "local" / "bin" / "tsc").unlink(missing_ok=True)
        (less / "current").symlink_to(current.name)
        with daemon_with(less, {}) as running:
            yield running


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_every_language_of_the_catalogue_is_listed(daemon: Daemon, prefix: str) -> None:
    answer = daemon.request("GET", f"{prefix}/languages")
    assert answer.status == 200
    listed = {each["name"]: each for each in answer.json["languages"]}
    assert list(listed) == sorted(each.name for each in load_languages())
    python = listed["python"]
    assert (python["installed"], python["warm"], python["extension"]) == (True, True, ".py")
    assert python["install_command"] is None
    assert set(python["aliases"]) >= {"py", "python3"}
    assert python["version"].startswith("3.")
    assert python["packages"]["numpy"]
    assert python["tested"]
    for each in listed.values():
        assert each["installed"] == (each["install_command"] is None), each
        if not each["installed"]:
            assert each["install_command"] == f"gaoler image build --languages {each['name']}"
            assert (each["version"], each["packages"], each["warm"]) == (None, {}, False)
    health = daemon.request("GET", "/v1/health").json
    assert health["languages"] == [name for name, each in listed.items() if each["installed"]]
    assert [each["name"] for each in answer.json["groups"]] == sorted(each.name for each in load_groups())
    assert answer.json["limits"]["memory_bytes"] >= 1 << 28


def test_one_language_is_found_by_its_name_and_by_an_alias(daemon: Daemon) -> None:
    by_name, by_alias = (daemon.request("GET", f"/v1/languages/{name}") for name in ("python", "py"))
    assert (by_name.status, by_alias.status) == (200, 200)
    assert by_name.json == by_alias.json
    assert by_name.json["name"] == "python"
    assert daemon.request("GET", "/v1/languages/c%2B%2B").json["name"] == "cpp"


@pytest.mark.parametrize("name", ["cobol", "..%2Fpython", "%00", "p" * 300])
def test_an_unknown_one_is_not_found(daemon: Daemon, name: str) -> None:
    answer = daemon.request("GET", f"/v1/languages/{name}")
    assert (answer.status, answer.json["error"]) == (404, "not_found")


@pytest.mark.parametrize("path", ["/v1/languages", "/v1/languages/python"])
def test_they_are_told_to_nobody_without_a_credential(daemon: Daemon, path: str) -> None:
    assert daemon.request("GET", path, key=None).status == 401
    assert daemon.request("GET", path, key="wrong").status == 401
    assert daemon.request("POST", path, b"{}").status == 405


def test_asking_is_counted_as_listing(image_dir: Path) -> None:
    with daemon_with(image_dir, {"GAOLER_RATES_LISTING": "2/3600"}) as running:
        answers = [running.request("GET", "/v1/languages", headers={"X-User-Id": "ann"}) for _ in range(3)]
    assert [each.status for each in answers] == [200, 200, 429]
    assert answers[2].json["error"] == "rate_limited"


def test_what_is_missing_is_listed_with_what_installs_it(few: Daemon) -> None:
    answer = few.request("GET", "/v1/languages/ts").json
    assert (answer["installed"], answer["install_command"]) == (False, f"gaoler image build --languages {MISSING}")


def test_an_unknown_code_is_refused_in_the_words_of_the_contract_with_the_nearest_name(daemon: Daemon) -> None:
    answer = daemon.try_execute("1", "pyhton")
    assert (answer.status, answer.json["error"], answer.json["field"]) == (400, "Unsupported language: pyhton", "lang")
    assert answer.json["hint"].startswith("did you mean 'python'? installed are ")
    far = daemon.try_execute("1", "cobol")
    assert (far.json["error"], far.json["hint"].startswith("installed are ")) == ("Unsupported language: cobol", True)


def test_code_in_a_language_that_is_not_installed_is_answered_in_stderr(few: Daemon) -> None:
    said = few.execute("1", "ts")
    assert said["code"] == 127
    assert f"gaoler image build --languages {MISSING}. Installed are " in said["stderr"]
    assert (said["stdout"], said["files"], len(said["session_id"])) == ("", [], 21)
    body = json.dumps({"lang": "ts", "code": "1"}).encode()
    stream = few.request("POST", "/v1/exec?stream=1", body).body.decode()
    assert "gaoler image build --languages" in stream
    assert '"code":127' in stream


def test_in_the_session_dialect_it_is_refused(few: Daemon) -> None:
    session = few.request("POST", "/v1/sessions", b"{}").json["session_id"]
    body = json.dumps({"language": MISSING, "code": "1"}).encode()
    answer = few.request("POST", f"/v1/sessions/{session}/execute", body)
    assert (answer.status, answer.json["error"]) == (409, "language_not_installed")
    made = few.request("POST", "/v1/sessions", json.dumps({"language": MISSING}).encode())
    assert (made.status, made.json["error"], made.json["field"]) == (409, "language_not_installed", "language")

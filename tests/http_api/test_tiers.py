"""Tiers over HTTP: what a request may ask, and that nothing is lower than it says."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.identity.keys import KEY_FILE, add_key, revoke_key
from tests.daemon import Daemon, daemon_with
from tests.supervisor.test_cli import gaoler

pytestmark = pytest.mark.root

JSON = {"Content-Type": "application/json"}
NOT_HERE = "tier microvm is not to be had here: this server's settings do not switch it on (microvm.enabled)"


def bodies(daemon: Daemon, tier: Any) -> dict[str, dict[str, Any]]:
    """A request of each door that runs code."""
    session = daemon.request("POST", "/v1/sessions", b"{}", JSON).json["session_id"]
    return {
        "/v1/exec": {"lang": "py", "code": "print(1)", "tier": tier},
        "/v1/exec/programmatic": {"code": "print(1)", "tools": [{"name": "look"}], "tier": tier},
        f"/v1/sessions/{session}/execute": {"code": "print(1)", "tier": tier},
    }


def test_what_runs_says_in_which_tier(daemon: Daemon) -> None:
    for path, body in bodies(daemon, "nsjail").items():
        answer = daemon.request("POST", path, json.dumps(body).encode(), JSON)
        assert answer.status == 200, answer.body
        assert (answer.json["stdout"], answer.json["tier"]) == ("1\n", "nsjail"), path
    assert daemon.execute("1", stateful=True)["tier"] == "nsjail"


def test_a_tier_that_is_not_to_be_had_is_refused_at_every_door_with_the_reason(daemon: Daemon) -> None:
    for path, body in bodies(daemon, "microvm").items():
        answer = daemon.request("POST", path, json.dumps(body).encode(), JSON)
        assert answer.status == 409, path
        assert (answer.json["error"], answer.json["field"]) == ("tier_unavailable", "tier"), path
        assert answer.json["message"] == f"{NOT_HERE}. For the operator: 'gaoler doctor --microvm' says more"
    assert daemon.try_execute("1", stateful=True, tier="microvm").json["error"] == "tier_unavailable"


@pytest.mark.parametrize("tier", ["docker", "", 1, ["microvm"]])
def test_what_is_no_tier_is_refused_and_named(daemon: Daemon, tier: Any) -> None:
    for path, body in bodies(daemon, tier).items():
        answer = daemon.request("POST", path, json.dumps(body).encode(), JSON)
        assert (answer.status, answer.json["error"], answer.json["field"]) == (400, "invalid_request", "tier"), path


def test_the_tiers_are_listed_with_the_reason(daemon: Daemon) -> None:
    listed = daemon.request("GET", "/v1/languages").json
    nsjail, microvm = listed["tiers"]
    assert (nsjail["name"], nsjail["available"], nsjail["reason"]) == ("nsjail", True, None)
    assert (microvm["name"], microvm["available"]) == ("microvm", False)
    assert "microvm.enabled" in microvm["reason"]
    assert {each["tier"] for each in listed["languages"]} == {"nsjail"}


def test_a_key_of_a_tier_that_is_not_to_be_had_runs_nothing(daemon: Daemon) -> None:
    """It was added behind the back of ``gaoler keys``, which refuses to."""
    owner = (daemon.state_dir / "data").stat().st_uid
    path = daemon.state_dir / "data" / KEY_FILE
    secret = add_key(path, "strict", "default", owner, tier="microvm")
    try:
        for tier in ({}, {"tier": "microvm"}):
            body = json.dumps({"lang": "py", "code": "print(1)", **tier}).encode()
            refused = daemon.request("POST", "/v1/exec", body, JSON, key=secret)
            assert (refused.status, refused.json["error"]) == (409, "tier_unavailable")
        body = json.dumps({"lang": "py", "code": "print(1)", "tier": "nsjail"}).encode()
        lower = daemon.request("POST", "/v1/exec", body, JSON, key=secret)
        assert lower.status == 400
        assert lower.json["message"] == "this key's executions are of tier microvm; a request may only raise it"
    finally:
        revoke_key(path, "strict", owner)


@pytest.fixture(scope="module")
def bare_image(image_dir: Path) -> Iterator[Path]:
    """The image without what virtual machines are made of, whether or not it has that."""
    current = (image_dir / "current").resolve()
    # Of hard links, so beside the image.
    with tempfile.TemporaryDirectory(dir=image_dir, prefix=".bare-") as made:
        bare = Path(made)
        bare.chmod(0o755)
        shutil.copytree(current, bare / current.name, symlinks=True, copy_function=os.link)
        for part in ("guest", "machine"):
            shutil.rmtree(bare / current.name / part, ignore_errors=True)
        (bare / "current").symlink_to(current.name)
        yield bare


@pytest.mark.parametrize("more", [{}, {"GAOLER_MICROVM_LANGUAGES": "bash"}, {"GAOLER_MICROVM_TENANTS": "acme"}])
def test_switched_on_without_what_it_needs_it_refuses_to_start(
    bare_image: Path, state_dir: Path, more: dict[str, str]
) -> None:
    done = gaoler(
        *("serve", "--bind", "127.0.0.1:0", "--state-dir", str(state_dir)),
        GAOLER_IMAGE_DIR=str(bare_image),
        GAOLER_MICROVM_ENABLED="true",
        **more,
    )
    assert done.returncode == 78, done.stderr
    assert "gaoler image build --microvm" in done.stderr or "gaoler doctor --microvm" in done.stderr


def test_switched_on_there_is_a_machine_or_a_reason_and_never_a_lower_tier(image_dir: Path) -> None:
    if not (image_dir / "current" / "guest").is_dir():
        pytest.skip("the image of the tests has no guest: gaoler image build --microvm")
    with daemon_with(image_dir, {"GAOLER_MICROVM_ENABLED": "true"}) as daemon:
        assert daemon.execute("print(1)")["tier"] == "nsjail"
        listed = daemon.request("GET", "/v1/languages").json["tiers"][1]
        answer = daemon.try_execute("print(1)", tier="microvm")
        if answer.status == 200:
            assert answer.json["tier"] == "microvm"
        elif listed["available"]:
            assert answer.status == 503
            assert answer.json["message"].startswith("no sandbox of tier microvm: ")
        else:
            assert (answer.status, answer.json["error"]) == (409, "tier_unavailable")
            assert listed["reason"] in answer.json["message"]

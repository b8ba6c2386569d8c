"""LibreChat's own client library (npm, real) against a real daemon: what the model sees, and what the app gets."""

from __future__ import annotations

import base64
import json
import os
import shutil
import struct
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.daemon import Daemon, daemon_with, eventually
from tests.node import installed
from tests.tokens import public_pem

HERE = Path(__file__).resolve().parent
pytestmark = pytest.mark.root


def node_version() -> int:
    node = shutil.which("node")
    if node is None:
        return 0
    return int(
        subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.lstrip("v").split(".")[0]
    )


@pytest.fixture(scope="session")
def client_modules() -> Path:
    """Install the pinned client once; a stamp says for which lock file."""
    if node_version() < 20:
        pytest.skip("Node.js 20 or newer is needed for LibreChat's client")
    return installed(HERE)


Scenes = dict[str, dict[str, Any]]
SIGNING_KEY = Ed25519PrivateKey.generate()


@pytest.fixture(scope="session")
def token_daemon(image_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One that also knows LibreChat's public key."""
    pem = tmp_path_factory.mktemp("librechat") / "public.pem"
    pem.write_bytes(public_pem(SIGNING_KEY))
    with daemon_with(image_dir, {"GAOLER_JWT_PUBLIC_KEY": str(pem)}) as daemon:
        yield daemon


def drive(script: str, **environment: str) -> Scenes:
    """Run a driver and give what it reports, by scenario."""
    done = subprocess.run(
        ["node", script],
        cwd=HERE,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"scenario"')]
    return {row["scenario"]: row for row in rows}


@pytest.fixture(scope="session")
def limited_daemon(image_dir: Path) -> Iterator[Daemon]:
    """One that lets a user run one program a minute."""
    with daemon_with(image_dir, {"GAOLER_RATES_EXEC": "1/60"}) as daemon:
        yield daemon


@pytest.fixture(scope="session", params=["key", "url", "jwt"])
def scenes(
    request: pytest.FixtureRequest, token_daemon: Daemon, limited_daemon: Daemon, client_modules: Path
) -> Scenes:
    """What today's library reports."""
    assert client_modules.is_dir()
    private = SIGNING_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    daemon = token_daemon
    url = f"{daemon.base_url}/v1"
    mode = request.param
    limited = {"LIMITED_URL": f"{limited_daemon.base_url}/v1"} if mode == "key" else {}
    return drive("drive.mjs", BASE_URL=url, API_KEY=daemon.api_key, MODE=mode, SIGNING_KEY=private, **limited)


@pytest.fixture(scope="session", params=["agents-3.1 key", "agents-3.1 url", "agents-2.4 key", "agents-2.4 url"])
def old_scenes(request: pytest.FixtureRequest, token_daemon: Daemon, client_modules: Path) -> tuple[str, Scenes]:
    """What the libraries of earlier LibreChats report."""
    assert client_modules.is_dir()
    module, mode = request.param.split()
    key, url = token_daemon.api_key, f"{token_daemon.base_url}/v1"
    if mode == "url":
        # They send their key in a header all the same.
        url = url.replace("://", f"://{key}@")
    return module, drive("drive_old.mjs", LIBRECHAT_CODE_BASEURL=url, API_KEY=key, MODULE=module)


def test_the_model_sees_the_output_and_the_app_gets_the_file(scenes: Scenes) -> None:
    scene = scenes["python"]
    assert scene["content"].startswith("stdout:\nhello ['one', 'two words']\n")
    assert "1 persisted file(s)" in scene["content"]
    assert [file["name"] for file in scene["artifact"]["files"]] == ["note.txt"]
    assert scene["artifact"]["files"][0]["storage_session_id"] == scene["artifact"]["session_id"]


def test_the_next_call_has_the_files_of_the_first_and_says_what_it_changed(scenes: Scenes) -> None:
    first, second = scenes["python"], scenes["continued"]
    assert second["content"].startswith("stdout:\nfrom python\n")
    changed = second["artifact"]["files"][0]
    assert changed["modified_from"]["id"] == first["artifact"]["files"][0]["id"]


def test_bash_goes_on_with_the_same_files_and_deletions_arrive(scenes: Scenes) -> None:
    scene = scenes["bash"]
    assert scene["content"].startswith("stdout:\nfrom python, twice")
    assert scene["artifact"]["deleted_files"] == ["note.txt"]
    assert scenes["session"]["names"] == ["last.txt"]


def test_a_failure_is_told_to_the_model_in_words(scenes: Scenes) -> None:
    assert "stdout:\nbefore" in scenes["failing"]["content"]
    assert "stderr:\n[gaoler] the program exited with code 3" in scenes["failing"]["content"]
    assert "killed by signal SIGKILL" in scenes["timeout"]["content"]


def test_an_uploaded_table_becomes_a_chart_that_comes_down_as_a_valid_png(scenes: Scenes) -> None:
    assert scenes["upload"]["uploaded"]["message"] == "success"
    scene = scenes["chart"]
    assert scene["content"].startswith("stdout:\n60\n")
    names = {file["name"]: file for file in scene["artifact"]["files"]}
    assert names["sales 2026 (\u00fc).csv"]["inherited"] is True
    assert scene["type"] == "image/png"
    width, height = check_png(base64.b64decode(scene["png"]))
    assert width > 100
    assert height > 100


def check_png(data: bytes) -> tuple[int, int]:
    """Walk every chunk with its checksum; return the size."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    position, kinds, size = 8, [], (0, 0)
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        body = data[position + 8 : position + 8 + length]
        assert zlib.crc32(kind + body) == struct.unpack_from(">I", data, position + 8 + length)[0]
        if kind == b"IHDR":
            size = struct.unpack_from(">II", body)
        kinds.append(kind)
        position += 12 + length
    assert kinds[0] == b"IHDR"
    assert kinds[-1] == b"IEND"
    assert b"IDAT" in kinds
    return size


def test_a_wrong_key_is_told_as_not_authorized(scenes: Scenes) -> None:
    assert "not authorized" in scenes["unauthorized"]["error"]


# -- programs that call the app's tools --


def test_parallel_tool_calls_run_in_one_round_trip_and_the_model_sees_the_output(scenes: Scenes) -> None:
    scene = scenes["ptc"]
    assert scene["content"].startswith("stdout:\n61 Ada\nNY\n")
    assert scene["called"] == [
        ["get_weather", {"city": "SF"}],
        ["list-users", {}],
        ["get_weather", {"city": "NY"}],
    ]
    assert [file["name"] for file in scene["artifact"]["files"]] == ["ptc.txt"]
    # More calls than the client allows round trips.
    assert scenes["ptc_many"]["content"].startswith("stdout:\n30")


def test_a_tool_that_fails_is_an_exception_of_the_program(scenes: Scenes) -> None:
    assert "told:" in scenes["ptc_failing_tool"]["content"]
    assert "no such city" in scenes["ptc_failing_tool"]["content"]


def test_a_program_out_of_time_is_told_in_the_clients_words(scenes: Scenes) -> None:
    assert "time limit" in scenes["ptc_timeout"]["error"].lower()


def test_a_program_without_tools_takes_the_plain_way(scenes: Scenes) -> None:
    assert scenes["ptc_plain"]["content"].startswith("stdout:\nno tools")


def test_bash_programs_call_tools_too(scenes: Scenes) -> None:
    scene = scenes["bash_ptc"]
    assert scene["content"].startswith('stdout:\n{"city":"SF","temp":61} [{"id":1,"name":"Ada"}]\ntold\n')
    assert "no such city" in scene["content"]
    assert [name for name, _ in scene["called"]] == ["get_weather", "list-users", "get_weather"]


def test_an_aborted_program_ends_in_the_sandbox(scenes: Scenes, token_daemon: Daemon) -> None:
    assert "abort" in scenes["ptc_abort"]["error"].lower()
    # Nothing of it waits any more.
    eventually(lambda: token_daemon.names().count("nsjail") <= token_daemon.names().count("catatonit"))
    assert token_daemon.execute("print(1)")["stdout"] == "1\n"


# -- earlier LibreChats --


def test_files_go_on_over_three_turns(old_scenes: tuple[str, Scenes]) -> None:
    module, scenes = old_scenes
    assert scenes["turn_0"]["content"].startswith("stdout:\nfirst\n")
    assert {file["name"] for file in scenes["turn_0"]["artifact"]["files"]} == {"note.txt", "same.txt"}
    assert scenes["turn_1"]["content"].startswith("stdout:\none\n")
    # An input that did not change is not shown again: these clients would attach it to the new execution.
    assert [file["name"] for file in scenes["turn_1"]["artifact"]["files"]] == ["note.txt"]
    # 2.4 goes on with the session that the model names, the first one; 3.1 with the newest of each file.
    expected = "one, two same" if module == "agents-3.1" else "one same"
    assert scenes["turn_2"]["content"].startswith(f"stdout:\n{expected}")


def test_failures_and_refusals_reach_the_old_models_too(old_scenes: tuple[str, Scenes]) -> None:
    _, scenes = old_scenes
    assert "exited with code 3" in scenes["failing"]["content"]
    assert "401" in scenes["unauthorized"]["error"]


def test_the_python_program_of_that_time_calls_tools(old_scenes: tuple[str, Scenes]) -> None:
    module, scenes = old_scenes
    if module == "agents-2.4":
        assert "ptc" not in scenes  # it had no such tool
        return
    assert scenes["ptc"]["content"].startswith("stdout:\nSF NY")


def test_refusals_are_told_to_the_model(scenes: Scenes) -> None:
    assert "rejected. Please check the tool input" in scenes["too_large"]["error"]
    if "second_of_two" in scenes:
        assert scenes["first_of_two"]["error"] is None
        assert "rate" in scenes["second_of_two"]["error"].lower()

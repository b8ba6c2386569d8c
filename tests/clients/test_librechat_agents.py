"""LibreChat's own client library (npm, real) against a real daemon: what the model sees, and what the app gets."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon

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
    stamp = HERE / "node_modules" / ".gaoler-stamp"
    lock = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != lock:
        subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
            cwd=HERE,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        stamp.write_text(lock)
    return HERE / "node_modules"


@pytest.fixture(scope="session", params=["key", "url"])
def scenes(request: pytest.FixtureRequest, daemon: Daemon, client_modules: Path) -> dict[str, dict[str, Any]]:
    environment = {
        "PATH": os.environ["PATH"],
        "BASE_URL": f"{daemon.base_url}/v1",
        "API_KEY": daemon.api_key,
        "MODE": request.param,
    }
    done = subprocess.run(
        ["node", "drive.mjs"], cwd=HERE, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"scenario"')]
    return {row["scenario"]: row for row in rows}


def test_the_model_sees_the_output_and_the_app_gets_the_file(scenes: dict[str, dict[str, Any]]) -> None:
    scene = scenes["python"]
    assert scene["content"].startswith("stdout:\nhello ['one', 'two words']\n")
    assert "1 persisted file(s)" in scene["content"]
    assert [file["name"] for file in scene["artifact"]["files"]] == ["note.txt"]
    assert scene["artifact"]["files"][0]["storage_session_id"] == scene["artifact"]["session_id"]


def test_the_next_call_has_the_files_of_the_first_and_says_what_it_changed(scenes: dict[str, dict[str, Any]]) -> None:
    first, second = scenes["python"], scenes["continued"]
    assert second["content"].startswith("stdout:\nfrom python\n")
    changed = second["artifact"]["files"][0]
    assert changed["modified_from"]["id"] == first["artifact"]["files"][0]["id"]


def test_bash_goes_on_with_the_same_files_and_deletions_arrive(scenes: dict[str, dict[str, Any]]) -> None:
    scene = scenes["bash"]
    assert scene["content"].startswith("stdout:\nfrom python, twice")
    assert scene["artifact"]["deleted_files"] == ["note.txt"]
    assert scenes["session"]["names"] == ["last.txt"]


def test_a_failure_is_told_to_the_model_in_words(scenes: dict[str, dict[str, Any]]) -> None:
    assert "stdout:\nbefore" in scenes["failing"]["content"]
    assert "stderr:\n[gaoler] the program exited with code 3" in scenes["failing"]["content"]
    assert "killed by signal SIGKILL" in scenes["timeout"]["content"]


def test_an_uploaded_table_becomes_a_chart_that_comes_down_as_a_valid_png(scenes: dict[str, dict[str, Any]]) -> None:
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


def test_a_wrong_key_is_told_as_not_authorized(scenes: dict[str, dict[str, Any]]) -> None:
    assert "not authorized" in scenes["unauthorized"]["error"]

"""Runs programs beside files, and brings back what they made."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon


def need(groups: Collection[str], *names: str) -> None:
    """Skip the test, by name, unless the image has these groups."""
    for name in names:
        if name not in groups:
            pytest.skip(f"the image has no {name}: gaoler image build --group {name}")


def files_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def run(daemon: Daemon, lang: str, code: str, files: Mapping[str, bytes] | None = None) -> dict[str, Any]:
    """Run a program in a session that has ``files``; it has to end well."""
    uploaded = daemon.upload(*files.items()) if files else None
    more = {"session_id": uploaded.json["session_id"]} if uploaded else {}
    result = daemon.execute(code, lang, **more)
    assert result["code"] == 0, result["stdout"] + result["stderr"]
    return result


def made(daemon: Daemon, result: Mapping[str, Any]) -> dict[str, bytes]:
    """Download what a program made."""
    fresh = [file for file in result["files"] if not file.get("inherited")]
    answers = {
        file["name"]: daemon.request("GET", f"/v1/download/{file['storage_session_id']}/{file['id']}") for file in fresh
    }
    assert {answer.status for answer in answers.values()} <= {200}
    return {name: answer.body for name, answer in answers.items()}

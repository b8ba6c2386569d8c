"""Every containment claim has a hostile program that runs in a real sandbox, and every policy entry has a claim."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon

HERE = Path(__file__).resolve().parent
PROGRAMS = HERE / "programs"
POLICIES = HERE.parent.parent / "policies"
PRELUDE = (HERE / "prelude.py").read_text()
CLAIMS: list[dict[str, Any]] = tomllib.loads((HERE / "claims.toml").read_text())["claim"]
KEYS = {
    "id",
    "also",
    "promise",
    "program",
    "lang",
    "args",
    "timeout_ms",
    "signal",
    "status",
    "stderr",
    "files",
    "skipped",
    "network",
    "egress",
}
LOCAL_CLAIMS = [claim for claim in CLAIMS if not claim.get("network")]
"""The others run in test_egress.py, where there is an internet."""


@pytest.mark.root
@pytest.mark.parametrize("claim", LOCAL_CLAIMS, ids=[f"{claim['id']} {claim['program']}" for claim in LOCAL_CLAIMS])
def test_the_hostile_program_finds_itself_contained(daemon: Daemon, claim: dict[str, Any]) -> None:
    program = (PROGRAMS / claim["program"]).read_text()
    code = PRELUDE + program if claim["lang"] == "py" else program
    fields = {"timeout": claim["timeout_ms"]} if "timeout_ms" in claim else {}
    result = daemon.execute(code, claim["lang"], args=claim.get("args", []), **fields)
    seen = {key: result[key] for key in ("stdout", "stderr", "signal", "status", "skipped")}
    if "signal" in claim or "status" in claim:
        # The kernel or the jailer ended it; a program that got past the attack would have said so.
        assert result["signal"] == claim.get("signal", result["signal"]), seen
        assert result["status"] == claim.get("status", result["status"]), seen
        assert "ESCAPED" not in result["stdout"][-2000:], seen
    else:
        assert result["stdout"].rstrip().splitlines()[-1:] == ["CONTAINED"], seen
        assert result["code"] == 0, seen
    if "stderr" in claim:
        assert claim["stderr"] in result["stderr"], seen
    if "files" in claim:
        assert [file["name"] for file in result["files"]] == claim["files"], result["files"]
    if "skipped" in claim:
        assert len(result["skipped"]) == claim["skipped"], seen


def test_the_manifest_proves_at_least_forty_claims() -> None:
    assert len({claim["id"] for claim in CLAIMS}) >= 40


def test_the_manifest_has_no_unknown_key() -> None:
    assert all(set(claim) <= KEYS for claim in CLAIMS)


def test_every_program_belongs_to_a_claim() -> None:
    used = {claim["program"] for claim in CLAIMS}
    assert used == {path.name for path in PROGRAMS.iterdir() if path.is_file()}


def test_every_policy_entry_has_a_claim_that_is_proved() -> None:
    wanted: set[str] = set()
    for path in POLICIES.rglob("*"):
        if path.suffix == ".toml":
            text = path.read_text()
            wanted |= set(re.findall(r'^claim = "([A-Z0-9-]+)"', text, re.MULTILINE))
            wanted |= set(re.findall(r"\[claim: ([A-Z0-9-]+)\]", text))
        elif path.suffix == ".kafel":
            for group in re.findall(r"\[([A-Z0-9, -]+)\]", path.read_text()):
                wanted |= {name.strip() for name in group.split(",") if re.search("[A-Z]", name)}
    proved = {name for claim in CLAIMS for name in (claim["id"], *claim.get("also", []))}
    assert wanted - proved == set()


def test_the_security_page_names_only_claims_that_are_proved() -> None:
    named = set(re.findall(r"`([A-Z]+-?[A-Z0-9-]*\d*)`", (HERE.parent.parent / "SECURITY.md").read_text()))
    proved = {name for claim in CLAIMS for name in (claim["id"], *claim.get("also", []))}
    assert {name for name in named if re.fullmatch(r"[KRPFS]\d+|[A-Z]+-[A-Z]+", name)} <= proved

"""Every containment claim has a hostile program that runs in a real sandbox, and every policy entry has a claim."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from supervisor.attack.case import Case
from supervisor.attack.programs import PROGRAMS, program_cases, read_manifest
from supervisor.attack.target import Caller, Target
from supervisor.errors import ConfigurationError
from supervisor.policy import load_policies
from supervisor.settings.tree import Settings
from tests.daemon import KEY, Daemon

ROOT = Path(__file__).resolve().parent.parent.parent
CLAIMS, ABOUT = read_manifest()
LOCAL_CASES = [case for case in program_cases() if case.place == "daemon"]
"""The others run in test_egress.py, where there is an internet."""


def target_of(daemon: Daemon) -> Target:
    me = Caller("test", daemon.api_key or KEY, "default")
    languages = frozenset({"python", "bash", "c"})
    policy = load_policies()["default"]
    return Target(daemon.address, daemon.state_dir, Settings(), policy, languages, range(200_000, 265_536), me, me, me)


@pytest.mark.root
@pytest.mark.parametrize("case", LOCAL_CASES, ids=[f"{case.id} {case.name}" for case in LOCAL_CASES])
def test_the_hostile_program_finds_itself_contained(daemon: Daemon, case: Case) -> None:
    trio.run(case.attack, target_of(daemon))


def test_the_manifest_proves_at_least_forty_claims() -> None:
    assert len({claim.id for claim in CLAIMS}) >= 40


def test_every_program_belongs_to_a_claim() -> None:
    assert {claim.program for claim in CLAIMS} == {path.name for path in PROGRAMS.iterdir() if path.is_file()}


def test_a_claim_without_a_program_refuses(tmp_path: Path) -> None:
    text = (PROGRAMS.parent / "claims.toml").read_text()
    (tmp_path / "claims.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"K1: there is no program k1_ptrace.py"):
        read_manifest(tmp_path / "claims.toml")

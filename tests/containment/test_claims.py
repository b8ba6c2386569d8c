"""Every containment claim has a hostile program that runs in a real sandbox, and every policy entry has a claim."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import trio

from supervisor.attack import wire
from supervisor.attack.case import Case
from supervisor.attack.programs import PROGRAMS, program_cases, read_manifest
from supervisor.attack.target import Caller, Target, eventually
from supervisor.attack.wire import Answer
from supervisor.errors import ConfigurationError
from supervisor.policy import load_policies
from supervisor.settings.tree import Settings
from tests.daemon import KEY, PATIENCE_SECONDS, Daemon, start_daemon

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


@pytest.mark.root
async def test_a_refusal_that_came_too_late_for_its_status_is_no_answer(image_dir: Path, state_dir: Path) -> None:
    """As on a slow host, where the answer has begun, with status 200 and spaces, when a sandbox is lost."""
    daemon = start_daemon(state_dir, image_dir)
    target, answers = target_of(daemon), list[Answer]()

    async def ask() -> None:
        answers.append(await target.try_execute("sleep 600", "bash"))

    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await eventually("it runs", lambda: "sleep" in daemon.names())
            headers = {"X-API-Key": target.me.key, "Content-Type": "application/json"}
            async with await wire.connect(daemon.address) as later:
                await wire.send_request(later, "POST", "/v1/exec", headers, b'{"lang": "bash", "code": "sleep 600"}')
                assert b" 200 " in await later.receive_some(4096)
                os.kill(daemon.named("gaoler-jailer"), signal.SIGKILL)
    assert [(each.status, each.json["error"]) for each in answers] == [(503, "sandbox_failed")]
    assert target.sessions == {}
    daemon.stop()


def test_the_manifest_proves_at_least_forty_claims() -> None:
    assert len({claim.id for claim in CLAIMS}) >= 40


def test_every_program_belongs_to_a_claim() -> None:
    assert {claim.program for claim in CLAIMS} == {path.name for path in PROGRAMS.iterdir() if path.is_file()}


def test_a_claim_without_a_program_refuses(tmp_path: Path) -> None:
    text = (PROGRAMS.parent / "claims.toml").read_text()
    (tmp_path / "claims.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"K1: there is no program k1_ptrace.py"):
        read_manifest(tmp_path / "claims.toml")

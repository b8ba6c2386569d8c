"""``gaoler attack`` as an operator uses it; and every attack that is no program, at a twin."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import trio

from supervisor.attack import page, report, session
from supervisor.attack.case import Broken, Case, Untried
from supervisor.attack.catalogue import all_cases
from supervisor.attack.programs import program_cases
from supervisor.attack.suite import Result, Run, attack_one
from supervisor.identity.keys import KEY_FILE, add_key, read_keys
from supervisor.policy import PACKAGED_POLICIES
from supervisor.settings.loading import load
from tests.containment.test_claims import target_of
from tests.daemon import KEY, Daemon, descendants, eventually, process_name

PROGRAMS = {(case.id, case.name) for case in program_cases()}
SCENARIOS = [case for case in all_cases() if (case.id, case.name) not in PROGRAMS]
SOON_IMPATIENT = {f"GAOLER_HTTP_{name}_SECONDS": "3" for name in ("HEADER", "BODY", "SEND")}
"""Who is slow is cut sooner than by default: nobody waits for a minute of nothing."""
SUBJECT = session.Subject("0", "Linux 6", "x86_64", "v2", "127.0.0.1:1", "default", "nsjail", ("python",))


def command(
    image: Path, *arguments: str, settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "GAOLER_IMAGE_DIR": str(image), **(settings or {})}
    return subprocess.run(
        [sys.executable, "-m", "supervisor", "attack", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def run_at_twin(image: Path, cases: Sequence[Case], settings: Mapping[str, str] | None = None) -> Run:
    environment = {"GAOLER_IMAGE_DIR": str(image), **(settings or {})}
    loaded = load(file=None, environment=environment, flags={})
    wish = session.Wish(cases, tier=None, twin_only=True)
    run, _ = trio.run(session.run_session, loaded, wish, lambda _result: None, lambda _words: None)
    return run


@pytest.mark.root
@pytest.mark.parametrize("group", sorted({case.group for case in SCENARIOS if case.place != "internet"}))
def test_what_clients_neighbours_and_crashes_try_is_held(image_dir: Path, group: str) -> None:
    cases = [case for case in SCENARIOS if case.group == group and case.place != "internet"]
    run = run_at_twin(image_dir, cases, SOON_IMPATIENT)
    assert [(each.case.id, each.case.name, each.detail) for each in run.of("broken")] == []
    assert run.count("held") >= 1


@pytest.mark.root
def test_what_is_tried_around_the_network_is_held(image_dir: Path) -> None:
    cases = [case for case in SCENARIOS if case.place == "internet"]
    run = run_at_twin(image_dir, cases, {"GAOLER_EXECUTION_POLICY": "packages"})
    assert [(each.case.id, each.case.name, each.detail) for each in run.of("broken")] == []
    assert run.count("untried") == 0
    assert run.count("held") == len(cases) + 1


@pytest.mark.root
def test_against_a_running_daemon_nothing_of_the_attack_is_left(
    daemon: Daemon, image_dir: Path, state_dir: Path, tmp_path: Path
) -> None:
    html = tmp_path / "report.html"
    settings = {"GAOLER_STATE_DIR": str(daemon.state_dir), "GAOLER_BIND": daemon.address, "GAOLER_API_KEY": KEY}
    settings["TMPDIR"] = str(state_dir)
    done = command(image_dir, "K1", "P15", "P12", "E1", "--json", "--html", str(html), settings=settings)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    verdicts = {(each["id"], each["name"]): each["verdict"] for each in found["results"]}
    assert verdicts["K1", "k1_ptrace"] == verdicts["P12", "the client hangs up"] == "held"
    # What cannot be tried is named with its reason, and is not held.
    (untried,) = [each for each in found["results"] if each["id"] == "E1"]
    assert untried["verdict"] == "untried"
    assert "no network" in untried["detail"]
    assert found["counts"] == {"held": len(verdicts) - 1, "broken": 0, "untried": 1}
    assert "Not tried" in html.read_text()
    assert read_keys(daemon.state_dir / "data" / KEY_FILE) == ()
    assert list(state_dir.iterdir()) == []


@pytest.mark.root
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_attack_that_is_ended_leaves_no_twin_and_no_key(
    daemon: Daemon, image_dir: Path, state_dir: Path, number: int
) -> None:
    keys = daemon.state_dir / "data" / KEY_FILE
    # Of one that was killed before: no process has that number.
    add_key(keys, "attack-4194305-00000000-me", "attack-4194305-00000000-a", 199_999)
    settings = {"GAOLER_STATE_DIR": str(daemon.state_dir), "GAOLER_BIND": daemon.address, "GAOLER_API_KEY": KEY}
    environment = {"PATH": os.environ["PATH"], "GAOLER_IMAGE_DIR": str(image_dir), "TMPDIR": str(state_dir), **settings}
    with (state_dir / "said").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "supervisor", "attack", "K1", "D5"], env=environment, stdout=said, stderr=said
        )
        try:
            eventually(lambda: bool(list(state_dir.glob("gaoler-attack-*/run/door.sock"))))
            family = descendants(process.pid)
            process.send_signal(number)
            assert process.wait(timeout=60) == 78
        finally:
            process.kill()
    assert "ended by a signal" in (state_dir / "said").read_text()
    eventually(lambda: not [pid for pid in family if process_name(pid)])
    assert list(state_dir.glob("gaoler-attack-*")) == []
    assert read_keys(keys) == ()


@pytest.mark.root
def test_a_hole_in_a_policy_is_found_and_explained(image_dir: Path, tmp_path: Path) -> None:
    policies = tmp_path / "policies"
    shutil.copytree(PACKAGED_POLICIES, policies)
    tmp_path.chmod(0o755)
    mounts = policies / "mounts" / "default.toml"
    more = '[[mount]]\ntarget = "/srv"\nkind = "bind"\nsource = "/usr/share"\nreason = "an operator\'s idea"\nclaim = "FS-ROOT"\n\n'
    mounts.write_text(mounts.read_text().replace("[[mask]]", more + "[[mask]]", 1))
    done = command(image_dir, "FS-ROOT", "K1", "--twin", settings={"GAOLER_JAILER_POLICY_DIR": str(policies)})
    assert done.returncode == 1, done.stdout + done.stderr
    words = re.sub(r"\s+", " ", done.stdout)
    assert "BROKEN FS-ROOT fs_root: The root holds what the policy mounts and nothing else. seen ESCAPED" in words
    assert "means A sandbox can change what others run, or read files of the host" in words
    assert "to do Compare policies/mounts" in words


@pytest.mark.root
def test_without_a_daemon_it_says_what_to_do(image_dir: Path, tmp_path: Path) -> None:
    done = command(image_dir, "K1", settings={"GAOLER_STATE_DIR": str(tmp_path), "GAOLER_BIND": "127.0.0.1:9"})
    assert done.returncode == 78
    assert "no daemon answers at 127.0.0.1:9" in done.stderr
    assert "--twin" in done.stderr
    other = command(image_dir, "K1", "--twin", "--tier", "microvm")
    assert other.returncode == 78
    assert "tier microvm is not to be had here" in other.stderr
    assert "microvm.enabled" in other.stderr


def test_the_list_tries_nothing(image_dir: Path) -> None:
    done = command(image_dir, "--list", "D")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == len([case for case in all_cases() if case.group == "D"])
    assert command(image_dir, "--list", "nothing").returncode == 2


def case_that(behaves: object) -> Case:
    async def attack(_target: object) -> str | None:
        if isinstance(behaves, BaseException):
            raise behaves
        return str(behaves)

    return Case("K1", "made up", "a promise", "a meaning", "a mend", attack)


@pytest.mark.parametrize(
    ("behaves", "verdict", "detail"),
    [
        ("seen", "held", "seen"),
        (Broken("got in"), "broken", "got in"),
        (Untried("no such thing here"), "untried", "no such thing here"),
        (ValueError("a slip"), "broken", "the attack could not be brought to its end: ValueError: a slip"),
        (Broken("\x1b]0;title\x07\udc80\n\x9b2J"), "broken", "\ufffd]0;title\ufffd\ufffd \ufffd2J"),
        (ExceptionGroup("two", [Untried("x"), Broken("got in")]), "broken", "got in"),
        (
            ExceptionGroup("two", [Untried("x"), OSError("y")]),
            "broken",
            "the attack could not be brought to its end: OSError: y",
        ),
    ],
)
def test_a_verdict_is_never_better_than_what_was_seen(behaves: object, verdict: str, detail: str) -> None:
    async def main() -> Result:
        return await attack_one(case_that(behaves), target_of(Daemon(None, Path("/nowhere"), "127.0.0.1:9")))  # type: ignore[arg-type]

    result = trio.run(main)
    assert (result.verdict, result.detail) == (verdict, detail)


def test_the_page_escapes_what_came_out_of_a_sandbox_and_has_no_script() -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    run = Run([Result(case_that("x"), "broken", evil, 1.0), Result(case_that("x"), "untried", evil, 0.0)])
    text = page.as_page(run, SUBJECT)
    assert "<script" not in text
    assert "<img" not in text
    assert "0 held, 1 broken, 1 not tried" in text
    assert "a meaning" in text
    assert json.loads(report.as_json(run, SUBJECT))["counts"] == {"held": 0, "broken": 1, "untried": 1}

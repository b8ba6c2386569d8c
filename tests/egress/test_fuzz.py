"""Whatever is sent, no parser crashes, hangs, or accepts what its reference refuses or reads otherwise."""

from __future__ import annotations

import subprocess
import sys
from random import Random

import pytest

from tests.daemon import ROOT
from tests.egress import inputs
from tests.egress.fuzz import TARGETS, VERDICTS

EACH = 1000


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.egress.fuzz", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_five_thousand_inputs_find_no_disagreement() -> None:
    done = run("--inputs", str(EACH * len(TARGETS)), "--seed", "20240229")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == list(TARGETS)
    for line in lines:
        counts = dict(zip(line[1::2], map(float, line[2::2]), strict=True))
        assert sum(counts[verdict] for verdict in VERDICTS) == counts["inputs"] == EACH
        assert counts["accepted"] > EACH // 10, "too few inputs get deep"


@pytest.mark.parametrize("target", TARGETS)
def test_a_seed_gives_the_same_inputs_again(target: str) -> None:
    one, other = Random(7), Random(7)
    assert [inputs.fresh(target, one) for _ in range(50)] == [inputs.fresh(target, other) for _ in range(50)]


@pytest.mark.parametrize(
    ("fault", "shown"),
    [
        ("lambda data: checks.same(1, 2)", "Disagreement: we read 1, the reference 2"),
        ("lambda data: data[1_000_000]", "IndexError"),
        ("lambda data: [None for _ in iter(int, 1)]", "Hang"),
    ],
)
def test_the_first_fault_ends_the_run_with_a_reproducer(fault: str, shown: str) -> None:
    program = (
        f"from tests.egress import checks, fuzz; checks.CHECKS['name'] = {fault}; fuzz.fuzz('name', 9, 1, 'random')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1, done.stderr
    assert shown in done.stdout
    assert "--target name --replay " in done.stdout


def test_a_reproducer_is_taken_back() -> None:
    done = run("--target", "name", "--replay", b"github.com".hex())
    assert (done.returncode, done.stdout.split()[:5]) == (0, ["name", "inputs", "1", "accepted", "1"])

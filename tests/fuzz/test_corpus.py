"""What fuzzing has found stays tried; and a little of it is done in every run of the gate."""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.daemon import ROOT
from tests.egress.fuzz import VERDICTS
from tests.fuzz import inputs
from tests.fuzz.run import MODULES

EACH = 300
KEPT_BYTES = 300_000


def check(target: str, data: bytes) -> str:
    module, name = MODULES[target]
    return str(getattr(importlib.import_module(module), name)(data))


@pytest.fixture(autouse=True)
def quiet() -> object:
    """What a hostile peer says is logged, and there are thousands of them here."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("target", MODULES)
def test_what_is_kept_finds_no_disagreement(target: str) -> None:
    kept = inputs.seeds(target)
    assert kept, "nothing is kept"
    assert {check(target, data) for data in kept} <= set(VERDICTS)


def test_the_corpus_is_small_enough_to_live_here() -> None:
    files = [path for path in inputs.CORPUS.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} == set(MODULES)
    assert sum(path.stat().st_size for path in files) < KEPT_BYTES
    assert len(files) < 600


@pytest.mark.parametrize("target", MODULES)
def test_some_inputs_of_every_kind_find_no_disagreement(target: str) -> None:
    rng = Random(f"{target} of the gate")
    verdicts = {check(target, inputs.fresh(target, rng)) for _ in range(EACH)}
    assert verdicts >= {"accepted", "refused"}, "the inputs get nowhere"


@pytest.mark.parametrize("target", [target for target in MODULES if target != "client"])
def test_bytes_of_any_kind_find_no_disagreement(target: str) -> None:
    @settings(max_examples=60, deadline=None, database=None)
    @given(st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
    def any_bytes(data: bytes) -> None:
        assert check(target, data) in VERDICTS

    any_bytes()


def test_one_command_runs_every_target_and_sums_up() -> None:
    command = [sys.executable, "-m", "tests.fuzz.run", "--inputs", "1100", "--seed", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == list(MODULES)
    assert lines[-1].startswith("11 targets, ")


def test_a_reproducer_is_taken_back() -> None:
    command = [sys.executable, "-m", "tests.fuzz.run", "--target", "paths", "--replay", b"a/b".hex()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split()[:5] == ["paths", "inputs", "1", "accepted", "1"], done.stderr

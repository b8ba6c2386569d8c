"""Feed hostile inputs to the parsers of the egress proxy and compare what they say with the references.

    python -m tests.egress.fuzz --inputs 1000000 --engine atheris

``random`` needs nothing; ``atheris`` (a package of that name, not one of ours) is guided by the coverage of ``egress``.
A line for each target counts what was accepted and refused; ``undecided`` was accepted as well, where the
reference cannot judge. Ends with 1 at the first disagreement, crash or hang, and prints the input in hexadecimal;
``--replay`` takes it back.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Final, NoReturn

from tests.egress import inputs

TARGETS: Final = tuple(inputs.GROW)
CPU_SECONDS: Final = 1.0
"""Of this process alone: a machine that is busy otherwise is no hang."""
SEEDS: Final = 200


class Hang(BaseException):
    """One input took too long. Not an ``Exception``, which code under test could catch."""


Check = Callable[[str, bytes], str]
VERDICTS: Final = ("accepted", "refused", "undecided")


@dataclass
class Tally:
    """What became of the inputs of one target."""

    target: str
    check: Check
    inputs: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    began: float = field(default_factory=time.monotonic)

    def feed(self, data: bytes) -> None:
        """Check one input.

        Raises:
            SystemExit: it is a reproducer.
        """
        self.inputs += 1
        signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
        try:
            self.verdicts[self.check(self.target, data)] += 1
        except (Exception, Hang) as error:  # noqa: BLE001 - whatever it is, it is a finding
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            _report(self.target, data, error)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)

    def line(self) -> str:
        counts = " ".join(f"{verdict} {self.verdicts[verdict]:7}" for verdict in VERDICTS)
        return f"{self.target:8} inputs {self.inputs:7} {counts} seconds {time.monotonic() - self.began:6.1f}"


def _report(target: str, data: bytes, error: BaseException) -> NoReturn:
    print(f"{target}: {type(error).__name__}: {error}")
    print(f"input ({len(data)} bytes): {data[:300]!r}")
    print(f"reproduce: --target {target} --replay {data.hex()}", flush=True)
    # libFuzzer would turn an exception into its own report.
    os._exit(1)


def _on_time_out(number: int, frame: FrameType | None) -> NoReturn:
    raise Hang(f"one input took more than {CPU_SECONDS} s of CPU")


def run_random(tally: Tally, count: int, seed: int) -> None:
    rng = Random(f"{tally.target} {seed}")
    for _ in range(count):
        tally.feed(inputs.fresh(tally.target, rng))


def run_atheris(tally: Tally, count: int, seed: int, atheris: Any) -> None:
    """Does not return: libFuzzer ends the process, so it is ended here before."""
    rng = Random(f"{tally.target} {seed}")

    def feed(data: bytes) -> None:
        tally.feed(data)
        if tally.inputs >= count:
            print(tally.line(), flush=True)
            os._exit(0)

    def mutate(data: bytes, limit: int, number: int) -> bytes:
        ours = Random(number)
        if ours.random() < 0.5:
            return inputs.mutated(tally.target, data, ours)[:limit]
        mutated: bytes = atheris.Mutate(data, limit)
        return mutated

    with tempfile.TemporaryDirectory() as corpus:
        for number in range(SEEDS):
            Path(corpus, str(number)).write_bytes(inputs.fresh(tally.target, rng))
        # One mutation at a time: five in a row, as is usual, leave little that is accepted.
        options = [f"-seed={seed or 1}", "-max_len=4096", "-mutate_depth=1", "-verbosity=0", "-runs=-1", corpus]
        atheris.Setup([sys.argv[0], *options], feed, custom_mutator=mutate)
        atheris.Fuzz()


def load_check(atheris: Any) -> Check:
    """Import the code under test, instrumented if there is an engine that wants it so."""
    if atheris is None:
        checks = importlib.import_module("tests.egress.checks")
    else:
        with atheris.instrument_imports(include=["egress"]):
            checks = importlib.import_module("tests.egress.checks")
    return lambda target, data: str(checks.check(target, data))


def fuzz(target: str, count: int, seed: int, engine: str) -> None:
    atheris = importlib.import_module("atheris") if engine == "atheris" else None
    signal.signal(signal.SIGVTALRM, _on_time_out)
    tally = Tally(target, load_check(atheris))
    if atheris is not None:
        run_atheris(tally, count, seed, atheris)
    run_random(tally, count, seed)
    print(tally.line(), flush=True)


def replay(target: str, data: bytes) -> None:
    signal.signal(signal.SIGVTALRM, _on_time_out)
    tally = Tally(target, load_check(None))
    tally.feed(data)
    print(tally.line())


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fuzz the parsers of the egress proxy against their references.")
    parser.add_argument("--inputs", type=int, default=100_000, help="over all targets")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=("random", "atheris"), default="random")
    parser.add_argument("--target", choices=TARGETS, help="only this one")
    parser.add_argument("--replay", type=bytes.fromhex, metavar="HEX", help="check this one input of --target")
    return parser.parse_args(given)


def main() -> int:
    chosen = arguments()
    if chosen.replay is not None:
        replay(chosen.target or TARGETS[0], chosen.replay)
        return 0
    if chosen.target:
        fuzz(chosen.target, chosen.inputs, chosen.seed, chosen.engine)
        return 0
    return _each_in_its_process(chosen)


def _each_in_its_process(chosen: argparse.Namespace) -> int:
    """libFuzzer fuzzes one function in a process, and ends it."""
    for number, target in enumerate(TARGETS):
        count = chosen.inputs // len(TARGETS) + (number < chosen.inputs % len(TARGETS))
        options = ["--target", target, "--inputs", str(count), "--seed", str(chosen.seed), "--engine", chosen.engine]
        command = [sys.executable, "-m", "tests.egress.fuzz", *options]
        # libFuzzer's own chatter goes to standard error.
        status = subprocess.run(command, stderr=subprocess.DEVNULL if chosen.engine == "atheris" else None, check=False)
        if status.returncode:
            print(f"{target}: ended with {status.returncode}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

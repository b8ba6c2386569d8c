"""Feed hostile inputs to both doors' readers, to names, and to either side of the jailer protocol.

    python -m tests.fuzz.run --inputs 100000
    python -m tests.fuzz.run --inputs 1000000 --engine atheris --keep

As :mod:`tests.egress.fuzz`, which does the same for the egress proxy. Seeds are what ``tests/corpus`` holds and what a
grammar for each target makes. ``--keep`` puts those inputs into the corpus that reached code which none there reaches.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.egress.fuzz import SEEDS, Tally, _on_time_out

MODULES: Final = {
    "names": ("tests.fuzz.names", "check_name"),
    "paths": ("tests.fuzz.names", "check_path"),
    "uris": ("tests.fuzz.names", "check_uri"),
    "json": ("tests.fuzz.bodies", "check_json"),
    "forms": ("tests.fuzz.bodies", "check_form"),
    "base64": ("tests.fuzz.bodies", "check_base64"),
    "heads": ("tests.fuzz.heads", "check_head"),
    "frames": ("tests.fuzz.jailer", "check_frames"),
    "requests": ("tests.fuzz.jailer", "check_request"),
    "answers": ("tests.fuzz.jailer", "check_answer"),
    "client": ("tests.fuzz.jailer", "check_client"),
}
SHARES: Final = {"client": 1, "frames": 5, "forms": 5}
"""Parts of all inputs, of which the others have :data:`SHARE` each: these take a Trio run for each input."""
SHARE: Final = 10
INSTRUMENTED: Final = [
    "supervisor.workspace.names", "supervisor.serving.http1", "supervisor.jailer.channels", "supervisor.jailer.client",
    "supervisor.jailer.remote_program", "supervisor.jailer.workspace", "http_api", "mcp_server.uris",
    "mcp_server.tools.common", "werkzeug.sansio.multipart", "h11",
]  # fmt: skip
KEPT_BYTES: Final = 2048
KEPT_EACH: Final = 40


def load(target: str, atheris: Any) -> Tally:
    """Import the code under test, instrumented if there is an engine that wants it so."""
    module, name = MODULES[target]
    with atheris.instrument_imports(include=INSTRUMENTED) if atheris else nullcontext():
        check = getattr(importlib.import_module(module), name)
    logging.disable(logging.CRITICAL)
    return Tally(target, lambda _target, data: str(check(data)))


def fuzz(target: str, count: int, seed: int, engine: str, kept: Path | None) -> None:
    """Feed so many inputs, of the corpus first. With atheris it does not return."""
    atheris = importlib.import_module("atheris") if engine == "atheris" else None
    signal.signal(signal.SIGVTALRM, _on_time_out)
    tally = load(target, atheris)
    inputs = importlib.import_module("tests.fuzz.inputs")
    for data in inputs.seeds(target):
        tally.feed(data)
    rng = Random(f"{target} {seed}")
    if atheris is not None:
        _guided(tally, count, seed, atheris, kept)
    while tally.inputs < count:
        tally.feed(inputs.fresh(target, rng))
    print(tally.line(), flush=True)


def _guided(tally: Tally, count: int, seed: int, atheris: Any, kept: Path | None) -> None:
    inputs = importlib.import_module("tests.fuzz.inputs")

    def feed(data: bytes) -> None:
        tally.feed(data)
        if tally.inputs >= count:
            print(tally.line(), flush=True)
            os._exit(0)

    def mutate(data: bytes, limit: int, number: int) -> bytes:
        ours = Random(number)
        if ours.random() < 0.1:
            return bytes(inputs.fresh(tally.target, ours)[:limit])
        if ours.random() < 0.5:
            return bytes(inputs.mutated(data, ours)[:limit])
        mutated: bytes = atheris.Mutate(data, limit)
        return mutated

    with tempfile.TemporaryDirectory() as directory:
        corpus = kept or Path(directory)
        rng = Random(f"{tally.target} {seed}")
        for number in range(SEEDS):
            (corpus / f"seed{number}").write_bytes(inputs.fresh(tally.target, rng))
        options = [f"-seed={seed or 1}", "-max_len=4096", "-mutate_depth=1", "-verbosity=0", "-runs=-1", str(corpus)]
        atheris.Setup([sys.argv[0], *options], feed, custom_mutator=mutate)
        atheris.Fuzz()


def keep(target: str, found: Path) -> None:
    """Put the shortest of what reached new code into the corpus. What libFuzzer has found is named by its hash."""
    inputs = importlib.import_module("tests.fuzz.inputs")
    kept: Path = inputs.CORPUS / target
    kept.mkdir(parents=True, exist_ok=True)
    news = [path for path in found.iterdir() if not path.name.startswith("seed")]
    for path in sorted(news, key=lambda path: (path.stat().st_size, path.name))[:KEPT_EACH]:
        if path.stat().st_size <= KEPT_BYTES:
            (kept / path.name).write_bytes(path.read_bytes())


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fuzz doors, names and the jailer protocol against references.")
    parser.add_argument("--inputs", type=int, default=100_000, help="over all targets")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=("random", "atheris"), default="random")
    parser.add_argument("--keep", action="store_true", help="put what reaches new code into tests/corpus; with atheris")
    parser.add_argument("--target", choices=tuple(MODULES), help="only this one")
    parser.add_argument("--replay", type=bytes.fromhex, metavar="HEX", help="check this one input of --target")
    parser.add_argument("--found", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(given)


def main() -> int:
    chosen = arguments()
    if chosen.replay is not None:
        tally = load(chosen.target or "names", None)
        signal.signal(signal.SIGVTALRM, _on_time_out)
        tally.feed(chosen.replay)
        print(tally.line())
    elif chosen.target and (chosen.found or not chosen.keep):
        fuzz(chosen.target, chosen.inputs, chosen.seed, chosen.engine, chosen.found)
    else:
        return _each_in_its_process(chosen)
    return 0


def _each_in_its_process(chosen: argparse.Namespace) -> int:
    """libFuzzer fuzzes one function in a process, and ends it."""
    targets = [chosen.target] if chosen.target else list(MODULES)
    parts = sum(SHARES.get(target, SHARE) for target in targets)
    total = 0
    for target in targets:
        count = chosen.inputs * SHARES.get(target, SHARE) // parts
        options = ["--target", target, "--inputs", str(count), "--seed", str(chosen.seed), "--engine", chosen.engine]
        with tempfile.TemporaryDirectory() as found:
            status = _child(options + (["--keep", "--found", found] if chosen.keep else []), chosen.engine)
            if status == 0 and chosen.keep:
                keep(target, Path(found))
        if status:
            print(f"{target}: ended with {status}")
            return 1
        total += count
    print(f"{len(targets)} targets, {total} inputs, no disagreement, crash or hang")
    return 0


def _child(options: list[str], engine: str) -> int:
    command = [sys.executable, "-m", "tests.fuzz.run", *options]
    # libFuzzer's own chatter goes to standard error.
    return subprocess.run(command, stderr=subprocess.DEVNULL if engine == "atheris" else None, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

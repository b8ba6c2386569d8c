"""How long hello takes in each language, beside the same commands on the plain host.

Each round does for every language: ``POST /v1/exec``; then, on the host, with the same environment: write the file,
compile, run. The program is another one each time. The plain run has no walls, no session and no results; compiler,
flags and caches are the same. Rows of one run can be compared, runs cannot: machines are noisy.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import click

from benchmarks.common import Client, measured_daemon
from supervisor.image import Image, current_image
from supervisor.jailer import kernel
from supervisor.policy import load_policies
from supervisor.preparation.prepare import find_languages
from supervisor.runtimes.catalogue import SOURCE_DIRECTORY, InstalledLanguage, sized

GAP_SECONDS: Final = 0.06
"""Between two measurements: the daemon waits 25 ms before it makes its next cell, which takes 15."""
SOURCES: Final = "/mnt/run/code"
HELLO: Final = {
    "bash": "echo 00",
    "bun": "const n: number = 00; console.log(n)",
    "c": '#include <stdio.h>\nint main(void) { printf("%d\\n", 00); }',
    "cpp": "#include <iostream>\nint main() { std::cout << 00 << std::endl; }",
    "d": "import std.stdio;\nvoid main() { writeln(00); }",
    "fortran": "program hello\n  print '(I0)', 00\nend program",
    "go": 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println(00) }',
    "java": "public class Hello { public static void main(String[] a) { System.out.println(00); } }",
    "javascript": "console.log(00)",
    "php": "<?php echo 00, PHP_EOL;",
    "python": "print(00)",
    "r": 'cat(00, "\\n", sep = "")',
    "rust": 'fn main() { println!("{}", 00); }',
    "typescript": "const n: number = 00\nconsole.log(n)",
}
"""With ``00`` for a number that is another one each time."""


@dataclass
class Row:
    """What was measured of a language, in milliseconds."""

    language: InstalledLanguage
    ours: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)

    @property
    def target(self) -> float:
        """What its call may take, beside what the plain run took."""
        share, more = (1.5, 10) if self.language.language.compile is None else (1.3, 15)
        return statistics.median(self.plain) * share + more


@contextmanager
def plain_host(image: Image) -> Iterator[PlainHost]:
    """See the image's ``/usr/local``, and have places of our own, for the block; in this process alone."""
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    with ExitStack() as stack:
        kernel.bind(image.local, "/usr/local")
        stack.callback(kernel.unmount, "/usr/local")
        for place in ("/tmp", "/mnt"):
            kernel.mount("tmpfs", place, "tmpfs", 0)
            stack.callback(kernel.unmount, place)
        Path(SOURCES).mkdir(parents=True)
        Path("/mnt/data").mkdir()
        yield PlainHost()


class PlainHost:
    """Runs the commands of a language as anybody would who has them installed. Use :func:`plain_host`."""

    def run(self, language: InstalledLanguage, code: str) -> str:
        """Write, compile and run; give what it prints."""
        (Path(SOURCES) / language.language.source).write_text(code)
        compiler = language.compile_arguments()
        if compiler is not None:
            self._run(language, compiler)
        return self._run(language, language.run_arguments(()))

    def _run(self, language: InstalledLanguage, arguments: Sequence[str]) -> str:
        # The plain host has no /code.
        places = [SOURCES.join(part.split(SOURCE_DIRECTORY)) if SOURCES not in part else part for part in arguments]
        done = subprocess.run(
            places, env=language.environment, cwd="/mnt/data", capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{language.language.name}, on the plain host: {done.stderr}")
        return done.stdout


def measure(row: Row, number: int, client: Client, host: PlainHost) -> None:
    """Measure both once; both have to print the number."""
    name = row.language.language.name
    code = HELLO[name].replace("00", str(number))
    both = [
        (row.ours, lambda: client.execute(name, code)["stdout"]),
        (row.plain, lambda: host.run(row.language, code)),
    ]
    # Who is second finds the program in the processor's caches: by turns.
    for durations, work in both if len(row.ours) % 2 else reversed(both):
        durations.append(_timed(work, f"{number}\n", name))
        time.sleep(GAP_SECONDS)


def _timed(work: Callable[[], str], wanted: str, name: str) -> float:
    started = time.perf_counter()
    printed = work()
    taken = (time.perf_counter() - started) * 1000
    if printed != wanted:
        raise SystemExit(f"{name} printed {printed!r} instead of {wanted!r}")
    return taken


@click.command()
@click.option("--image-dir", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--runs", default=15, help="Measured rounds.")
@click.option("--only", multiple=True, help="These languages; all that are installed, by default.")
def main(image_dir: Path, runs: int, only: Sequence[str]) -> None:
    """Start a daemon, measure, stop it."""
    image = current_image(image_dir)
    if image is None:
        raise SystemExit(f"no image in {image_dir}")
    memory = load_policies()["default"].limits.memory_bytes
    found = {each.language.name: each for each in sized(find_languages(image, {}), memory).values()}
    rows = [Row(each) for name, each in sorted(found.items()) if name in HELLO and (not only or name in only)]
    with measured_daemon(image_dir) as daemon, plain_host(image) as host:
        client = Client(daemon.address)
        for number in range(runs + 1):
            for index, row in enumerate(rows):
                measure(row, 1000 + 100 * number + index, client, host)
        client.close()
    print(f"Hello in each language through POST /exec and on the plain host, {runs} interleaved rounds, p50 in ms:")
    for row in rows:
        # The first round is warm-up.
        del row.ours[0], row.plain[0]
        print(_line(row), flush=True)


def _line(row: Row) -> str:
    ours, plain = statistics.median(row.ours), statistics.median(row.plain)
    kind = "interpreted" if row.language.language.compile is None else "compiled"
    verdict = "met" if ours <= row.target else "MISSED"
    return (
        f"  {row.language.language.name:<12} {kind:<12} ours {ours:7.1f}  plain {plain:7.1f}  ratio {ours / plain:5.2f}"
        f"  target {row.target:7.1f}  {verdict}"
    )


if __name__ == "__main__":
    os.umask(0o022)
    main()

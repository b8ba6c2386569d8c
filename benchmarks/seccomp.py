"""What a second seccomp filter costs: the start of a program, and system calls in a loop.

Three kinds of process take turns, so that a busy machine is busy for all: without a filter, with the policy's, and with
a language's on top of it, as every program in a sandbox has. Rows of one run can be compared.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping

import click

from supervisor.jailer import kernel
from supervisor.jailer.seccomp import compile_profiles
from supervisor.policy import load_policies, load_seccomp_profiles
from supervisor.preparation.nsjail_program import nsjail_path

TRUE = "/bin/true"
CALLS = 20_000


def started(filters: list[bytes]) -> float:
    """Fork, install, execute true(1), wait: milliseconds."""
    begin = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        try:
            confine(filters)
            os.execve(TRUE, [TRUE], {})
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    return (time.perf_counter() - begin) * 1000


def in_child(filters: list[bytes], work: Callable[[], float]) -> float:
    """Let a confined child do some work, and give the number that it finds."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            confine(filters)
            os.write(write, repr(work()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        found = float(pipe.read())
    os.waitpid(pid, 0)
    return found


def confine(filters: list[bytes]) -> None:
    """Become what a joined process is, as far as it matters here."""
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    for each in filters:
        kernel.install_seccomp(each)


def installing(program: bytes) -> float:
    """Install one more: milliseconds."""
    begin = time.perf_counter()
    kernel.install_seccomp(program)
    return (time.perf_counter() - begin) * 1000


def calling(call: Callable[[], object]) -> float:
    """Make calls in a loop: nanoseconds for each, Python's own part included."""
    begin = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - begin) / CALLS * 1e9


@click.command()
@click.option("--rounds", default=100, help="Measured rounds of each kind.")
@click.option("--profile", default="python", help="The language's profile.")
def main(rounds: int, profile: str) -> None:
    """Measure, and print medians."""
    policies, languages = compile_profiles(
        str(nsjail_path()), load_policies(), load_seccomp_profiles({profile: "this benchmark"})
    )
    policy, language = policies["default"], languages[profile]
    kinds = {"no filter": [], "the policy's": [policy], f"and the one of {profile}": [policy, language]}
    null = os.open("/dev/null", os.O_RDWR)
    loops: Mapping[str, Callable[[], object]] = {
        "getppid(), allowed by its number": os.getppid,
        "ioctl(TIOCGWINSZ) by isatty(), arguments looked at": lambda: os.isatty(null),
    }
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for kind, filters in kinds.items():
            times.setdefault(("fork, install, execute true, wait [ms]", kind), []).append(started(filters))
            for name, call in loops.items():
                found = in_child(filters, lambda call=call: calling(call))  # type: ignore[misc]
                times.setdefault((f"{name} [ns]", kind), []).append(found)
        found = in_child([policy], lambda: installing(language))
        times.setdefault(("installing the language's alone [ms]", profile), []).append(found)
    print(f"Medians of {rounds} rounds, all kinds in turn:")
    for (what, kind), each in times.items():
        print(f"  {what:54} {kind:24} {statistics.median(each):9.3f}")


if __name__ == "__main__":
    main()

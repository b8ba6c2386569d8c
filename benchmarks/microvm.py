"""How long virtual machines take to boot, and programs in them, beside a plain QEMU boot of the same kernel.

The plain boot has the machine's kernel, memory and devices, and in the place of our guest a program of five lines that
says hello. Ours are the product's, with libkrun where this host can make such machines, else with QEMU in its place,
whose emulated processor is some twenty times slower: then the ratios mean something, the seconds do not.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from benchmarks.common import Client
from supervisor.image import current_image
from supervisor.image.manifest import MACHINE
from supervisor.jailer.cgroup_subtree import remove_subtree
from supervisor.microvm.findings import look, missing_on_host
from supervisor.microvm.krun import KERNEL
from tests.daemon import KEY, Daemon, wait_listening
from tests.microvm import qemu
from tests.microvm.hypervisor import Hypervisor, chosen, program

MEMORY_MIB: Final = 1536
VCPUS: Final = 1
CALLS: Final = 20
"""Of a session in its machine."""
QUIET_SHARE: Final = 0.2
QUIET_SECONDS: Final = 90
"""So long at most until a machine that is ready has imported its libraries, and nothing else boots."""
BOOT_SECONDS: Final = 300
HELLO: Final = """#include <stdio.h>
#include <time.h>
#include <sys/reboot.h>
int main(void) {
  struct timespec t;
  clock_gettime(CLOCK_BOOTTIME, &t);
  printf("hello uptime=%ld.%03ld\\n", (long)t.tv_sec, t.tv_nsec / 1000000);
  fflush(stdout);
  return reboot(RB_AUTOBOOT);
}
"""
_UPTIME: Final = re.compile(r"(?:phase (\w+)|hello) uptime=([0-9.]+)")
_READY: Final = re.compile(r"virtual machine ready (.*)$", re.MULTILINE)


class Durations(dict[str, list[float]]):
    """Seconds by what was measured."""

    def add(self, name: str, seconds: float) -> None:
        """Keep one more."""
        self.setdefault(name, []).append(seconds)

    def median(self, name: str) -> float:
        """Give the middle one."""
        return statistics.median(self[name])


@dataclass(frozen=True)
class Bench:
    """What all measurements need."""

    daemon: Daemon
    measured: Durations

    def execute(self, lang: str, code: str, **fields: object) -> Mapping[str, Any]:
        """Run a program over a connection of its own: between two calls a machine boots, and idle ones are cut."""
        client = Client(self.daemon.address)
        try:
            return client.execute(lang, code, **fields)
        finally:
            client.close()

    def ready(self) -> list[dict[str, float]]:
        """Give what each machine that is ready took to what."""
        log = self.daemon.log_path.read_text(encoding="utf-8")
        found = [re.findall(r"(\w+)=([0-9.]+)", told) for told in _READY.findall(log)]
        return [{name: float(seconds) for name, seconds in each} for each in found]

    def timed(self, name: str, work: Callable[[], object]) -> None:
        """Measure one call."""
        started = time.perf_counter()
        work()
        self.measured.add(name, time.perf_counter() - started)

    def wait_for_machine(self, number: int) -> None:
        """Wait until so many machines have been ready, and the last one has nothing more to prepare."""
        deadline = time.monotonic() + BOOT_SECONDS
        while len(self.ready()) < number:
            if time.monotonic() > deadline:
                raise SystemExit(f"machine {number} was not ready in {BOOT_SECONDS} s; see {self.daemon.log_path}")
            time.sleep(0.2)
        deadline = time.monotonic() + QUIET_SECONDS
        while time.monotonic() < deadline:
            before = family_seconds(self.daemon)
            time.sleep(1)
            if family_seconds(self.daemon) - before < QUIET_SHARE:
                break


def family_seconds(daemon: Daemon) -> float:
    """Give the CPU seconds of daemon, jailer, machines and all else that lives of them."""
    ticks = 0
    for pid in daemon.family():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def hello_root() -> Iterator[Path]:
    """Make the plain guest's root."""
    with tempfile.TemporaryDirectory(prefix="gb-") as scratch:
        root = Path(scratch)
        for name in ("dev", "proc", "sys"):
            (root / name).mkdir()
        gcc = ["gcc", "-O2", "-static", "-o", str(root / "hello"), "-x", "c", "-"]
        subprocess.run(gcc, input=HELLO.encode(), check=True)
        yield root


def boot_plainly(root: Path, kernel: Path, accelerator: str) -> tuple[float, float]:
    """Boot until hello is said; give the seconds on our clock, and on the guest's."""
    ours, theirs = socket.socketpair()
    log_read, log_write = os.pipe()
    config = os.memfd_create("machine", 0)
    os.write(config, msgspec.msgpack.encode({"memory_mib": MEMORY_MIB, "vcpus": VCPUS}))
    fds = (config, theirs.fileno(), log_write)
    launcher = [sys.executable, "-I", str(Path(qemu.__file__)), *map(str, fds), "--root", str(root)]
    options = ["--krunfw", str(kernel), "--program", "/hello", "--accelerator", accelerator]
    started = time.perf_counter()
    words = tempfile.TemporaryFile()  # noqa: SIM115 - closed below, after the process
    process = subprocess.Popen([*launcher, *options], pass_fds=fds, stdin=subprocess.DEVNULL, stderr=words)
    for fd in (config, log_write):
        os.close(fd)
    try:
        said = b""
        with os.fdopen(log_read, "rb", buffering=0) as log:
            while (found := _UPTIME.search(said.decode(errors="replace"))) is None or not said.endswith(b"\n"):
                piece = log.read(4096)
                if not piece:
                    words.seek(0)
                    raise SystemExit(f"the plain guest said no hello: {said!r} {words.read()!r}")
                said += piece
            return time.perf_counter() - started, float(found[2])
    finally:
        process.kill()
        process.wait()
        words.close()
        ours.close()
        theirs.close()


@contextmanager
def daemon_with_machines(image_dir: Path, hypervisor: Hypervisor) -> Iterator[Daemon]:
    """Start a daemon that keeps one machine waiting, and stop it afterwards."""
    state = Path(tempfile.mkdtemp(prefix="gb-"))
    state.chmod(0o755)
    environment = {
        "PATH": os.environ["PATH"],
        "GAOLER_API_KEY": KEY,
        "GAOLER_IMAGE_DIR": str(image_dir),
        "GAOLER_STATE_DIR": str(state),
        "GAOLER_BIND": "127.0.0.1:0",
        "GAOLER_LOG_LEVEL": "DEBUG",
        "GAOLER_MICROVM_ENABLED": "true",
        "GAOLER_MICROVM_MEMORY_MIB": str(MEMORY_MIB),
        "GAOLER_MICROVM_VCPUS": str(VCPUS),
        "GAOLER_RATES_EXEC": "off",
    }
    try:
        with (state / "test.log").open("w") as log:
            process = subprocess.Popen(
                [*program(hypervisor), "serve"], env=environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=log, text=True,
            )  # fmt: skip
        daemon = Daemon(process, state, wait_listening(process, state))
        try:
            yield daemon
        finally:
            daemon.stop()
    finally:
        remove_subtree(state)
        shutil.rmtree(state)


def measure(bench: Bench, runs: int) -> None:
    """Measure executions; boots measure themselves."""
    asked = {"tier": "microvm"}
    bench.execute("bash", "true")
    for _ in range(runs):
        bench.timed("nsjail: print(1)", lambda: bench.execute("py", "print(1)"))
        bench.timed("nsjail: true", lambda: bench.execute("bash", "true"))
    for run in range(runs):
        bench.wait_for_machine(2 * run + 2)
        bench.timed("waiting: print(1)", lambda: bench.execute("py", "print(1)", **asked))
        bench.wait_for_machine(2 * run + 3)
        bench.timed("waiting: true", lambda: bench.execute("bash", "true", **asked))
    bench.wait_for_machine(2 * runs + 2)
    session = bench.execute("py", "n = 0", stateful=True, **asked)["session_id"]
    bench.wait_for_machine(2 * runs + 3)
    for _ in range(CALLS):
        bench.timed("session: n += 1", lambda: bench.execute("py", "n += 1", stateful=True, session_id=session))


def measure_cold(bench: Bench) -> None:
    """Ask while the first machine has just begun to boot."""
    bench.timed("cold: print(1)", lambda: bench.execute("py", "print(1)", tier="microvm"))
    bench.measured.add("cold: boot", bench.ready()[0]["begun"])


def read_phases(bench: Bench) -> None:
    """Take what machines and guests have told in the log."""
    log = bench.daemon.log_path.read_text(encoding="utf-8")
    for machine in bench.ready():
        for name, seconds in machine.items():
            bench.measured.add(f"host: {name}", seconds)
    for name, seconds in _UPTIME.findall(log):
        bench.measured.add(f"guest: {name}", float(seconds))


def report(measured: Durations, runs: int) -> None:
    """Print the tables."""
    plain = measured.median("plain")
    print(
        f"Boot, until the host sees it, {len(measured['host: begun'])} machines, p50, ratio to the plain boot's hello:"
    )
    _row("plain QEMU, same kernel: hello", plain, plain)
    _row("ours: jail of the machine made", measured.median("host: jail"), plain)
    _row("ours: the guest greets on its port", measured.median("host: greeting"), plain)
    _row("ours: the guest's jailer serves", measured.median("host: begun"), plain)
    hello = measured.median("plain uptime")
    print("The same, by the guest's own clock since its kernel started, ratio to hello:")
    _row("plain QEMU, same kernel: hello", hello, hello)
    for name, words in (
        ("userspace", "our first program"),
        ("greeting", "port open, greeted"),
        ("begin", "told to begin"),
        ("jailer", "jailer serves"),
    ):
        _row(f"ours: {words}", measured.median(f"guest: {name}"), hello)
    print(f"POST /exec in tier microvm, {runs} machines for each row, p50, ratio to a plain boot:")
    _row("cold: asked as soon as the daemon listens, print(1)", measured.median("cold: print(1)"), plain)
    _row("  of that the boot of its machine", measured.median("cold: boot"), plain)
    _row("from a machine that waited: print(1)", measured.median("waiting: print(1)"), plain)
    _row("from a machine that waited: bash, true", measured.median("waiting: true"), plain)
    _row(f"a session in its machine: n += 1, {CALLS} calls", measured.median("session: n += 1"), plain)
    _row("for comparison, tier nsjail: print(1)", measured.median("nsjail: print(1)"), plain)
    _row("for comparison, tier nsjail: bash, true", measured.median("nsjail: true"), plain)


def _row(name: str, seconds: float, floor: float) -> None:
    print(f"  {name:<54} {seconds:8.3f} s {seconds / floor:8.3f} x", flush=True)


@click.command()
@click.option("--image-dir", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--runs", default=3, help="Measured runs of each row that needs a machine.")
def main(image_dir: Path, runs: int) -> None:
    """Boot plainly, start a daemon, measure, stop it."""
    image = current_image(image_dir)
    if image is None or not (kernel := image.path / MACHINE / KERNEL).is_file():
        raise SystemExit(f"no image with virtual machines in {image_dir}: gaoler image build --microvm")
    hypervisor = chosen(image_dir.resolve())
    if hypervisor == "qemu":
        reasons = (
            "; ".join(each.found for each in missing_on_host(look()))
            or "as GAOLER_TEST_MICROVM says, or no probe boots"
        )
        print(f"QEMU EMULATES THE PROCESSOR, in libkrun's place ({reasons}): compare ratios, not seconds.")
    measured = Durations()
    with hello_root() as root:
        for _ in range(runs + 1):
            seconds, uptime = boot_plainly(root, kernel, qemu.EMULATION if hypervisor == "qemu" else "kvm")
            measured.add("plain", seconds)
            measured.add("plain uptime", uptime)
    with daemon_with_machines(image_dir.resolve(), hypervisor) as daemon:
        bench = Bench(daemon, measured)
        measure_cold(bench)
        measure(bench, runs)
        read_phases(bench)
    report(measured, runs)


if __name__ == "__main__":
    os.umask(0o022)
    main()

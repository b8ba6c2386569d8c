"""The mixed soak: many clients, every language, every kind of ill-mannered program, and a daemon that is killed.

Languages, sessions, lasting interpreters, uploads, downloads, deletions, hang-ups, time limits, memory, floods, MCP,
a network; ten restarts, by SIGTERM and by SIGKILL. A ledger on the clients' side says what the daemon has promised.
Exit code 1: something was lost, doubled, left or has grown, or an answer was none of those that are allowed.
"""

from __future__ import annotations

import random
import shutil
import signal
import statistics
import tempfile
import threading
import time
from pathlib import Path

import click

from benchmarks.soak_marks import age_blobs, growth, holdings, left_behind, orphans, settled, within_patience
from benchmarks.soak_work import NAMES, PROGRAMS, Client, check_download, journal_fault
from benchmarks.soak_world import Interrupted, Ledger, SoakError, World, alive
from supervisor.jailer.cgroup_subtree import remove_subtree

CELLS = 8
"""Of each kind wait, always so many: what the daemon holds can then be compared."""
SETTINGS = {
    "GAOLER_CELLS_FLOOR": str(CELLS),
    "GAOLER_CELLS_BARE_FLOOR": str(CELLS),
    "GAOLER_CELLS_MEMORY_BYTES": str(CELLS * 8 << 20),
    # Interpreters are saved and restored all the time.
    "GAOLER_LIVE_IDLE_MINUTES": "0.05",
    "GAOLER_LIVE_SESSIONS": "12",
    "GAOLER_EXECUTION_POLICY": "packages",
}
PROGRESS_SECONDS = 15.0


class Soak:
    """The clients, and who stops them while the daemon is looked at."""

    def __init__(self, world: World, clients: list[Client], executions: int) -> None:
        self._world = world
        self._executions = executions
        self._open = threading.Event()
        self._open.set()
        self._lock = threading.Lock()
        self._busy = 0
        self.done = 0
        self._threads = [threading.Thread(target=self._run, args=(client,), daemon=True) for client in clients]
        for thread in self._threads:
            thread.start()

    def _run(self, client: Client) -> None:
        while True:
            self._open.wait()
            with self._lock:
                if self.done + self._busy >= self._executions:
                    return
                self._busy += 1
            done = False
            try:
                done = client.step()
            finally:
                with self._lock:
                    self._busy -= 1
                    self.done += done

    def wait_for(self, number: int) -> None:
        """Wait until so many operations are done, and say how it goes on."""
        told = time.monotonic()
        while self.done < number:
            if time.monotonic() - told > PROGRESS_SECONDS:
                told = time.monotonic()
                print(
                    f"  {self.done}/{self._executions} done, {sum(self._world.restarts.values())} restarts,"
                    f" {len(self._world.ledger.violations)} violations",
                    flush=True,
                )
            time.sleep(0.02)

    def look(self) -> dict[str, int]:
        """Stop the clients, wait until nothing runs any more, and count what the daemon holds."""
        self._open.clear()
        try:
            if not within_patience(lambda: self._busy == 0, 120):
                self._world.ledger.violate("a client got no answer in two minutes")
            if not settled(self._world.daemon, CELLS):
                self._world.ledger.violate(f"it does not come to rest: {self._world.daemon.names()}")
            return holdings(self._world.daemon)
        finally:
            self._open.set()


def schedule(executions: int, restarts: int, seed: int) -> list[tuple[int, signal.Signals]]:
    """Choose when, and how, the daemon is ended: between the first look and the second."""
    hand = random.Random(f"{seed}/restarts")
    moments = sorted(hand.randrange(executions // 10 + 1, executions * 6 // 10) for _ in range(restarts))
    signals = [(signal.SIGKILL, signal.SIGTERM)[number % 2] for number in range(restarts)]
    hand.shuffle(signals)
    return list(zip(moments, signals, strict=True))


def verify(world: World) -> None:
    """Compare everything that was acknowledged with what is there."""
    ledger = world.ledger
    for kept in list(ledger.files.values()):
        try:
            check_download(world, kept)
        except (SoakError, Interrupted) as error:
            ledger.violate(f"the file {kept.file} of {kept.session} is lost: {error}")
    for kept in ledger.deleted.values():
        if world.request("GET", f"/v1/download/{kept.session}/{kept.file}", user=kept.user).status != 404:
            ledger.violate(f"the file {kept.file} was deleted and is there")
    for (user, session), written in ledger.journals.items():
        files = world.request("GET", f"/v1/files/{session}?detail=normalized", user=user).json
        journal = [each["id"] for each in files if each["name"] == "journal.txt"]
        body = b"".join(world.request("GET", f"/v1/download/{session}/{each}", user=user).body for each in journal)
        fault = journal_fault(body.decode().split(), written)
        if fault:
            ledger.violate(f"the journal of {session}: {fault}")


def end(world: World, state: Path) -> None:
    """Stop the daemon; look for what is left, also by the sweeper of another start."""
    ledger = world.ledger
    world.look()
    world.restart(signal.SIGTERM)
    world.look()
    world.daemon.stop()
    world.take_log()
    if not within_patience(lambda: not alive(world.started)):
        ledger.violate(f"processes are left: {alive(world.started)}")
    within_patience(lambda: not left_behind(state), 10)
    for what in left_behind(state):
        ledger.violate(f"left behind: {what}")
    age_blobs(state)
    world.begin()
    within_patience(lambda: not orphans(state)[0], 30)
    world.daemon.stop()
    ownerless, missing = orphans(state)
    if ownerless:
        ledger.violate(f"{len(ownerless)} blobs have no owner")
    if missing:
        ledger.violate(f"{len(missing)} blobs are missing")


def report(world: World, marks: list[tuple[int, dict[str, int]]], seconds: float) -> None:
    """Print what happened."""
    ledger = world.ledger
    beside = ("refused for want of a place", "interrupted by a restart")
    total = sum(ledger.done.values()) - sum(ledger.done[each] for each in beside)
    print(f"{total} operations in {seconds:.0f} s, {total / seconds:.1f}/s:")
    for outcome, count in sorted(ledger.outcomes.items()):
        print(f"  {outcome:<48}{count:>8}")
    restarts = ", ".join(f"{count} x {name}" for name, count in sorted(world.restarts.items()))
    if world.restart_seconds:
        print(f"restarts: {restarts}; ready again after {statistics.median(world.restart_seconds):.1f} s (median)")
    unsure = f"{len(ledger.unsure)} unsure, {len(ledger.journals)} journals"
    print(f"ledger: {len(ledger.files)} files kept, {len(ledger.deleted)} deleted, {unsure}")
    print(f"  {'what it holds after':<40}" + "".join(f"{number:>10}" for number, _ in marks))
    for name in marks[0][1]:
        print(f"  {name:<40}" + "".join(f"{held.get(name, 0):>10}" for _, held in marks))
    troubles = sorted(
        {_general(line) for line in world.log if " ERROR " in line or line.startswith(("ERROR", "Trace"))}
    )
    print(f"{len(troubles)} kinds of errors in the log" + "".join(f"\n  {line[:160]}" for line in troubles[:15]))
    _verdict(ledger)


def _general(line: str) -> str:
    """Drop what differs from one to the next: time and numbers."""
    words = line.split()
    if words and words[0][:2] == "20":
        words = words[2:]
    return " ".join(word for word in words if not any(letter.isdigit() for letter in word))


def _verdict(ledger: Ledger) -> None:
    print(
        f"{len(ledger.violations)} violations" + "".join(f"\n  {each}" for each in ledger.violations[:40]), flush=True
    )


def run(world: World, executions: int, restarts: int, seed: int, clients: int) -> list[tuple[int, dict[str, int]]]:
    """Let the clients work and end the daemon now and then; give what it held at each look."""
    offered = world.request("GET", "/v1/health", user="nobody").json["languages"]
    languages = [NAMES.get(name, name) for name in offered if NAMES.get(name, name) in PROGRAMS]
    print(f"{clients} clients, seed {seed}, languages {', '.join(languages)}", flush=True)
    soak = Soak(world, [Client(world, number, seed, languages) for number in range(clients)], executions)
    marks: list[tuple[int, dict[str, int]]] = []

    def look(number: int) -> None:
        soak.wait_for(number)
        marks.append((number, soak.look()))

    look(executions // 10)
    for moment, number in schedule(executions, restarts, seed):
        soak.wait_for(moment)
        world.restart(number)
    look(executions * 65 // 100)
    look(executions)
    for earlier, later in ((marks[0], marks[2]), (marks[1], marks[2])):
        # Between the first two the daemon is another one.
        for what in growth(earlier[1], later[1], same=earlier is marks[1]):
            world.ledger.violate(f"from {earlier[0]} to {later[0]} it has grown: {what}")
    return marks


@click.command()
@click.option("--image-dir", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--executions", default=2000, help="How many operations.")
@click.option("--restarts", default=10, help="How often the daemon is ended.")
@click.option("--seed", default=7, help="Of everything that is chosen.")
@click.option("--clients", default=8, help="That work at once.")
def main(image_dir: Path, executions: int, restarts: int, seed: int, clients: int) -> None:
    """Start a daemon, wear it out, report."""
    state = Path(tempfile.mkdtemp(prefix="gb-"))
    state.chmod(0o755)
    started = time.monotonic()
    world = None
    try:
        world = World(state, image_dir, SETTINGS)
        marks = run(world, executions, restarts, seed, clients)
        seconds = time.monotonic() - started
        print("everything that was acknowledged is looked at", flush=True)
        verify(world)
        end(world, state)
        report(world, marks, seconds)
    finally:
        if world is not None:
            world.give_up()
        remove_subtree(state)
        shutil.rmtree(state)
    raise SystemExit(1 if world.ledger.violations else 0)


if __name__ == "__main__":
    main()

"""What a well-behaved caller notices of a hostile neighbour: its latencies alone and beside each attack, in one run.

The neighbour is another user with four programs (or connections) of the attack at any time, begun again when they end.
"""

from __future__ import annotations

import http.client
import json
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from benchmarks.common import PANDAS, PRINT, Client, measured_daemon, percentile, timed
from tests.daemon import KEY, Daemon

GAP_SECONDS = 0.05
ATTACKERS = 4
HELD_CONNECTIONS = 300
FORK_BOMB = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
DISK_FILL = """
import os
for number in range(100):
    try:
        open(f'fill-{number}', 'wb').write(os.urandom(16 << 20))
    except OSError:
        break
"""
SPIN = """
#include <pthread.h>
static void *spin(void *x) { for (;;); }
int main(void) {
    for (int i = 0; i < 64; i++) { pthread_t t; pthread_create(&t, 0, spin, 0); }
    spin(0);
}
"""
CONNECT = """
import socket
held = []
while True:
    try:
        held.append(socket.create_connection(('192.0.2.1', 443), 5))
    except OSError:
        held.clear()
"""
ATTACKS = {
    "fork bomb": ("py", FORK_BOMB),
    "memory bomb": ("py", "held = []\nwhile True: held.append(b'x' * (32 << 20))"),
    "output flood": ("py", "import sys\nwhile True: sys.stdout.write('x' * 65536)"),
    "disk fill": ("py", DISK_FILL),
    "small files": ("py", "for number in range(10**6): open(f'/tmp/{number}', 'w').close()"),
    "spin on all threads": ("c", SPIN),
    "cgroup and OOM churn": ("bash", "while true; do head -c 2G /dev/zero | tail; done"),
    "short runs": ("bash", "true"),
    "connections from a sandbox": ("py", CONNECT),
}
HTTP_FLOOD, HTTP_HELD = "connections to the door", "connections held open"
ATTACK_MILLISECONDS = 4000


def attack(daemon: Daemon, program: tuple[str, str], over: threading.Event, counts: Counter[str]) -> None:
    """Run the program again and again."""
    while not over.is_set():
        client = Client(daemon.address, user="hostile")
        try:
            status, _ = client.attempt(*program, timeout=ATTACK_MILLISECONDS)
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            counts["broken"] += 1
            continue
        finally:
            client.close()
        counts[str(status)] += 1
        if status != 200:
            over.wait(0.2)


def flood_door(daemon: Daemon, over: threading.Event, counts: Counter[str]) -> None:
    """Connect and ask for something that is refused, without a pause."""
    host, _, port = daemon.address.partition(":")
    request = f"GET /v1/files/nothing HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}x\r\n\r\n".encode()
    while not over.is_set():
        try:
            with socket.create_connection((host, int(port)), timeout=5) as connection:
                connection.sendall(request)
                counts["answered" if connection.recv(1024) else "closed"] += 1
        except OSError:
            counts["refused"] += 1


def hold_door(daemon: Daemon, over: threading.Event, counts: Counter[str]) -> None:
    """Have many connections open and send a byte on each now and then, never a whole request."""
    host, _, port = daemon.address.partition(":")
    held: list[socket.socket] = []
    while not over.is_set():
        try:
            if len(held) < HELD_CONNECTIONS // ATTACKERS:
                held.append(socket.create_connection((host, int(port)), timeout=5))
                held[-1].sendall(b"POST /v1/exec HTTP/1.1\r\nX-Drip: ")
                counts["opened"] += 1
                continue
            for connection in held:
                connection.sendall(b"x")
            over.wait(0.1)
        except OSError:
            counts["cut"] += 1
            held = [each for each in held if each.fileno() >= 0][1:]
    for connection in held:
        connection.close()


@contextmanager
def beside(daemon: Daemon, name: str) -> Iterator[Counter[str]]:
    """Have the attack go on for the block; gives what it got."""
    over, counts = threading.Event(), Counter[str]()
    work: Callable[[], None]
    if name == HTTP_FLOOD:
        work = lambda: flood_door(daemon, over, counts)  # noqa: E731
    elif name == HTTP_HELD:
        work = lambda: hold_door(daemon, over, counts)  # noqa: E731
    else:
        work = lambda: attack(daemon, ATTACKS[name], over, counts)  # noqa: E731
    threads = [threading.Thread(target=work) for _ in range(ATTACKERS)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(2.0)
        yield counts
    finally:
        over.set()
        for thread in threads:
            thread.join()


def measure(quiet: Client, runs: int) -> dict[str, list[float]]:
    """Give the neighbour's latencies."""
    programs = {"print(1)": PRINT, "pandas": PANDAS}
    return {
        name: timed(lambda program=program: quiet.execute(*program), runs, GAP_SECONDS)  # type: ignore[misc]
        for name, program in programs.items()
    }


def show(name: str, found: dict[str, list[float]], alone: dict[str, list[float]], note: str) -> None:
    """Print a row of the table."""
    cells = [f"{name:<28}"]
    for program, durations in found.items():
        p50, p95 = statistics.median(durations), percentile(durations, 0.95)
        base50, base95 = statistics.median(alone[program]), percentile(alone[program], 0.95)
        cells.append(f"{p50:7.1f} ({p50 / base50:4.1f}x) {p95:7.1f} ({p95 / base95:4.1f}x)")
    print("  " + "   ".join(cells) + f"   {note}", flush=True)


@click.command()
@click.option("--image-dir", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--runs", default=60, help="Measured runs of the neighbour, of each program.")
@click.option("--only", default="", help="Only attacks with this in their name.")
def main(image_dir: Path, runs: int, only: str) -> None:
    """Start a daemon, measure, stop it."""
    with measured_daemon(image_dir, GAOLER_EXECUTION_POLICY="packages") as daemon:
        quiet = Client(daemon.address, user="quiet")
        print(f"A user who calls every {GAP_SECONDS * 1000:.0f} ms, beside one with {ATTACKERS} of each attack; ms:")
        heads = "   ".join(f"{program + ' p50':>16} {'p95':>15}" for program in ("print(1)", "pandas"))
        print(f"  {'':<28}   {heads}   what the attack got")
        for name in (*ATTACKS, HTTP_FLOOD, HTTP_HELD):
            if only in name:
                alone = measure(quiet, runs)
                with beside(daemon, name) as counts:
                    found = measure(quiet, runs)
                got = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
                show("alone, just before", alone, alone, "")
                show(name, found, alone, got)
                time.sleep(3.0)
        quiet.close()


if __name__ == "__main__":
    main()

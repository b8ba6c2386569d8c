"""Gateways and workers are killed at random while many callers ask: the ledger accounts for every job at the end.

200 executions in the gate; ``GAOLER_KILLS=2000`` runs as many as that, and the seed of ``GAOLER_KILLS_SEED`` tells who
is killed when.
"""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.daemon import eventually, wait_listening
from tests.fleet.faults import Ran, Told, marked, stream
from tests.fleet_world import Fleet, Member, run_fleet

pytestmark = pytest.mark.root

EXECUTIONS: Final = int(os.environ.get("GAOLER_KILLS", "200"))
SEED: Final = int(os.environ.get("GAOLER_KILLS_SEED", "7"))
CALLERS: Final = 8
EACH_KILL: Final = 45
"""Somebody is killed after so many answers."""
GATEWAYS, WORKERS = ("g1", "g2"), ("w1", "w2", "w3")
SETTINGS: Final = {
    "GAOLER_FLEET_HEARTBEAT_SECONDS": "0.4",
    "GAOLER_FLEET_LOST_SECONDS": "2",
    "GAOLER_FLEET_LEASE_SECONDS": "3",
}
HONEST: Final = {"execution_lost", "rate_limited", "store_unavailable", "broken"}
FINAL: Final = {"done", "failed", "lost", "cancelled", "expired"}
FIXED: Final = {"ledger", "workers", "gateways", "watch", "due", "pools", "fence-number", "made", "usage", "usage_days"}
"""Keys that are there once, or once a day for as long as ``usage.days`` says; all others have to end by themselves, or belong to a session, which the sweeper ends."""
OF_SESSIONS: Final = {
    "session",
    "files",
    "names",
    "file",
    "directories",
    "owner",
    "account",
    "ref",
    "expiry",
    "state_expiry",
    "states",
    "tenant",
}


@dataclass
class Storm:
    """Who asks, who kills, and what came of it."""

    fleet: Fleet
    random: random.Random
    told: dict[int, Told] = field(default_factory=dict)
    killed: list[str] = field(default_factory=list)
    dead: list[tuple[int, str]] = field(default_factory=list)
    """Processes that were of killed members: pid and time of their start."""
    started_again: int = 0
    progress: threading.Condition = field(default_factory=threading.Condition)

    def ask(self, number: int) -> None:
        """Ask for one execution; a gateway that is not there has got no question, so another one is asked."""
        with self.progress:
            # Not far ahead of those who are killed.
            self.progress.wait_for(lambda: self.started_again >= number // EACH_KILL - 1)
        seconds = random.Random(number).uniform(0.0, 0.4)
        code = marked(str(number), f"import time\ntime.sleep({seconds})\nprint({number} * 3)")
        told = Told("broken")
        for turn in range(1000):
            gateway = self.fleet.members[GATEWAYS[(number + turn) % len(GATEWAYS)]]
            told = stream(gateway.daemon, code, stateful=number % 10 == 0)
            if told.what != "refused":
                break
            threading.Event().wait(0.02)
        with self.progress:
            self.told[number] = told
            self.progress.notify_all()

    def kill_some(self) -> None:
        """Kill one member after another, as answers come, and start it again at once: under its name, or a new one."""
        for kill in range(1, EXECUTIONS // EACH_KILL + 1):
            with self.progress:
                self.progress.wait_for(lambda kill=kill: len(self.told) >= kill * EACH_KILL - 10)  # type: ignore[misc]
            name = self.random.choice([*GATEWAYS, *WORKERS, *WORKERS])
            member = self.fleet.members[name]
            self.dead += [(pid, _start(pid)) for pid in member.daemon.family()]
            member.kill()
            self.killed.append(name)
            again = self.fleet.spawn(member.role, name, self._called(name))
            again.daemon.address = wait_listening(again.daemon.process, again.home)
            with self.progress:
                self.started_again = kill
                self.progress.notify_all()

    def _called(self, name: str) -> dict[str, str]:
        same = self.random.random() < 0.5
        return {} if same else {"GAOLER_FLEET_NAME": f"{name}-{len(self.killed)}"}


def _start(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _lives(pid: int, start: str) -> bool:
    return bool(start) and _start(pid) == start


def test_after_random_kills_the_ledger_accounts_for_every_execution() -> None:
    with run_fleet(settings=SETTINGS) as fleet:
        everybody: list[Member] = [fleet.spawn("worker", name) for name in WORKERS]
        everybody += [fleet.spawn("gateway", name) for name in GATEWAYS]
        for member in everybody:
            member.daemon.address = wait_listening(member.daemon.process, member.home)
        for name in GATEWAYS:
            fleet.wait_workers(fleet.members[name], len(WORKERS))
        storm = Storm(fleet, random.Random(SEED))
        with Ran(fleet.redis) as ran, ThreadPoolExecutor(CALLERS + 1) as callers:
            killer = callers.submit(storm.kill_some)
            for each in [callers.submit(storm.ask, number) for number in range(EXECUTIONS)]:
                each.result()
            killer.result()
            eventually(lambda: all(line["state"] in FINAL for line in fleet.ledger().values()))
        _account(storm, ran)
        eventually(lambda: not any(_lives(*each) for each in storm.dead))
        assert not _keys_for_ever(fleet)


def _account(storm: Storm, ran: Ran) -> None:
    ledger, told = storm.fleet.ledger(), storm.told
    what = Counter(each.what for each in told.values())
    states = Counter(line["state"] for line in ledger.values())
    lost = [job for job, line in ledger.items() if line["state"] == "lost" and "worker" in line]
    print(f"\nseed {SEED}, killed {storm.killed}\ntold {dict(what)}\nledger {dict(states)}, began and lost {len(lost)}")
    assert len(told) == EXECUTIONS
    assert set(what) <= HONEST | {"done"}, {each for each in what if each not in HONEST}
    assert not ran.twice
    jobs: dict[str, str] = ran.jobs
    for number, each in told.items():
        # One question, one job; nobody asks again for a caller.
        state = ledger[jobs[str(number)]]["state"] if str(number) in jobs else None
        if each.what == "done":
            assert each.body["stdout"].splitlines()[1:] == [str(number * 3)]
            assert state == "done"
        elif each.what == "execution_lost":
            assert state in (None, "lost", "failed"), (number, state, each)
        elif each.what != "broken":
            # It was refused before anything ran.
            assert state is None, (number, state, each)
    assert what["execution_lost"] <= len(lost) <= what["execution_lost"] + what["broken"]
    assert what["done"] > EXECUTIONS * 0.7


def _keys_for_ever(fleet: Fleet) -> set[str]:
    found = set()
    with fleet.redis.client() as client:
        for key in client.scan_iter(match=f"{{{fleet.prefix}}}:*", count=1000):
            kind = key.decode().split(":")[1]
            if client.pttl(key) == -1 and kind not in FIXED | OF_SESSIONS:
                found.add(key.decode())
    return found

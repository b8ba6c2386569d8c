"""The world of the soak: a daemon that is killed and started again, and a ledger of what it has promised."""

from __future__ import annotations

import hashlib
import http.client
import json
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.daemon import KEY, Daemon, descendants, start_daemon

REQUEST_SECONDS = 90
SHOWN = 20


class Interrupted(Exception):
    """The daemon was ended while it was asked: what it did is not known."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Kept:
    """A file that the daemon has acknowledged."""

    user: str
    session: str
    file: str
    digest: str


@dataclass
class Ledger:
    """What was acknowledged, and what must never be seen. Threads write to it."""

    files: dict[str, Kept] = field(default_factory=dict)
    deleted: dict[str, Kept] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)
    """Files whose deletion was interrupted: both is right."""
    journals: dict[tuple[str, str], list[tuple[str, bool]]] = field(default_factory=dict)
    """By user and session: the tokens that were to be written to its journal, and whether that was acknowledged."""
    done: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, kind: str, outcome: str) -> None:
        """Count one operation."""
        with self.lock:
            self.done[kind] += 1
            self.outcomes[f"{kind}: {outcome}"] += 1

    def violate(self, what: str) -> None:
        """Note what must not be."""
        with self.lock:
            self.violations.append(what)
            if len(self.violations) <= SHOWN:
                print(f"  VIOLATION {what}", flush=True)

    def keep(self, kept: Kept) -> None:
        """Note an acknowledged file."""
        with self.lock:
            if kept.file in self.files or kept.file in self.deleted:
                self.violations.append(f"the id {kept.file} was given twice")
            self.files[kept.file] = kept

    def forget(self, kept: Kept, *, sure: bool) -> None:
        """Note a deletion, acknowledged or interrupted."""
        with self.lock:
            self.files.pop(kept.file, None)
            if sure:
                self.deleted[kept.file] = kept
            else:
                self.unsure.add(kept.file)


def digest_of(content: bytes) -> str:
    """Name content."""
    return hashlib.sha256(content).hexdigest()


class World:
    """The daemon, at one address for its whole life of several processes."""

    def __init__(self, state: Path, image_dir: Path, settings: Mapping[str, str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._state = state
        self._image_dir = image_dir
        self._settings = {**settings, "GAOLER_BIND": f"127.0.0.1:{port}"}
        self.ledger = Ledger()
        self.restarts: Counter[str] = Counter()
        self.restart_seconds: list[float] = []
        self.log: list[str] = []
        self._epoch = 0
        """Odd while the daemon is being ended and started."""
        self.started: set[tuple[int, int]] = set()
        """All processes that it ever had, as far as was seen: pid and time of their start, as pids are given again."""
        self.daemon = start_daemon(state, image_dir, settings=self._settings)

    def restart(self, number: signal.Signals) -> None:
        """End the daemon with this signal, and start it on what is left."""
        self._epoch += 1
        self.look()
        self.daemon.process.send_signal(number)
        code = self.daemon.process.wait(timeout=60)
        if number == signal.SIGTERM and code != 0:
            self.ledger.violate(f"SIGTERM: the daemon ended with {code}")
        self.take_log()
        started = time.monotonic()
        self.daemon = self._start_again()
        self.restart_seconds.append(time.monotonic() - started)
        self.restarts[number.name] += 1
        self._epoch += 1

    def begin(self) -> None:
        """Start the daemon once more, after it was stopped."""
        self.daemon = self._start_again()
        self.look()

    def give_up(self) -> None:
        """Leave no process behind, whatever has happened."""
        if self.daemon.process.poll() is None:
            self.look()
            self.daemon.process.kill()
            self.daemon.process.wait()
        end = time.monotonic() + 20
        while alive(self.started) and time.monotonic() < end:
            time.sleep(0.1)

    def _start_again(self) -> Daemon:
        """A predecessor's jailer that is just dying may hold the lock for a moment."""
        for _ in range(50):
            try:
                return start_daemon(self._state, self._image_dir, settings=self._settings)
            except AssertionError as error:
                if "another gaoler uses" not in str(error):
                    raise
                self.restarts["tries again"] += 1
                time.sleep(0.1)
        raise SystemExit("the daemon cannot be started again")

    def look(self) -> None:
        """Remember the processes."""
        root = self.daemon.process.pid
        self.started |= {(pid, start) for pid in (root, *descendants(root)) if (start := start_of(pid))}

    def take_log(self) -> None:
        """Keep what the log says before the next daemon begins a new one."""
        self.log += self.daemon.lines()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask the daemon in the block. What breaks because it was ended meanwhile becomes :class:`Interrupted`."""
        before = self._epoch
        try:
            yield
        except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
            if before % 2 or self._epoch != before:
                raise Interrupted from None
            # The signal may just be on its way.
            time.sleep(0.5)
            if self._epoch != before or self.daemon.process.poll() is not None:
                raise Interrupted from None
            raise SoakError(f"{type(error).__name__}: {error}") from None

    def disturbed(self, before: int) -> bool:
        """Say whether the daemon was being ended or started since ``before``."""
        return bool(before % 2) or self._epoch != before

    def wait_up(self) -> None:
        """Wait until it is not being ended or started."""
        while self._epoch % 2:
            time.sleep(0.05)

    @property
    def epoch(self) -> int:
        """Changes whenever the daemon is ended, and when it has started."""
        return self._epoch

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        user: str,
        headers: Mapping[str, str] | None = None,
        seen: dict[str, str] | None = None,
    ) -> Answer:
        """Ask, on a connection of its own; the headers of the answer go to ``seen``.

        Raises:
            Interrupted: as :meth:`asking`.
        """
        before = self._epoch
        with self.asking():
            connection = http.client.HTTPConnection(self.daemon.address, timeout=REQUEST_SECONDS)
            try:
                sent = {"X-API-Key": KEY, "X-User-Id": user, **(headers or {})}
                connection.request(method, path, body, sent)
                response = connection.getresponse()
                answer = Answer(response.status, response.read())
                if seen is not None:
                    seen.update((name.lower(), value) for name, value in response.getheaders())
            finally:
                connection.close()
        if answer.status in (429, 500, 503) and self.disturbed(before):
            raise Interrupted
        return answer


class SoakError(Exception):
    """An answer that may not be."""


def start_of(pid: int) -> int:
    """Give when a process was started, in ticks since the boot; 0 if it is gone or only its record is left."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] == "Z" else int(fields[19])


def alive(started: set[tuple[int, int]]) -> list[int]:
    """Give those that still run."""
    return [pid for pid, start in started if start_of(pid) == start]

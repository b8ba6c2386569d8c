"""Start a real daemon and talk to it over HTTP, as its users do."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any, cast

from supervisor.jailer.cgroup_subtree import remove_subtree

KEY = "test-key-0123456789abcdef"
ADMIN_KEY = "admin-key-0123456789abcdef"
ROOT = Path(__file__).resolve().parent.parent
PATIENCE_SECONDS = 60.0
GAOLER = (sys.executable, "-m", "supervisor")
_LISTENING = re.compile(r"listening on (?:https?://)?(127\.0\.0\.1:\d+|unix:\S+) ")
"""With what follows: of a line that is being written half may be there."""


@dataclass
class Answer:
    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket: it can be reached from every network namespace."""

    def __init__(self, path: str, timeout: float = PATIENCE_SECONDS) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass
class Daemon:
    process: subprocess.Popen[str]
    state_dir: Path
    address: str
    api_key: str = KEY
    log: list[str] = field(default_factory=list)
    patience: float = PATIENCE_SECONDS
    """How long its clients wait for it, in seconds."""

    @property
    def base_url(self) -> str:
        return f"http://{self.address}"

    @property
    def log_path(self) -> Path:
        return self.state_dir / "test.log"

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        key: str | None = KEY,
        chunked: bool = False,
    ) -> Answer:
        sent = dict(headers or {})
        if key is not None:
            sent["X-API-Key"] = key
        connection = self.connection()
        try:
            connection.request(method, path, body, sent, encode_chunked=chunked)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def connection(self) -> http.client.HTTPConnection:
        if self.address.startswith("unix:"):
            return UnixConnection(self.address.removeprefix("unix:"), self.patience)
        return http.client.HTTPConnection(self.address, timeout=self.patience)

    def execute(self, code: str, lang: str = "py", *, user: str | None = None, **fields: Any) -> dict[str, Any]:
        answer = self.try_execute(code, lang, user=user, **fields)
        assert answer.status == 200, answer.body
        return cast("dict[str, Any]", answer.json)

    def try_execute(self, code: str, lang: str = "py", *, user: str | None = None, **fields: Any) -> Answer:
        headers = {"Content-Type": "application/json"} | ({"X-User-Id": user} if user else {})
        return self.request("POST", "/v1/exec", json.dumps({"lang": lang, "code": code, **fields}).encode(), headers)

    def upload(
        self, *files: tuple[str, bytes], fields: Mapping[str, str] | None = None, user: str | None = None
    ) -> Answer:
        return self.multipart("/v1/upload", *files, fields=fields, user=user)

    def multipart(
        self,
        path: str,
        *files: tuple[str, bytes],
        fields: Mapping[str, str] | None = None,
        user: str | None = None,
        key: str | None = KEY,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Upload in chunks, fields first, as LibreChat does."""
        boundary = "----gaoler-test-boundary"
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in (fields or {}).items()
        ]
        for name, content in files:
            quoted = name.replace("\\", "\\\\")
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{quoted}"\r\nContent-Type: text/csv\r\n\r\n'
            parts.append(head.encode("utf-8", "surrogateescape") + content + b"\r\n")
        parts.append(f"--{boundary}--\r\n".encode())
        sent = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Transfer-Encoding": "chunked"}
        sent |= {"User-Id": user} if user else {}
        return self.request("POST", path, parts, sent | dict(headers or {}), key=key, chunked=True)

    def lines(self) -> list[str]:
        return self.log_path.read_text().splitlines()

    def family(self) -> list[int]:
        """The daemon, its keeper, the jailer and all that they started."""
        return [self.process.pid, *descendants(self.process.pid)]

    def names(self) -> list[str]:
        """Of every process of the family."""
        return [name for name in map(process_name, self.family()) if name]

    def named(self, name: str) -> int:
        """The one process of that name in the family.

        What it has just forked may still be called as it is, also when it ends while we look: then it has no parent.
        """
        found = [
            pid for pid in self.family() if process_name(pid) == name and process_name(parent(pid)) not in (name, "")
        ]
        assert len(found) == 1, (name, found)
        return found[0]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=30) == 0, self.log_path.read_text()[-2000:]


@contextmanager
def nobodys_port() -> Iterator[int]:
    """Give a port of the loopback at which nobody listens for the block: it is taken, so nobody else can."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


def open_files() -> set[tuple[str, str]]:
    """What this process has open: numbers, and what they are.

    The garbage of other tests may be closed at any moment: look for what is there in addition, not for how much is.
    """
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the look itself
            found.add((path.name, os.readlink(path)))
    return found


def process_name(pid: int) -> str:
    """Empty for one that has ended meanwhile."""
    try:
        return (Path("/proc") / str(pid) / "comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def parent(pid: int) -> int:
    """0 for a process that has ended meanwhile."""
    try:
        return int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what the kernel does soon but not at once; fail when it does not."""
    for _ in range(3000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come true in half a minute")


def descendants(root: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            state, parent = stat.rpartition(")")[2].split()[:2]
            if state != "Z":
                parents.setdefault(int(parent), []).append(int(entry.name))
    found: list[int] = []
    pending = [root]
    while pending:
        children = parents.get(pending.pop(), [])
        found += children
        pending += children
    return found


def image_path() -> Path:
    """Where the runtime images of the tests are."""
    return Path(os.environ.get("GAOLER_TEST_IMAGE_DIR", ROOT / ".cache" / "images"))


def spawn_daemon(
    state: Path,
    image: Path,
    *,
    settings: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
    program: Sequence[str] = GAOLER,
) -> subprocess.Popen[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "GAOLER_API_KEY": KEY,
        "GAOLER_ADMIN_KEY": ADMIN_KEY,
        "GAOLER_IMAGE_DIR": str(image),
        "GAOLER_STATE_DIR": str(state),
        "GAOLER_BIND": "127.0.0.1:0",
        # Tests that are not about it do not wait for what they leave running.
        "GAOLER_EXECUTION_DRAIN_SECONDS": "0",
        # Tests that are not about them call more often than a person does.
        **{f"GAOLER_RATES_{kind}": "off" for kind in ("EXEC", "UPLOAD", "DOWNLOAD", "LISTING")},
        # Nor is a test that shows bad credentials a reason to shut the others out: all are one address.
        "GAOLER_HTTP_FAILED_AUTHENTICATIONS": "off",
        **(settings or {}),
    }
    with (state / "test.log").open("w") as log:
        process = subprocess.Popen(
            [*prefix, *program, "serve"],
            env=environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            text=True,
        )
    started.append((state, process))
    return process


started: list[tuple[Path, subprocess.Popen[str]]] = []
"""Every daemon of this run, so that a failing test leaves none behind."""


def end_daemons(state: Path) -> None:
    for where, process in started:
        if where == state and process.poll() is None:
            process.kill()
            process.wait()


@contextmanager
def daemon_with(image: Path, settings: Mapping[str, str]) -> Iterator[Daemon]:
    """A daemon with settings of its own, for the block."""
    state = Path(tempfile.mkdtemp(prefix="gt-"))
    state.chmod(0o755)
    try:
        running = start_daemon(state, image, settings=settings)
        yield running
        running.stop()
    finally:
        end_daemons(state)
        remove_subtree(state)
        shutil.rmtree(state)


def start_daemon(state: Path, image: Path, *, settings: Mapping[str, str] | None = None) -> Daemon:
    process = spawn_daemon(state, image, settings=settings)
    return Daemon(process, state, wait_listening(process, state))


def wait_listening(process: subprocess.Popen[str], state: Path) -> str:
    """Wait until the daemon says where it listens; give that."""
    log = state / "test.log"
    # The daemon says where it listens; its end is the only other thing that can come.
    while not (match := _LISTENING.search(log.read_text())):
        try:
            process.wait(timeout=0.02)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(f"the daemon ended with {process.returncode}:\n{log.read_text()}")
    return match[1]

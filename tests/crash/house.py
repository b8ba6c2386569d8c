"""A state directory and the daemon on it, which is killed and started again."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from supervisor.jailer.cgroup_subtree import remove_subtree
from tests.crash import world
from tests.crash.scenes import CUT, Act, Scene
from tests.daemon import Daemon, end_daemons, eventually, spawn_daemon, start_daemon, wait_listening

DATA: Final = frozenset(
    {
        "gaoler.sqlite",
        "gaoler.sqlite-wal",
        "gaoler.sqlite-shm",
        "blobs",
        "hint_key",
        "admin.jsonl",
        "admin-refused.jsonl",
    }
)


class House:
    """Use :func:`open_house`."""

    def __init__(self, state: Path, image: Path, temporary: Path, settings: Mapping[str, str]) -> None:
        self.state, self.temporary = state, temporary
        self.settings = {**world.NOTHING_WAITS, "TMPDIR": str(temporary), **settings}
        self.image = image
        self._daemon: Daemon | None = None

    @property
    def daemon(self) -> Daemon:
        """The one that was started last."""
        assert self._daemon is not None
        return self._daemon

    def gone(self) -> None:
        """Wait for the end of everybody who belonged to a daemon that has died."""
        eventually(lambda: world.family_of(self.state) == [])

    def family(self) -> set[int]:
        """The processes that stay: nothing is run now, and of what was nothing is ending any more."""
        eventually(lambda: world.leaves(self.state) == [])
        return set(world.family_of(self.state))

    def start(self) -> Daemon:
        """After a death: the next one finds the house in order, has what was kept, and works."""
        world.age_blobs(self.state)
        self._daemon = start_daemon(self.state, self.image, settings=self.settings)
        self.check()
        return self._daemon

    def start_watched(self, kill_at: int, depth: int, skip: int = 0) -> tuple[list[world.Step], bool]:
        """Start one that is traced from its first step on; say whether it came up, and lives."""
        with tempfile.TemporaryDirectory() as directory:
            fifo = Path(directory, "go")
            os.mkfifo(fifo)
            prefix = (sys.executable, "-I", "-S", "-c", _WAIT, str(fifo))
            process = spawn_daemon(self.state, self.image, settings=self.settings, prefix=prefix)
            with world.traced(process.pid, kill_at, depth=depth, skip=skip, go=fifo) as steps:
                try:
                    self._daemon = Daemon(process, self.state, wait_listening(process, self.state))
                except AssertionError:
                    self._daemon = Daemon(process, self.state, "")
                steps.settle()
                seen = steps.seen()
                if depth == 0 and world.killed_at(seen):  # it may have listened before
                    process.wait()
                return seen, self.daemon.address != "" and process.poll() is None

    def check(self) -> None:
        assert "Traceback" not in self.daemon.log_path.read_text()
        world.check_blobs(self.state)
        self.check_nothing_is_left()
        assert self.daemon.execute("echo works", "bash")["stdout"] == "works\n"

    def check_nothing_is_left(self) -> None:
        """Of a running daemon in which nothing runs: the host holds what it has to, and no more."""
        eventually(lambda: world.leaves(self.state) == [])
        assert str(self.state) not in Path("/proc/self/mountinfo").read_text()
        assert set(os.listdir(self.state)) - {"admin_key", "api_key", "started-all.json"} == {
            "data",
            "lock",
            "root",
            "run",
            "test.log",
        }
        assert os.listdir(self.state / "root") == []
        assert set(os.listdir(self.state / "data")) == DATA
        assert os.listdir(self.state / "run") == ["jailer.sock"]
        assert os.listdir(self.temporary) == []

    def kill_and_start(self) -> Daemon:
        self.daemon.process.kill()
        self.daemon.process.wait()
        self.gone()
        return self.start()


_WAIT: Final = "import os, sys; os.open(sys.argv[1], os.O_RDONLY); os.execv(sys.argv[2], sys.argv[2:])"
"""Become the daemon as soon as the tracer watches."""


@contextmanager
def open_house(image: Path, settings: Mapping[str, str] | None = None, *, empty: bool = False) -> Iterator[House]:
    """A daemon in which nothing waits, or the place for one, for the block; whatever is left of it goes."""
    state, temporary = (Path(tempfile.mkdtemp(prefix=prefix)) for prefix in ("gt-", "gaoler-crash-"))
    state.chmod(0o755)
    temporary.chmod(0o1777)
    try:
        house = House(state, image, temporary, settings or {})
        if not empty:
            house.start()
        yield house
    finally:
        end_daemons(state)
        remove_subtree(state)
        shutil.rmtree(state)
        shutil.rmtree(temporary)


def count_steps(house: House, scene: Scene, pid: Callable[[Daemon], int], who: str) -> world.Count:
    """Count the steps of one undisturbed run; the run before it makes what is made once."""
    for number in range(2):
        act, _ = scene.prepare(house.daemon, number)
        with world.traced(pid(house.daemon)) as steps:
            assert act(house.daemon).status in (200, 204)
            steps.settle()
            seen = steps.seen()
    count = world.Count(f"{who}, {scene.name}", seen)
    world.COUNTS.append(count)
    return count


def status_of(act: Act, daemon: Daemon) -> int:
    """Send the request; 0: the connection was cut, or ended by a bare 500 while the daemon did. A failure says what it is."""
    try:
        answer = act(daemon)
    except CUT:
        return 0
    if answer.status == 500 and not answer.body:
        assert daemon.process.wait(30) != 0, "a daemon that goes on says why it cannot answer"
        return 0
    if answer.status >= 500:
        assert answer.json["error"] == "sandbox_failed", answer.body
        assert len(answer.json["message"]) > 10, answer.body
    return answer.status

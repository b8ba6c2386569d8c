"""A twin of the operator's daemon: the same settings, policies and image, a state directory of its own.

For what nobody wants to have tried on a daemon in use: to be killed, starved of disk, misconfigured. It listens on a
unix socket, and nothing of it is left at the end of the block.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from supervisor.attack import host
from supervisor.attack.case import Broken
from supervisor.errors import GaolerError
from supervisor.jailer.cgroup_subtree import remove_subtree
from supervisor.settings.loading import Loaded, leaves

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0
MAX_LOG_BYTES: Final = 4 << 20


class Twin:
    """Use :func:`open_twin`. ``prefix`` is put in front of its command: to start it in another network, say."""

    def __init__(self, loaded: Loaded, state: Path, more: Mapping[str, str], prefix: Sequence[str]) -> None:
        self.state = state
        self.key = f"gk-{os.urandom(24).hex()}"
        self._prefix = prefix
        self._environment = _environment(loaded, state, self.key) | dict(more)
        self._process: trio.Process | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"unix:{self.state}/run/door.sock"

    @property
    def pid(self) -> int:
        """Its daemon's process."""
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        """Give what it has logged, the end if that is much."""
        with (self.state / "log").open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - MAX_LOG_BYTES))
            return file.read(MAX_LOG_BYTES).decode("utf-8", "replace")

    async def start(self, more: Mapping[str, str] | None = None) -> None:
        """Start it and wait until it serves.

        Raises:
            GaolerError: it refuses to start; the message is its own last line.
        """
        with (self.state / "log").open("ab") as log:
            self._process = await trio.lowlevel.open_process(
                [*self._prefix, sys.executable, "-I", "-m", "supervisor", "serve"],
                env=self._environment | dict(more or {}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd="/",
            )
        with trio.move_on_after(START_SECONDS):
            while self._process.returncode is None:
                if await self._answers():
                    return
                await trio.sleep(0.02)
            raise GaolerError(self._last_words())
        await self.stop(signal.SIGKILL)
        raise GaolerError(f"it does not serve after {START_SECONDS:.0f} s")

    async def _answers(self) -> bool:
        made = trio.socket.socket(trio.socket.AF_UNIX)
        try:
            await made.connect(self.address.removeprefix("unix:"))
            return True
        except OSError:
            return False
        finally:
            made.close()

    def _last_words(self) -> str:
        lines = [line for line in self.log().splitlines() if line.strip()]
        return next((line for line in reversed(lines) if line.startswith("gaoler:")), lines[-1] if lines else "")

    @property
    def running(self) -> bool:
        """It has not ended."""
        return self._process is not None and self._process.poll() is None

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal, wait until nothing of it is left, and give its exit status.

        Raises:
            Broken: something of it stays.
        """
        process = self._process
        assert process is not None
        family = [process.pid, *host.descendants(process.pid)]
        if process.returncode is None:
            process.send_signal(number)
        with trio.move_on_after(STOP_SECONDS):
            status = await process.wait()
            while left := [pid for pid in family if host.status(pid).get("State", "Z")[0] not in "ZX"]:
                await trio.sleep(0.02)
            return status
        raise Broken(f"{STOP_SECONDS:.0f} s after its end there are still the processes {left}")


def _environment(loaded: Loaded, state: Path, key: str) -> dict[str, str]:
    """Say all settings by variables, so that the twin's are the same wherever they came from."""
    found = {"PATH": os.environ.get("PATH", "/usr/bin:/bin")}
    for leaf in leaves():
        # It is killed and starved: the operator's Redis, S3 and log are not its.
        own = leaf.key.partition(".")[0] not in ("redis", "s3", "fleet", "log")
        value = loaded.values[leaf.key] if own else leaf.default
        found[leaf.variable] = str(value).lower() if isinstance(value, bool) else str(value)
    # Sandboxes that wait come and go with demand; what is left of others can be counted only beside a few.
    found |= {"GAOLER_CELLS_FLOOR": "2", "GAOLER_CELLS_BARE_FLOOR": "2", "GAOLER_CELLS_MEMORY_BYTES": str(16 << 20)}
    for kind in ("EXEC", "UPLOAD", "DOWNLOAD", "LISTING"):
        found[f"GAOLER_RATES_{kind}"] = "off"
    return found | {
        "GAOLER_STATE_DIR": str(state),
        "GAOLER_IMAGE_DIR": str(loaded.settings.image_path),
        "GAOLER_BIND": f"unix:{state}/run/door.sock",
        "GAOLER_API_KEY": key,
        "GAOLER_HTTP_AUTHENTICATION": "true",
    }


@asynccontextmanager
async def open_twin(
    loaded: Loaded, more: Mapping[str, str] | None = None, *, prefix: Sequence[str] = ()
) -> AsyncIterator[Twin]:
    """Have a place for a twin for the block; it is started by :meth:`Twin.start`, once or many times."""
    state = Path(tempfile.mkdtemp(prefix="gaoler-attack-"))
    state.chmod(0o755)
    twin = Twin(loaded, state, more or {}, prefix)
    try:
        yield twin
    finally:
        with trio.CancelScope(shield=True):
            if twin.running:
                await twin.stop(signal.SIGKILL)
        remove_subtree(state)
        shutil.rmtree(state)

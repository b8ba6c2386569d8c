"""The command line in a process of its own, as a person's shell starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.daemon import ADMIN_KEY, KEY, PATIENCE_SECONDS, ROOT, Daemon

COMMAND = (sys.executable, "-m", "supervisor")


def environment(daemon: Daemon | None = None, **more: str) -> dict[str, str]:
    """What the command sees: nothing of the tests' own, and where the daemon is."""
    here = {} if daemon is None else {"GAOLER_BIND": daemon.address, "GAOLER_STATE_DIR": str(daemon.state_dir)}
    keys = {} if daemon is None else {"GAOLER_ADMIN_KEY": ADMIN_KEY, "GAOLER_API_KEY": KEY}
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TERM": "xterm-256color", **here, **keys, **more}


def gaoler(
    *arguments: str, daemon: Daemon | None = None, stdin: str = "", cwd: Path = ROOT, **more: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        env=environment(daemon, **more),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS * 2,
    )

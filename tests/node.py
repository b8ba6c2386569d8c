"""Node.js packages of tests: pinned by a lock file, installed once."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from tests.daemon import Daemon


def installed(directory: Path) -> Path:
    """Install what the lock file of ``directory`` says, unless its stamp says that it is; give ``node_modules``."""
    stamp = directory / "node_modules" / ".gaoler-stamp"
    lock = hashlib.sha256((directory / "package-lock.json").read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != lock:
        subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
            cwd=directory,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        stamp.write_text(lock)
    return directory / "node_modules"


def old_node(daemon: Daemon) -> str:
    """Give the version of the sandboxes' Node.js if it takes every file ``.js`` for CommonJS, else nothing."""
    version = daemon.execute("console.log(process.versions.node)", "js")["stdout"].strip()
    return version if tuple(int(part) for part in version.split(".")[:2]) < (20, 19) else ""

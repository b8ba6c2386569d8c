"""Node.js packages of tests: pinned by a lock file, installed once."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path


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

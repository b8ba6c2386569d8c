"""One release, built once, and one installation of it: nothing of the checkout is in its way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor import __version__
from tests.daemon import ROOT

BUILDER = ROOT / "deploy" / "release" / "archives.py"


def build(output: Path, *options: str, umask: int = -1) -> str:
    """Build it as ``make dist`` does; give what the builder says."""
    done = subprocess.run(
        [sys.executable, BUILDER, "--output", output, *options],
        env={"PATH": os.environ["PATH"]},
        cwd=output.parent,
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with everything that a release consists of."""
    output = tmp_path_factory.mktemp("release") / "dist"
    build(output)
    return output


@pytest.fixture(scope="session")
def installed(release: Path) -> Iterator[Path]:
    """The directory ``bin`` of a virtual environment with nothing but the lock file's packages and the wheel."""
    place = Path(tempfile.mkdtemp(prefix="gt-"))
    place.chmod(0o755)
    try:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "venv"], check=True)
        python = str(place / "venv" / "bin" / "python")
        pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q"]
        pip += ["--disable-pip-version-check", "--no-compile"]
        locked = release / f"gaoler-{__version__}-requirements.lock"
        wheel = release / f"gaoler-{__version__}-py3-none-any.whl"
        # Where packages come from is the host's to say: its environment is left as it is.
        subprocess.run([*pip, "--require-hashes", "-r", locked], check=True)
        subprocess.run([*pip, "--no-deps", "--no-index", wheel], check=True)
        yield place / "venv" / "bin"
    finally:
        shutil.rmtree(place)

"""The Debian package has the release's environment, and what it installs runs a program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor import __version__
from tests.daemon import ROOT, image_path

pytestmark = pytest.mark.root
BUILDER = ROOT / "deploy" / "release" / "debian_package.py"


@pytest.fixture(scope="module")
def package(installed: Path, release: Path) -> Path:
    command = [sys.executable, str(BUILDER), "--release", str(release), "--environment", str(installed.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def test_the_package_says_what_it_needs(package: Path) -> None:
    shown = subprocess.run(["dpkg-deb", "-f", package], capture_output=True, text=True, check=True).stdout
    fields = dict(line.split(": ", 1) for line in shown.splitlines() if ": " in line and not line.startswith(" "))
    python = f"3.{sys.version_info.minor}"
    assert (fields["Package"], fields["Version"]) == ("gaoler", f"{__version__}~py{python}")
    assert f"python3 (>= {python}~)" in fields["Depends"]
    assert "catatonit" in fields["Depends"]


def test_everything_in_it_is_roots_and_below_two_directories(package: Path) -> None:
    listed = subprocess.run(["dpkg-deb", "-c", package], capture_output=True, text=True, check=True).stdout.splitlines()
    assert {line.split()[1] for line in listed} == {"root/root"}
    names = [line.split()[5] for line in listed]
    assert all(name.startswith(("./opt/gaoler/", "./usr/")) or name in ("./", "./opt/") for name in names)
    assert not [name for name in names if "__pycache__" in name or "direct_url" in name]


def test_what_it_installs_runs_a_program(package: Path, state_dir: Path) -> None:
    subprocess.run(["dpkg-deb", "-x", package, state_dir / "tree"], check=True)
    (state_dir / "program.py").write_text("print(6 * 7)\n")
    # Where dpkg would put it, in a mount namespace that ends with the command.
    script = (
        'mount -t tmpfs none /opt && mkdir /opt/gaoler && mount --bind "$1/opt/gaoler" /opt/gaoler && shift && "$@"'
    )
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(state_dir / "tree"), "/opt/gaoler/bin/gaoler"]
    environment = {
        "PATH": os.environ["PATH"],
        "GAOLER_STATE_DIR": str(state_dir),
        "GAOLER_IMAGE_DIR": str(image_path()),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    for arguments, printed in ((["--version"], f"gaoler, version {__version__}\n"), (["run", "program.py"], "42\n")):
        done = subprocess.run(
            [*command, *arguments], env=environment, cwd=state_dir, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, printed), done.stderr

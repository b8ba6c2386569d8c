"""Make a Debian package of a release: an environment of its own in /opt/gaoler, and the command in /usr/bin.

    python deploy/release/debian_package.py [--release dist] [--environment VENV]

The environment is what the release's lock file and wheel give, for the Python of the host that this runs on, and so for
its release of Debian; ``--environment`` takes one that was installed so already. The tool is dpkg's own, dpkg-deb;
others (dh-virtualenv, fpm, nfpm) bring a tool chain of their own for what is one directory and a script. The package
needs no network to be installed, starts nothing, and has no unit: ``gaoler install`` writes those.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PLACE: Final = "opt/gaoler"
_WHEEL: Final = re.compile(r"gaoler-(?P<version>[^-]+)-py3-none-any\.whl")
_CONTROL: Final = """\
Package: gaoler
Version: {version}~py{python}
Architecture: amd64
Maintainer: The Gaoler founders <maintainers@gaoler.invalid>
Installed-Size: {size}
Depends: python3 (>= {python}~), python3 (<< {next_python}~), catatonit, ca-certificates
Recommends: python3-venv, graphviz, fonts-dejavu-core, fonts-liberation
Section: net
Priority: optional
Description: daemon that runs code nobody trusts, in nsjail sandboxes
 A drop-in for LibreChat's Code Interpreter and an MCP server to the same files.
 .
 After the installation: gaoler doctor, gaoler image build, gaoler serve.
"""
# What Python compiles is not in the package: its bytes would differ from build to build.
_AFTER: Final = """\
#!/bin/sh
set -e
test "$1" != configure || /{place}/bin/python3 -m compileall -q /{place}/lib || true
"""
_BEFORE: Final = """\
#!/bin/sh
set -e
find /{place}/lib -type d -name __pycache__ -exec rm -rf {{}} +
"""


def main() -> None:
    """Build the package beside the wheel; print where it is."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--release", type=Path, default=ROOT / "dist", help="where 'make dist' put its archives")
    parser.add_argument("--environment", type=Path, help="a virtual environment with lock file and wheel installed")
    given = parser.parse_args()
    os.umask(0o022)
    with tempfile.TemporaryDirectory(prefix="gaoler-deb-") as scratch:
        environment = given.environment or install(given.release, Path(scratch, "venv"))
        print(package(environment, given.release, Path(scratch, "tree")))


def install(release: Path, environment: Path) -> Path:
    """Install lock file and wheel of a release into an empty environment of this host's Python; give that."""
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", environment], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python3"), "install", "-q"]
    locked = next(release.glob("gaoler-*-requirements.lock"))
    subprocess.run([*pip, "--no-compile", "--require-hashes", "-r", locked], check=True)
    subprocess.run([*pip, "--no-compile", "--no-deps", "--no-index", wheel_of(release)], check=True)
    return environment


def wheel_of(release: Path) -> Path:
    """Find the one wheel of a release."""
    return next(path for path in release.iterdir() if _WHEEL.fullmatch(path.name))


def package(environment: Path, release: Path, tree: Path) -> Path:
    """Lay the package's files out in ``tree``, build it into ``release``, and give its path."""
    wheel = wheel_of(release)
    match = _WHEEL.fullmatch(wheel.name)
    assert match is not None
    place = tree / PLACE
    packages = next((environment / "lib").glob("python3.*"))
    minor = packages.name.removeprefix("python")
    shutil.copytree(
        packages, place / "lib" / packages.name, ignore=shutil.ignore_patterns("__pycache__", "direct_url.json")
    )
    (place / "bin").mkdir()
    (place / "bin" / "python3").symlink_to("/usr/bin/python3")
    settings = f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {minor}\n"
    (place / "pyvenv.cfg").write_text(settings, encoding="utf-8")
    script = f"#!/{PLACE}/bin/python3\nimport sys\n\nfrom supervisor.__main__ import main\n\nsys.exit(main())\n"
    write_program(place / "bin" / "gaoler", script)
    (tree / "usr" / "bin").mkdir(parents=True)
    (tree / "usr" / "bin" / "gaoler").symlink_to(f"/{PLACE}/bin/gaoler")
    (tree / "usr" / "share" / "doc" / "gaoler").mkdir(parents=True)
    shutil.copyfile(ROOT / "LICENSE", tree / "usr" / "share" / "doc" / "gaoler" / "copyright")
    size = sum(path.lstat().st_size for path in tree.rglob("*") if path.is_file()) >> 10
    (tree / "DEBIAN").mkdir()
    next_minor = f"3.{int(minor.partition('.')[2]) + 1}"
    control = _CONTROL.format(version=match["version"], python=minor, next_python=next_minor, size=size)
    (tree / "DEBIAN" / "control").write_text(control, encoding="utf-8")
    write_program(tree / "DEBIAN" / "postinst", _AFTER.format(place=PLACE))
    write_program(tree / "DEBIAN" / "prerm", _BEFORE.format(place=PLACE))
    built = release / f"gaoler_{match['version']}~py{minor}_amd64.deb"
    # Its times are those of the wheel, and nothing is younger.
    shown = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=True)
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or shown.stdout.strip()
    command = ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(tree), str(built)]
    done = {**os.environ, "SOURCE_DATE_EPOCH": epoch}
    subprocess.run(command, env=done, stdout=subprocess.DEVNULL, check=True)
    return built


def write_program(path: Path, text: str) -> None:
    """Write a file that can be run."""
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


if __name__ == "__main__":
    main()

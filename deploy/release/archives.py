"""Make what a release consists of: source archive, wheel, lock file, bills of materials, checksums.

    python deploy/release/archives.py --output dist

Two runs on the same commit give the same bytes, wherever and by whomever: what is built is a copy of the files that
git knows, with modes and times of its own, by the builder of requirements-dev.lock; the source archive is packed again
in an order of its own, and the wheel is built from that. The time is that of the commit, or SOURCE_DATE_EPOCH.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from bills import write_bills_of_images

ROOT: Final = Path(__file__).resolve().parents[2]
LOCKS: Final = {
    "gaoler": "requirements.lock",
    "gaoler-sandbox-python": "supervisor/runtimes/python/packages.lock",
    "gaoler-guest": "supervisor/runtimes/guest/packages.lock",
}
"""What is listed, and where: Gaoler's own environment, an image's Python, a virtual machine's guest."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the archives into a directory, which is emptied first."""
    parser = argparse.ArgumentParser(description="Make the archives of a release.")
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    parser.add_argument("--release", action="store_true", help="refuse what must not be published")
    parser.add_argument("--without-bills", action="store_true", help="archives only")
    given = parser.parse_args(arguments)
    output: Path = given.output.resolve()
    os.umask(0o022)
    wrong = list(not_to_be_published())
    if wrong:
        print("\n".join(f"careful: {each}" for each in wrong), file=sys.stderr)
        if given.release:
            sys.exit(1)
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="gaoler-release-") as scratch:
        environment = {"PATH": os.environ["PATH"], "HOME": scratch, "LC_ALL": "C.UTF-8"}
        environment["SOURCE_DATE_EPOCH"] = str(commit_time())
        build(Path(scratch), output, environment)
        if not given.without_bills:
            write_bills(Path(scratch), output, environment)
            write_bills_of_images(ROOT / "supervisor" / "runtimes", output, version())
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(output.iterdir())]
    (output / "SHA256SUMS").write_text("".join(sums), encoding="ascii")
    for path in sorted(output.iterdir()):
        print(path)


def commit_time() -> int:
    """Give the time that everything in the archives has, in seconds since 1970."""
    return int(os.environ.get("SOURCE_DATE_EPOCH") or _git("log", "-1", "--format=%ct"))


def version() -> str:
    """Read the version from the one place where it is written."""
    text = (ROOT / "supervisor" / "__init__.py").read_text(encoding="utf-8")
    return re.findall(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)[0]


def not_to_be_published() -> Iterator[str]:
    """Say why what would be built is no release."""
    changed = _git("status", "--porcelain")
    if changed:
        yield f"what is built is not what is committed:\n{changed}"
    top = re.findall(r"^## .*$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)[0]
    if not re.fullmatch(rf"## {re.escape(version())} \(\d{{4}}-\d\d-\d\d\)", top):
        yield f"CHANGELOG.md begins with {top!r}: a release has its version and date there"


def build(scratch: Path, output: Path, environment: dict[str, str]) -> None:
    """Build source archive and wheel in ``scratch``, and put them into ``output``, with the lock file beside them.

    Raises:
        subprocess.CalledProcessError: a step failed; it has said why.
    """
    name = f"gaoler-{version()}"
    tree = scratch / "tree"
    _export(tree)
    builder = [sys.executable, "-m", "build", "-q", "--no-isolation"]
    _run([*builder, "--sdist", "-o", scratch / "raw", tree], environment)
    shutil.unpack_archive(scratch / "raw" / f"{name}.tar.gz", scratch / "unpacked")
    source = output / f"{name}.tar.gz"
    pack(scratch / "unpacked" / name, source, int(environment["SOURCE_DATE_EPOCH"]))
    shutil.unpack_archive(source, scratch / "from")
    _run([*builder, "--wheel", "-o", output, scratch / "from" / name], environment)
    shutil.copyfile(ROOT / "requirements.lock", output / f"{name}-requirements.lock")


def write_bills(scratch: Path, output: Path, environment: dict[str, str]) -> None:
    """Write a bill of materials (CycloneDX) of each lock file.

    Raises:
        subprocess.CalledProcessError: a step failed; it has said why.
    """
    # The tool knows no version that is written elsewhere.
    described = scratch / "pyproject.toml"
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    described.write_text(project.replace('dynamic = ["version"]', f'version = "{version()}"'), encoding="utf-8")
    for subject, lock in LOCKS.items():
        bill = output / f"{subject}-{version()}.cdx.json"
        # Validation takes seconds, and the three differ in their names only.
        ours = ["--pyproject", described, "--mc-type", "application", "--validate"]
        of_what = ours if subject == "gaoler" else ["--no-validate"]
        tool = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", ROOT / lock, *of_what]
        _run([*tool, "--output-reproducible", "--of", "JSON", "-o", bill], environment)


def _export(tree: Path) -> None:
    """Copy the files that git knows, as they are now, with the modes that git knows."""
    for line in _git("ls-files", "--stage", "-z").split("\0"):
        mode, name = line.partition(" ")[0], line.partition("\t")[2]
        if not name or not (ROOT / name).exists():
            continue
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if mode == "120000":
            # setuptools follows it: in the archives are the files that it leads to.
            target.symlink_to((ROOT / name).readlink())
            continue
        shutil.copyfile(ROOT / name, target)
        target.chmod(0o755 if mode == "100755" else 0o644)


def pack(tree: Path, target: Path, epoch: int) -> None:
    """Pack a directory: names in order, one time, nobody's ids, so that the bytes depend on the content alone."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = epoch
        member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
        member.pax_headers = {}
        return member

    with (
        target.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=epoch) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in [tree, *sorted(tree.rglob("*"))]:
            archive.add(path, path.relative_to(tree.parent), recursive=False, filter=plain)


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _run(command: Sequence[str | Path], environment: dict[str, str]) -> None:
    subprocess.run([str(each) for each in command], env=environment, check=True)


if __name__ == "__main__":
    main()

"""A release has all that Gaoler needs and nothing else, is the same each time, and says what it is."""

from __future__ import annotations

import email.parser
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

from packaging.metadata import Metadata

from supervisor import __version__
from tests.daemon import ROOT
from tests.release.conftest import BUILDER, build

PACKAGES = ("egress", "http_api", "mcp_server", "policies", "supervisor")


def known_files(*folders: str) -> set[str]:
    """All files of these folders that git knows, also those that a link to a directory leads to."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *folders], cwd=ROOT, capture_output=True, check=True, text=True
    )
    found: set[str] = set()
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        found |= (
            {f"{name}/{each.name}" for each in path.iterdir()} if path.is_dir() else {name} if path.exists() else set()
        )
    return found


def wheel_of(release: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(release / f"gaoler-{__version__}-py3-none-any.whl")


def test_the_wheel_has_every_file_of_our_packages_and_no_other(release: Path) -> None:
    with wheel_of(release) as wheel:
        names = {name for name in wheel.namelist() if not name.startswith(f"gaoler-{__version__}.dist-info/")}
    wanted = known_files(*PACKAGES)
    assert wanted - names == set(), "add them to [tool.setuptools.package-data]"
    assert names - wanted == set()


def test_the_source_archive_has_what_the_wheel_is_built_of_and_no_tests(release: Path) -> None:
    with tarfile.open(release / f"gaoler-{__version__}.tar.gz") as archive:
        members = archive.getmembers()
    names = {member.name.partition("/")[2] for member in members if member.isfile()}
    assert known_files(*PACKAGES) <= names
    assert {"LICENSE", "README.md", "pyproject.toml"} <= names
    assert not [name for name in names if name.startswith(("tests/", "docs/", "deploy/", "benchmarks/"))]
    assert {(member.uid, member.gid, member.uname, member.gname) for member in members} == {(0, 0, "", "")}
    assert {member.mode for member in members} <= {0o644, 0o755}


def test_two_builds_are_the_same_bytes_whoever_makes_them(release: Path, tmp_path: Path) -> None:
    build(tmp_path / "dist", "--without-bills", umask=0o077)
    for name in (f"gaoler-{__version__}.tar.gz", f"gaoler-{__version__}-py3-none-any.whl"):
        assert (tmp_path / "dist" / name).read_bytes() == (release / name).read_bytes(), name


def test_the_checksums_are_those_of_everything_else(release: Path) -> None:
    sums = dict(line.split("  ")[::-1] for line in (release / "SHA256SUMS").read_text().splitlines())
    assert sums == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in release.iterdir()
        if path.name != "SHA256SUMS"
    }


def test_the_metadata_holds(release: Path) -> None:
    with wheel_of(release) as wheel:
        text = wheel.read(f"gaoler-{__version__}.dist-info/METADATA")
    metadata = Metadata.from_email(text, validate=True)
    assert (metadata.name, str(metadata.version), metadata.license_expression) == ("gaoler", __version__, "Apache-2.0")
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    required = email.parser.BytesParser().parsebytes(text).get_all("Requires-Dist") or []
    assert len([each for each in required if "extra ==" not in each]) == len(declared)


def test_the_bill_of_materials_lists_what_is_locked(release: Path) -> None:
    bill = json.loads((release / f"gaoler-{__version__}.cdx.json").read_text())
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "gaoler")
    assert bill["metadata"]["component"]["version"] == __version__
    locked = re.findall(r"^([a-z0-9.-]+)==([^\s;\\]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert {(each["name"].lower().replace("_", "-"), each["version"]) for each in bill["components"]} == set(locked)
    assert all(each["externalReferences"][0]["hashes"] for each in bill["components"])
    for subject in ("gaoler-sandbox-python", "gaoler-guest"):
        assert json.loads((release / f"{subject}-{__version__}.cdx.json").read_text())["components"]


def test_the_version_is_written_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" not in project
    assert project["dynamic"] == ["version"]


def test_the_changelog_begins_with_this_version() -> None:
    heads = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    forms = [re.fullmatch(r"(\d+\.\d+\.\d+) \((unreleased|\d{4}-\d\d-\d\d)\)", head) for head in heads]
    assert all(forms), heads
    versions = [form[1] for form in forms if form]
    assert versions[0] == __version__
    assert versions == sorted(versions, key=lambda each: tuple(map(int, each.split("."))), reverse=True)
    # Only what comes next may be without a date.
    assert [form[1] for form in forms[1:] if form and form[2] == "unreleased"] == []


def test_what_is_no_release_cannot_be_built_as_one(tmp_path: Path) -> None:
    if "(unreleased)" not in (ROOT / "CHANGELOG.md").read_text().split("\n\n")[1]:
        return  # this is a release
    command = [sys.executable, str(BUILDER), "--output", str(tmp_path / "dist"), "--release", "--without-bills"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "a release has its version and date there" in done.stderr
    assert not (tmp_path / "dist").exists()

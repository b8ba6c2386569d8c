"""A release has all that Gaoler needs and nothing else, is the same each time, and says what it is."""

from __future__ import annotations

import base64
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
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
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


def components(release: Path, subject: str) -> dict[str, dict[str, Any]]:
    text = (release / f"{subject}-{__version__}.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    return {each["purl"]: each for each in json.loads(text)["components"]}


def locked_by_npm(*folders: str) -> dict[str, dict[str, Any]]:
    """Every package of the lock files, by the file's own words and read in another way than the release reads them."""
    found = {}
    for folder in folders:
        lock = json.loads((ROOT / "supervisor" / "runtimes" / folder / "package-lock.json").read_text())
        for path, entry in list(lock["packages"].items())[1:]:
            name = entry.get("name", path.split("node_modules/")[-1])
            group, _, plain = name.rpartition("/")
            found[str(PackageURL(type="npm", namespace=group, name=plain, version=entry["version"]))] = entry
    return found


def test_the_bill_of_npm_has_every_package_of_the_lock_files_with_its_hash(release: Path) -> None:
    folders = sorted(f"npm/{each.name}" for each in (ROOT / "supervisor/runtimes/npm").iterdir() if each.is_dir())
    for subject, of in (("gaoler-sandbox-npm", folders), ("gaoler-machine", ["machine"])):
        listed, locked = components(release, subject), locked_by_npm(*of)
        assert set(listed) == set(locked)
        for purl, entry in locked.items():
            (one,) = listed[purl]["hashes"]
            assert one["alg"] == "SHA-512"
            assert base64.b64encode(bytes.fromhex(one["content"])).decode() == entry["integrity"].partition("-")[2]
    canvas = listed_once(components(release, "gaoler-sandbox-npm"), "pkg:npm/%40napi-rs/canvas@")
    assert (canvas["group"], canvas["name"], canvas["scope"]) == ("@napi-rs", "canvas", "required")


def listed_once(listed: dict[str, dict[str, Any]], begin: str) -> dict[str, Any]:
    (one,) = [each for purl, each in listed.items() if purl.startswith(begin)]
    return one


def test_the_bill_of_debian_has_what_the_runtimes_ask_for_and_claims_no_version(release: Path) -> None:
    listed = components(release, "gaoler-sandbox-debian")
    for path in sorted((ROOT / "supervisor/runtimes").glob("[gl]*s/*.toml")):
        kind = path.parent.name.removesuffix("s")
        asked = tomllib.loads(path.read_text()).get("packages", {}).get("debian", [])
        for name in asked:
            whom = [each["value"] for each in listed[f"pkg:deb/debian/{name.replace('+', '%2B')}"]["properties"]]
            assert f"{kind} {path.stem}" in whom
    assert {"pkg:deb/debian/catatonit", "pkg:deb/debian/graphviz", "pkg:deb/debian/g%2B%2B"} <= set(listed)
    assert listed["pkg:deb/debian/catatonit"]["scope"] == "required"
    assert listed["pkg:deb/debian/golang-go"]["scope"] == "optional"
    assert not any("version" in each for each in listed.values())


def test_bills_are_the_same_bytes_each_time(release: Path, tmp_path: Path) -> None:
    command = "import sys; from pathlib import Path; import bills; bills.write_bills_of_images(*map(Path, sys.argv[1:3]), sys.argv[3])"
    subprocess.run(
        [sys.executable, "-c", command, ROOT / "supervisor" / "runtimes", tmp_path, __version__],
        env={"PYTHONPATH": f"{BUILDER.parent}:{ROOT}", "PYTHONHASHSEED": "7"},
        check=True,
    )
    made = sorted(tmp_path.iterdir())
    assert len(made) == 3
    for path in made:
        assert path.read_bytes() == (release / path.name).read_bytes(), path.name


def test_a_lock_file_without_a_hash_makes_no_bill(tmp_path: Path) -> None:
    (tmp_path / "npm" / "one").mkdir(parents=True)
    lock = {"lockfileVersion": 3, "packages": {"": {}, "node_modules/a": {"version": "1.0.0"}}}
    (tmp_path / "npm" / "one" / "package-lock.json").write_text(json.dumps(lock))
    command = "import sys; from pathlib import Path; import bills; bills.write_bills_of_images(*map(Path, sys.argv[1:3]), '1')"
    done = subprocess.run(
        [sys.executable, "-c", command, tmp_path, tmp_path],
        env={"PYTHONPATH": f"{BUILDER.parent}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "node_modules/a: a version and its hash (integrity) are needed" in done.stderr


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

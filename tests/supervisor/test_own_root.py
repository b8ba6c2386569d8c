"""Images with a root of their own: where it comes from, what is kept of it, and what fits on it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from supervisor.errors import ConfigurationError
from supervisor.image import Image, ImageError, current_image
from supervisor.image.apt_sources import Known, as_text, choose, parse, read_apt
from supervisor.image.fit import check_python, find_init, refuse_hosts_files
from supervisor.image.own_root import build_root, clean_etc, clean_usr, forget_downloads, identity, suite_of_host
from supervisor.image.progress import ConsoleProgress
from supervisor.image.steps import run_program
from supervisor.policy import Policy, load_policies
from supervisor.settings.tree import Settings
from tests.daemon import eventually

# -- where packages come from --

ONE_LINE = """
# deb http://mirror.test/commented bookworm main
deb http://mirror.test/debian bookworm main contrib # a comment
deb-src http://mirror.test/debian bookworm main
deb [arch=amd64,arm64 signed-by=/usr/share/keyrings/debian.gpg] http://mirror.test/debian bookworm-updates main
deb cdrom:[Debian_12]/ bookworm main
deb http://elsewhere.test/apt stable main
"""

DEB822 = """
# A comment
Types: deb deb-src
URIs: http://mirror.test/debian http://second.test/debian/
Suites: bookworm bookworm-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF

Enabled: no
Types: deb
URIs: http://off.test/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://third.test/packages
Suites: bookworm
Components: main
"""


def test_both_styles_of_sources_are_read() -> None:
    found = parse(".list", ONE_LINE)
    assert [(each["uris"], each["suites"], each["components"]) for each in found] == [
        ("http://mirror.test/debian", "bookworm", "main contrib"),
        ("http://mirror.test/debian", "bookworm-updates", "main"),
        ("cdrom:[Debian_12]/", "bookworm", "main"),
        ("http://elsewhere.test/apt", "stable", "main"),
    ]
    assert found[1]["architectures"] == "amd64 arm64"
    assert found[1]["signed-by"] == "/usr/share/keyrings/debian.gpg"
    assert [each["uris"].split()[0] for each in parse(".sources", DEB822)] == [
        "http://mirror.test/debian",
        "http://third.test/packages",
    ]


def test_what_is_chosen_is_the_distributions_own() -> None:
    known = {("http://third.test/packages", "bookworm"): Known("bookworm", "A Third Party")}
    found = choose(parse(".sources", DEB822), "bookworm", "bookworm", known, ["debian"])
    assert [(each["uris"], each["suites"]) for each in found] == [
        ("http://mirror.test/debian", "bookworm bookworm-updates"),
        ("http://second.test/debian/", "bookworm bookworm-updates"),
    ]


def test_another_release_is_had_from_the_same_places() -> None:
    found = choose(parse(".list", ONE_LINE), "bookworm", "trixie", {}, ["debian"])
    assert [each["suites"] for each in found] == ["trixie", "trixie-updates"]


def test_a_source_that_is_called_stable_is_taken_by_the_codename_that_apt_has_read() -> None:
    known = {("http://elsewhere.test/apt", "stable"): Known("bookworm", "Debian")}
    found = choose(parse(".list", ONE_LINE), "bookworm", "bookworm", known, ["debian"])
    assert [each["suites"] for each in found] == ["bookworm", "bookworm-updates", "bookworm"]
    assert choose(parse(".list", ONE_LINE), "", "trixie", known, ["debian"]) == []


def test_an_entry_is_written_with_its_key() -> None:
    (entry, _) = choose(parse(".sources", DEB822)[:1], "bookworm", "bookworm", {}, ["debian"])
    text = as_text(entry)
    assert text.startswith("Types: deb\nURIs: http://mirror.test/debian\nSuites: bookworm bookworm-updates\n")
    assert "Signed-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n" in text


def apt_that_says(directory: Path) -> Callable[[Sequence[str], Callable[[str], None]], None]:
    """An apt whose configuration is in ``directory``."""

    def run(arguments: Sequence[str], on_line: Callable[[str], None]) -> None:
        answers = {
            "shell": [f"LIST='{directory}/sources.list'", f"PARTS='{directory}/parts/'", "NETRC='/etc/apt/auth.conf'"],
            "dump": [
                'Acquire::http::Proxy "http://proxy.test:3128";',
                'Acquire::IndexTargets::deb "";',
                "W: a warning of apt's",
            ],
            "indextargets": ["gaoler-source|http://mirror.test/debian/|bookworm|bookworm|Debian"],
        }
        for line in answers[arguments[1]]:
            on_line(f"{line}\n")

    return run


def test_what_the_hosts_apt_says_is_handed_on(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "one.list").write_text(ONE_LINE)
    (tmp_path / "parts" / "two.sources.disabled").write_text(DEB822)
    host = {"ID": "debian", "VERSION_CODENAME": "bookworm"}
    found = read_apt("bookworm", host, apt_that_says(tmp_path))
    assert found.sources.count("URIs: http://mirror.test/debian\n") == 2
    assert found.options.splitlines() == [
        'Acquire::http::Proxy "http://proxy.test:3128";',
        'Dir::Etc::netrc "/etc/apt/auth.conf";',
        'Dir::Etc::netrcparts "/nonexistent";',
    ]
    with pytest.raises(ImageError, match="name nothing of forky for forky"):
        read_apt("forky", {"ID": "debian", "VERSION_CODENAME": "forky"}, apt_that_says(tmp_path))


# -- what is kept --


def test_nothing_of_etc_is_kept_that_tells_of_the_host_or_is_not_for_everybody(tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    for name in (
        "apt/apt.conf.d/proxy",
        "hostname",
        "resolv.conf",
        "machine-id",
        "shadow",
        "ssl/private/key",
        "php/ini",
    ):
        (etc / name).parent.mkdir(parents=True, exist_ok=True)
        (etc / name).write_text("x")
    (etc / "shadow").chmod(0o640)
    (etc / "ssl" / "private").chmod(0o700)
    (etc / "localtime").symlink_to("/usr/share/zoneinfo/UTC")
    os.mkfifo(etc / "pipe")
    clean_etc(etc)
    assert sorted(str(path.relative_to(etc)) for path in etc.rglob("*")) == ["localtime", "php", "php/ini", "ssl"]


def test_of_usr_nothing_is_kept_that_no_program_reads_but_licences(tmp_path: Path) -> None:
    kept = ("bin/true", "share/doc/bash/copyright", "share/zoneinfo/UTC")
    for name in (
        *kept,
        "share/doc/bash/README",
        "share/man/man1/true.1",
        "local/bin/x",
        "share/locale/de/LC_MESSAGES/a",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    clean_usr(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)
    assert list((tmp_path / "local").iterdir()) == []


def test_downloads_of_earlier_versions_are_forgotten(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Package: bash\nStatus: install ok installed\nVersion: 1:5.2\n\nPackage: gone\nVersion: 1\n")
    for name in ("bash_1%3a5.2_amd64.deb", "bash_1%3a5.1_amd64.deb", "gone_1_all.deb", "lock"):
        (tmp_path / name).touch()
    forget_downloads(tmp_path, status)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bash_1%3a5.2_amd64.deb", "lock", "status"]


def test_a_host_without_apt_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageError, match="--base host"):
        build_root(tmp_path / "root", [], ConsoleProgress(), run_program, suite="trixie")
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("suite", ["Trixie", "../x", "a b", "-x", "x\ny"])
def test_a_suite_is_a_name(tmp_path: Path, suite: str) -> None:
    with pytest.raises(ImageError, match="no name of a release"):
        build_root(tmp_path, [], ConsoleProgress(), run_program, suite=suite)


def test_what_decides_a_root_is_its_identity() -> None:
    assert identity(["b", "a"], "trixie") == identity(["a", "b", "a"], "trixie")
    assert identity(["a"], "trixie") != identity(["a", "b"], "trixie")
    assert identity(["a"], "trixie") != identity(["a"], "forky")


# -- what fits --


def own(image_dir: Path, path: Path) -> Image:
    """The current image as if it had a root of its own at ``path``."""
    current = current_image(image_dir)
    assert current is not None
    return replace(current, path=path, manifest=msgspec.structs.replace(current.manifest, base="own", suite="trixie"))


def with_python(path: Path, name: str) -> None:
    bin_directory = path / "root" / "usr" / "bin"
    bin_directory.mkdir(parents=True)
    (bin_directory / name).touch()
    (bin_directory / "python3").symlink_to(name)


def test_packages_for_another_python_are_refused(image_dir: Path, tmp_path: Path) -> None:
    image = own(image_dir, tmp_path)
    with_python(tmp_path, "python3.99")
    with pytest.raises(ConfigurationError, match=r"for Python 3\.\d+, but its own root has Python 3\.99"):
        check_python(image)
    (tmp_path / "root/usr/bin/python3").unlink()
    with pytest.raises(ConfigurationError, match=r"does not lead to a python3\.N"):
        check_python(image)
    (tmp_path / "root/usr/bin/python3").symlink_to(f"python{image.manifest.python}")
    check_python(image)


def test_the_init_of_jails_has_to_be_in_the_images_own_root(image_dir: Path, tmp_path: Path) -> None:
    image = own(image_dir, tmp_path)
    with pytest.raises(ConfigurationError, match="/usr/bin/catatonit is missing: run 'gaoler image build'"):
        find_init(Settings(), image)
    (tmp_path / "root/usr/bin").mkdir(parents=True)
    (tmp_path / "root/usr/bin/catatonit").touch()
    assert find_init(Settings(), image) == Path("/usr/bin/catatonit")


def test_a_policy_that_shows_files_of_the_host_is_refused_on_an_own_root(image_dir: Path, tmp_path: Path) -> None:
    policies = dict(load_policies())
    refuse_hosts_files(own(image_dir, tmp_path), policies)
    policies["mine"] = with_hosts_usr(policies["default"], "mine")
    with pytest.raises(ConfigurationError, match=r'policy mine mounts /usr of the host at /usr.*write source = "@usr"'):
        refuse_hosts_files(own(image_dir, tmp_path), policies)
    of_host = current_image(image_dir)
    assert of_host is not None
    refuse_hosts_files(of_host, policies)


def with_hosts_usr(policy: Policy, name: str) -> Policy:
    mounts = [
        msgspec.structs.replace(entry, source="/usr") if entry.source == "@usr" else entry
        for entry in policy.mounts.mount
    ]
    return msgspec.structs.replace(policy, name=name, mounts=msgspec.structs.replace(policy.mounts, mount=mounts))


# -- a real one --


@pytest.mark.root
def test_a_root_has_no_rights_and_no_special_files_in_it(own_dir: Path) -> None:
    root = own_dir / "current" / "root"
    assert {path.name for path in root.iterdir()} == {"usr", "etc", "var"}
    assert [path for path in (root / "var").rglob("*") if path.is_file()] == [root / "var/lib/dpkg/status"]
    for directory, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(directory, name)
            status = path.lstat()
            assert path.is_symlink() or path.is_dir() or path.is_file(), path
            assert path.is_symlink() or not status.st_mode & 0o7022, path
            assert (status.st_uid, status.st_gid) == (0, 0), path
            assert os.listxattr(path, follow_symlinks=False) == [], path


BUILD = """
import sys
from pathlib import Path
from supervisor.image.own_root import build_root
from supervisor.image.steps import run_program
from supervisor.image.progress import ConsoleProgress

def run(arguments, on_line):
    def tell(line):
        print(line, end="", flush=True)
        on_line(line)
    run_program(arguments, tell)

build_root(Path(sys.argv[1]), ["python3"], ConsoleProgress(), run, debs=Path(sys.argv[2]))
"""


@pytest.mark.root
def test_a_build_uses_kept_downloads_and_leaves_no_mount_and_no_process_when_it_is_killed(
    own_dir: Path, tmp_path: Path
) -> None:
    debs = tmp_path / "debs"
    debs.mkdir()
    for path in (own_dir / "debs").glob("*.deb"):
        (debs / path.name).hardlink_to(path)
    command = [sys.executable, "-c", BUILD, str(tmp_path / "root"), str(debs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as building:
        assert building.stdout is not None
        lines = list(until(building.stdout, "I: extracting archives"))
        assert processes_with(str(tmp_path))
        building.send_signal(signal.SIGKILL)
    assert not [line for line in lines if line.startswith("Get:") and " bash " in line]
    eventually(lambda: not processes_with(str(tmp_path)))
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert {path.name for path in debs.glob("*.deb")} >= {path.name for path in (own_dir / "debs").glob("bash_*.deb")}


def until(lines: Any, beginning: str) -> Iterator[str]:
    for line in lines:
        yield line
        if line.startswith(beginning):
            return
    raise AssertionError(f"nothing began with {beginning!r}")


def processes_with(word: str) -> list[int]:
    """Those that have it in their command line."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                arguments = (entry / "cmdline").read_bytes().decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if word in arguments:
                found.append(int(entry.name))
    return found


def test_this_host_names_its_release() -> None:
    assert suite_of_host().isalnum()

"""Images with a root of their own: how it is made, and that sandboxes on it see it and nothing of the host's."""

from __future__ import annotations

import json
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
import trio

from supervisor.attack.case import Broken, Case
from supervisor.attack.cases import image as own_cases
from supervisor.attack.programs import program_cases
from supervisor.doctor import examine
from supervisor.errors import ConfigurationError
from supervisor.image import Image, ImageError, current_image
from supervisor.image.apt_sources import Known, as_text, choose, parse, read_apt
from supervisor.image.fit import check_python, find_init, refuse_hosts_files
from supervisor.image.own_root import build_root, clean_etc, clean_usr, forget_downloads, identity, suite_of_host
from supervisor.image.steps import run_program
from supervisor.policy import Policy, load_policies
from supervisor.progress import ConsoleProgress
from supervisor.settings import Settings, load
from tests.containment.test_attack import run_at_twin
from tests.containment.test_claims import target_of
from tests.contracts.test_join_equality import PROBE, WHAT
from tests.daemon import Daemon, daemon_with, eventually
from tests.own_root import MARK, own_image

FS_CASES = [case for case in program_cases() if case.id.startswith("FS-") and case.place == "daemon"]

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


@pytest.fixture(scope="session")
def own_dir(image_dir: Path) -> Path:
    return own_image(image_dir)


@pytest.fixture(scope="module")
def on_own(own_dir: Path) -> Iterator[Daemon]:
    """A daemon whose sandboxes stand on a root of the image's own."""
    with daemon_with(own_dir, {}) as running:
        yield running


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


@pytest.mark.root
def test_python_runs_with_the_images_interpreter_libraries_and_packages(on_own: Daemon) -> None:
    code = """
import json, numpy, os, sys
mapped = [line.split() for line in open("/proc/self/maps")]
files = {each[5]: int(each[4]) for each in mapped if len(each) > 5 and each[5].startswith("/")}
strange = [path for path, inode in files.items() if not os.path.exists(path) or os.stat(path).st_ino != inode]
print(json.dumps([numpy.__file__, sys.executable, sorted(files), strange]))
"""
    numpy, executable, mapped, strange = json.loads(on_own.execute(code)["stdout"])
    assert numpy.startswith("/usr/local/lib/python3.")
    assert executable == "/usr/bin/python3"
    assert any("libc.so" in path for path in mapped)
    # What the interpreter was forked from has mapped is what a sandbox has at the same place.
    assert strange == []


@pytest.mark.root
def test_bash_and_a_language_of_the_root_run(on_own: Daemon) -> None:
    assert on_own.execute("echo $((6 * 7)); cat < /code/main.sh | wc -l", "bash")["stdout"].split()[0] == "42"
    assert on_own.execute("<?php echo strtoupper('php');", "php")["stdout"] == "PHP"


@pytest.mark.root
def test_usr_is_the_images_and_not_the_hosts(on_own: Daemon, own_dir: Path) -> None:
    inside = set(on_own.execute("cd /usr/bin; printf '%s\\n' *", "bash")["stdout"].split("\n")[:-1])
    assert inside == {path.name for path in (own_dir / "current/root/usr/bin").iterdir()}
    hosts = {path.name for path in Path("/usr/bin").iterdir()}
    assert "mmdebstrap" in hosts - inside
    assert on_own.execute(f"cat /usr/{MARK}", "bash")["stdout"] == "of the image\n"
    assert not Path("/usr", MARK).exists()


@pytest.mark.root
def test_etc_is_the_images_but_for_what_is_the_hosts_to_say(on_own: Daemon, own_dir: Path) -> None:
    code = "import os; print(os.readlink('/etc/localtime')); print(os.listdir('/etc/php'))"
    linked, php = on_own.execute(code)["stdout"].splitlines()
    assert linked == str(Path("/etc/localtime").readlink())
    assert php == str([path.name for path in (own_dir / "current/root/etc/php").iterdir()])
    trusted = on_own.execute("import ssl; print(len(ssl.create_default_context().get_ca_certs()) > 50)")
    assert trusted["stdout"] == "True\n"
    same = on_own.execute("sha256sum < /etc/ld.so.cache", "bash")["stdout"].split()[0]
    cache = own_dir / "current/root/etc/ld.so.cache"
    assert same == subprocess.run(["sha256sum", cache], capture_output=True, text=True, check=True).stdout.split()[0]


@pytest.mark.root
@pytest.mark.parametrize("case", FS_CASES, ids=[f"{case.id} {case.name}" for case in FS_CASES])
def test_hostile_programs_are_contained_on_an_own_root_too(on_own: Daemon, case: Case) -> None:
    trio.run(case.attack, target_of(on_own))


@pytest.mark.root
@pytest.mark.parametrize("how", ["forked", "executed"])
def test_what_joins_a_jail_equals_nsjails_own_child_on_an_own_root_too(on_own: Daemon, how: str) -> None:
    if how == "forked":
        result = on_own.execute(PROBE)
    else:
        result = on_own.execute(f"exec python3 -c '{PROBE.replace(chr(39), chr(34))}'", "bash")
    assert result["code"] == 0, result["stderr"]
    init, joined = json.loads(result["stdout"])
    init["status"]["Seccomp_filters"] = str(int(init["status"]["Seccomp_filters"]) + 1)
    assert {name: joined[name] for name in WHAT} == {name: init[name] for name in WHAT}


@pytest.mark.root
def test_the_attack_finds_nothing_of_the_host_on_an_own_root(own_dir: Path) -> None:
    run = run_at_twin(own_dir, own_cases.COLLECTION.cases)
    assert [(each.case.id, each.detail) for each in run.of("broken")] == []
    assert [each.case.id for each in run.of("held")][:1] == ["FS-OWN"]


@pytest.mark.root
def test_the_attack_notices_the_hosts_files_where_they_are(daemon: Daemon, own_dir: Path) -> None:
    """The same attack at sandboxes on the host's /usr, told that they are on a root of their own."""
    target = replace(target_of(daemon), settings=settings_with(own_dir))
    with pytest.raises(Broken, match=r"of the host is seen: /bin, .*/lib64, "):
        trio.run(own_cases.COLLECTION.cases[0].attack, target)


def settings_with(image_dir: Path) -> Settings:
    return load(file=None, environment={"GAOLER_IMAGE_DIR": str(image_dir)}, flags={}).settings


@pytest.mark.root
@pytest.mark.parametrize(("which", "words"), [("own_dir", "a root of its own"), ("image_dir", "the host's /usr")])
def test_doctor_says_what_an_image_stands_on(request: pytest.FixtureRequest, which: str, words: str) -> None:
    found = examine(settings_with(request.getfixturevalue(which)))
    assert words in next(each.found for each in found if each.name == "runtime image")


# -- a build that is killed --

BUILD = """
import sys
from pathlib import Path
from supervisor.image.own_root import build_root
from supervisor.image.steps import run_program
from supervisor.progress import ConsoleProgress

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

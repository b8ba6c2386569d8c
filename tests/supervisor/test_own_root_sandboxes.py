"""Sandboxes on a root of the image's own: they see it, and nothing of the host's."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from supervisor.attack.case import Broken, Case
from supervisor.attack.cases import image as own_cases
from supervisor.attack.programs import program_cases
from supervisor.doctor.host import examine
from supervisor.settings.loading import load
from supervisor.settings.tree import Settings
from tests.containment.test_attack import run_at_twin
from tests.containment.test_claims import target_of
from tests.contracts.test_join_equality import PROBE, WHAT
from tests.daemon import Daemon, daemon_with
from tests.own_root import MARK

FILE_CASES = [case for case in program_cases() if case.id.startswith(("FS-", "K12")) and case.place == "daemon"]


@pytest.fixture(scope="module")
def on_own(own_dir: Path) -> Iterator[Daemon]:
    """A daemon whose sandboxes stand on a root of the image's own."""
    with daemon_with(own_dir, {}) as running:
        yield running


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
@pytest.mark.parametrize("case", FILE_CASES, ids=[f"{case.id} {case.name}" for case in FILE_CASES])
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

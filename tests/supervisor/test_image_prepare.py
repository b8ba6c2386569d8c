"""What languages and groups prepare: in a world of its own, from which only the new layer comes out."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from supervisor.attack.building import TRIED, try_in_build
from supervisor.image import ImageError, current_image
from supervisor.image.build import build_image
from supervisor.image.manifest import Selection
from supervisor.runtimes.catalogue import Group, Packages, Smoke
from tests.supervisor.images import Programs, Quiet, Sandboxes, npm_folder, plan, tiny

pytestmark = pytest.mark.root

WORLD = """
mkdir -p /usr/local/seen
cd /usr/local/seen
env > environment
ls / > top
ls -A /tmp > tmp
ls /usr/local > local
cat /proc/net/dev > interfaces
grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status > rights
ls -d /proc/[0-9]* | wc -l > processes
for place in /usr/bin/new /etc/new /new /usr/local/../new; do echo x > $place && echo $place; done 2> errors > written || true
echo x > /dev/null
mount -t tmpfs none /tmp 2>> errors && echo mounted >> written || true
"""


def test_it_sees_what_a_sandbox_will_see_and_can_write_only_its_own(tmp_path: Path) -> None:
    built = build_image(plan(tmp_path / "w", tiny(WORLD)), Quiet(), run=Programs())
    seen = {path.name: path.read_text() for path in (built.local / "seen").iterdir()}
    assert "TINY=yes" in seen["environment"].split("\n")
    assert "HOME=/tmp" in seen["environment"].split("\n")
    assert not {line.partition("=")[0] for line in seen["environment"].splitlines()} & {
        "SHELL",
        "LOGNAME",
        "VIRTUAL_ENV",
    }
    assert set(seen["top"].split()) - {"lib32", "libx32"} == {
        "bin",
        "dev",
        "etc",
        "host",
        "lib",
        "lib64",
        "proc",
        "sbin",
        "tmp",
        "usr",
    }
    assert seen["tmp"] == ""
    assert seen["local"].split() == ["seen"]
    assert re.findall(r"^ *(\w+):", seen["interfaces"], re.MULTILINE) == ["lo"]
    assert re.findall(r"\t(\w+)", seen["rights"]) == ["0" * 16, "0" * 16, "1", "2"]
    assert int(seen["processes"]) < 6
    assert seen["written"] == ""
    assert seen["errors"].count("Read-only file system") == 4


SECRETS = """
mkdir /usr/local/seen
cd /usr/local/seen
tried() { for place in /etc/shadow /etc/gshadow; do cat $place; done }
tried > read 2> unread || true
find /proc/sys /proc/*/oom_score_adj -type f -perm -200 > settings 2> unread || true
: > opened
while read -r place; do (: >> "$place") 2>> refused && echo "$place" >> opened || true; done < settings
unshare --user --map-root-user --mount --pid --fork sh -c \
    'mount -o remount,rw /proc; mount -t proc proc /proc; : >> /proc/sys/kernel/core_pattern && echo nested' \
    >> opened 2>> refused || true
ls /etc > etc
"""


def test_it_is_roots_user_and_gets_neither_secrets_nor_settings_of_the_host(tmp_path: Path) -> None:
    built = build_image(plan(tmp_path / "w", tiny(SECRETS)), Quiet(), run=Programs())
    seen = {path.name: path.read_text() for path in (built.local / "seen").iterdir()}
    assert seen["read"] == ""
    assert "/proc/sys/kernel/core_pattern" in seen["settings"].splitlines()
    assert seen["opened"] == ""
    assert {"passwd", "alternatives"} <= set(seen["etc"].split())


@pytest.mark.parametrize("program", TRIED)
def test_hostile_programs_get_no_further_in_it_than_in_a_sandbox(program: str) -> None:
    assert try_in_build(program) == ""


def test_a_hostile_program_that_does_not_come_to_its_end_is_no_good_sign() -> None:
    # It wants a file of a sandbox's that no build has.
    assert try_in_build("k12_setuid") != ""
    assert "ESCAPED" in try_in_build("k12_every_setuid")


def test_it_cannot_reach_a_server_of_the_host(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        script = f"bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}' 2> /usr/local/refused || echo no > /usr/local/answer"
        built = build_image(plan(tmp_path / "w", tiny(script)), Quiet(), run=Programs())
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert (built.local / "answer").read_text() == "no\n"


def test_files_can_be_read_by_everybody_and_written_by_nobody(tmp_path: Path) -> None:
    script = """cd /usr/local
    umask 077; mkdir deep; echo 1 > deep/secret; chmod 4777 deep/secret; echo 2 > deep/open; chmod 666 deep/open
    ln -s deep/open link"""
    built = build_image(plan(tmp_path / "w", tiny(script)), Quiet(), run=Programs())
    modes = {name: (built.local / name).stat().st_mode & 0o7777 for name in ("deep", "deep/secret", "deep/open")}
    assert modes == {"deep": 0o755, "deep/secret": 0o755, "deep/open": 0o644}
    assert (built.local / "link").readlink() == Path("deep/open")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo last words; exit 3", r"(?s)language tiny: .*status 3.*last words"),
        ("echo $NOT_SET", "language tiny"),
        ("mkfifo /usr/local/pipe", "neither a file nor a directory nor a link"),
        ("sh -c 'kill -9 $$'", "status 137"),
    ],
)
def test_a_failure_is_told_with_its_end_and_changes_nothing(tmp_path: Path, script: str, said: str) -> None:
    work = plan(tmp_path / "w", tiny(), names=["tiny"])
    before = build_image(work, Quiet(), run=Programs())
    with pytest.raises(ImageError, match=said):
        build_image(plan(tmp_path / "w", tiny(script), names=["tiny"]), Quiet(), run=Programs())
    assert current_image(work.directory) == before


def test_a_language_of_the_hosts_that_nobody_has_chosen_may_fail(tmp_path: Path) -> None:
    built = build_image(plan(tmp_path / "w", tiny("echo 1 > /usr/local/half; exit 1")), Quiet(), run=Programs())
    assert not (built.local / "half").exists()
    assert [name for name in built.manifest.layers if "tiny" in name] == []
    assert [path.name for path in (built.path.parent / "layers").iterdir() if "tiny" in path.name] == []


def test_what_it_starts_ends_with_it(tmp_path: Path) -> None:
    script = "sleep 1000 & echo $! > /usr/local/child; readlink /proc/self/ns/pid > /usr/local/namespace"
    built = build_image(plan(tmp_path / "w", tiny(script)), Quiet(), run=Programs())
    namespace = (built.local / "namespace").read_text().strip()
    left = [each for each in os.listdir("/proc") if each.isdecimal() and namespace == _namespace_of(each)]
    assert left == []
    assert not list(tmp_path.rglob("*.work"))
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def _namespace_of(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def test_a_layer_that_changes_one_below_is_refused(tmp_path: Path) -> None:
    work = plan(tmp_path / "w", names=["tiny"])
    npm_folder(work, "tools", left="1.0.0")
    package = "/usr/local/lib/npm/tools/node_modules/left"
    for script, said in (
        (f"echo changed >> {package}/program", "npm-tools and language-tiny"),
        (f"rm {package}/program", "neither"),
    ):
        with pytest.raises(ImageError, match=said):
            build_image(replace(work, languages=(*work.languages, tiny(script, ["tools"]))), Quiet(), run=Programs())
    layer = next((work.directory / "layers").glob("npm-tools-*"))
    assert "changed" not in (layer / "local" / "lib/npm/tools/node_modules/left/program").read_text()


def test_a_group_prepares_and_is_tried_and_told_of(tmp_path: Path) -> None:
    group = Group(
        "extras",
        "Extras",
        Packages(),
        Smoke("cat /usr/local/extra", "more\n"),
        ["extra"],
        "echo more > /usr/local/extra",
    )
    work = replace(plan(tmp_path / "w"), groups=(group,), selection=Selection(groups=["extras"]))
    trial = Sandboxes()
    built = build_image(work, Quiet(), run=Programs(), trial=trial)
    assert (built.local / "extra").read_text() == "more\n"
    assert (built.manifest.groups["extras"].title, built.manifest.groups["extras"].programs) == ("Extras", ["extra"])
    assert trial.tried[-1] == "extras"
    with pytest.raises(ImageError, match="group extras: its smoke test"):
        build_image(replace(work, fresh=True), Quiet(), run=Programs(), trial=Sandboxes("extras"))

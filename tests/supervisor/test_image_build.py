"""Building runtime images: layers, resuming, the switch. What needs the network or minutes is played."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from supervisor.errors import ConfigurationError
from supervisor.image import ImageError, blueprint, current_image, durable, hold
from supervisor.image.build import build_image
from supervisor.image.durable import flush
from supervisor.image.layers import remove_layers
from supervisor.image.manifest import Selection
from supervisor.image.plan import SANDBOX_FILES, ImagePlan
from supervisor.image.steps import run_program
from supervisor.image.store import locked, remove_unused
from tests.daemon import Daemon
from tests.supervisor.images import Programs, Quiet, Sandboxes, asking, npm_folder, plan, tiny

ROOT = Path(__file__).resolve().parents[2]


def test_a_build_that_was_interrupted_goes_on_and_an_unchanged_one_runs_nothing(tmp_path: Path) -> None:
    work = plan(tmp_path / "w")
    with pytest.raises(KeyboardInterrupt):
        build_image(work, Quiet(), run=Programs(interrupt_at="install"))
    assert current_image(work.directory) is None
    second = Programs()
    built = build_image(work, Quiet(), run=second)
    assert not second.having("--clear")  # pip was there already
    assert current_image(work.directory) == built
    assert built.manifest.languages["python"].packages == {"tiny": "1.0"}
    assert (built.local / "bin" / "tiny").read_text().startswith("#!/usr/bin/python3\n")
    assert (built.local.stat().st_mode & 0o777) == 0o755
    third = Programs()
    assert build_image(work, Quiet(), run=third) == built
    assert third.calls == []
    work.requirements.write_text("tiny==2.0 --hash=sha256:00\n")
    changed = build_image(work, Quiet(), run=Programs())
    assert changed.path != built.path
    assert current_image(work.directory) == changed


def test_what_is_missing_on_the_host_is_installed_by_who_holds_the_lock(tmp_path: Path) -> None:
    work = replace(plan(tmp_path / "w"), debian_packages=("no-such-package-of-debian",))
    played, installed = Programs(), []

    def run(arguments: Sequence[str], on_line: Callable[[str], None]) -> None:
        if arguments[0] != "apt-get":
            played(arguments, on_line)
            return
        with pytest.raises(ImageError, match="another 'gaoler image' works in"), locked(work.directory):
            pass
        installed.append(arguments[-1])

    with locked(work.directory), pytest.raises(ImageError, match="another 'gaoler image' works in"):
        build_image(work, Quiet(), run=run)
    assert installed == []
    built = build_image(work, Quiet(), run=run)
    assert installed == ["update", "no-such-package-of-debian"]
    # Played, it is missing still; what it was wanted for is as it was.
    before = len(played.calls)
    assert build_image(work, Quiet(), run=run) == built
    assert len(played.calls) == before


def test_what_gets_its_final_name_is_on_the_disk_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[tuple[str, set[str], bool]] = []

    def note(tree: Path) -> None:
        final = tree.with_name(tree.name.removesuffix(".building"))
        flushed.append(
            (tree.name.partition("-")[0], {path.name for path in tree.iterdir()}, final != tree and final.exists())
        )
        flush(tree)

    monkeypatch.setattr(durable, "flush", note)
    build_image(plan(tmp_path / "w"), Quiet(), run=Programs())
    layer = {"local", "files.json"}
    assert flushed == [
        ("python", layer, False),
        ("fonts", layer, False),
        ("building", {*layer, "manifest.json"}, False),
    ]


def test_what_cannot_be_kept_gets_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class BadDisk:
        def syncfs(self, fd: int) -> int:
            ctypes.set_errno(errno.EIO)
            return -1

    work = plan(tmp_path / "w")
    monkeypatch.setattr(durable, "_libc", BadDisk())
    with pytest.raises(OSError, match="Input/output error"):
        build_image(work, Quiet(), run=Programs())
    assert [path.name for path in (work.directory / "layers").iterdir() if not path.name.endswith(".building")] == []


@pytest.mark.root
def test_finished_layers_are_not_made_again(tmp_path: Path) -> None:
    work = plan(tmp_path / "w", tiny("echo ready > /usr/local/ready"))
    with pytest.raises(KeyboardInterrupt):
        build_image(work, Quiet(), run=Programs(interrupt_at="ready"))
    second = Programs()
    built = build_image(work, Quiet(), run=second)
    assert not second.having("pip")
    assert (built.local / "ready").read_text() == "ready\n"
    # Another text is another layer; that of before goes with the image of before.
    changed = plan(tmp_path / "w", tiny("echo steady > /usr/local/ready"))
    third = Programs()
    rebuilt = build_image(changed, Quiet(), run=third)
    assert not third.having("pip")
    assert (rebuilt.local / "ready").read_text() == "steady\n"
    assert not built.path.exists()
    assert sorted(path.name for path in (work.directory / "layers").iterdir()) == sorted(rebuilt.manifest.layers)
    fresh = Programs()
    assert build_image(replace(changed, fresh=True), Quiet(), run=fresh).manifest.content == rebuilt.manifest.content
    assert fresh.having("pip")
    assert current_image(work.directory) is not None


def test_an_image_is_named_after_its_files_and_not_after_what_was_asked_for(tmp_path: Path) -> None:
    first = build_image(plan(tmp_path / "one", tiny()), Quiet(), run=Programs())
    other = build_image(plan(tmp_path / "other", tiny()), Quiet(), run=Programs())
    assert first.path.name == other.path.name == first.manifest.content[:16]
    held = hold(first)
    assert held is not None
    again = build_image(plan(tmp_path / "one", tiny(), names=["tiny"]), Quiet(), run=Programs())
    assert again.path == first.path
    assert again.manifest.selection.languages == ["tiny"]
    # Whoever holds the image of before keeps it, under another name.
    kept = [path for path in again.path.parent.iterdir() if path.name.startswith(f"{again.path.name}.")]
    assert len(kept) == 1
    os.close(held)
    assert remove_unused(again.path.parent) == [kept[0].name]
    assert current_image(again.path.parent) == again


def test_two_layers_with_the_same_file_are_refused_by_name(tmp_path: Path) -> None:
    work = plan(tmp_path / "w", names=["tiny"])
    npm_folder(work, "one", 'both = ["left/program"]', left="1.0.0")
    npm_folder(work, "two", 'both = ["right/program"]', right="1.0.0")
    work = replace(work, languages=(*work.languages, tiny(npm=["one", "two"])))
    with pytest.raises(ImageError, match=r"local/bin/both \(in npm-one and npm-two\)"):
        build_image(work, Quiet(), run=Programs())
    assert current_image(work.directory) is None


@pytest.mark.root
def test_a_language_of_npm_has_its_program_and_packages_and_prepares_with_them(tmp_path: Path) -> None:
    work = plan(tmp_path / "w", names=["ty"])
    npm_folder(work, "tools", 'tinyc = ["nothing/here", "left/program"]', left="1.0.0", **{"@a/b": "2.0.0"})
    work = replace(work, languages=(*work.languages, tiny("tinyc > /usr/local/told", ["tools"], "tinyc")))
    trial = Sandboxes()
    built = build_image(work, Quiet(), run=Programs(), trial=trial)
    record = built.manifest.languages["tiny"]
    assert (built.local / "told").read_text() == "1.2.3\n"
    assert record.packages == {"@a/b": "2.0.0", "left": "1.0.0"}
    assert list(record.tools) == ["/usr/local/bin/tinyc"]
    assert (record.version, record.tried) == ("7.8.9", True)
    assert trial.tried == ["bash", "bash", "python", "python", "tiny", "tiny"]


def test_a_language_without_its_folder_of_npm_or_its_tool_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"npm/gone: package.json and package-lock.json missing"):
        build_image(plan(tmp_path / "a", tiny(npm=["gone"]), names=["tiny"]), Quiet(), run=Programs())
    with pytest.raises(ImageError, match="Tiny: there is no tool in /usr/bin"):
        build_image(plan(tmp_path / "b", tiny(tool="no-such-tool"), names=["tiny"]), Quiet(), run=Programs())
    # One that nobody has asked for is not there, and nobody minds.
    built = build_image(plan(tmp_path / "c", tiny(tool="no-such-tool")), Quiet(), run=Programs())
    assert set(built.manifest.languages) == {"python", "bash"}


def test_what_does_not_work_is_never_the_current_image(tmp_path: Path) -> None:
    work = plan(tmp_path / "w", tiny())
    before = build_image(work, Quiet(), run=Programs(), trial=Sandboxes())
    with pytest.raises(ImageError, match=r"language tiny: its smoke test printed 'no'"):
        build_image(asking(work, "tiny"), Quiet(), run=Programs(), trial=Sandboxes("tiny"))
    assert current_image(work.directory) == before
    # What the host has and nobody has asked for may be broken: it was before.
    work.requirements.write_text("tiny==2.0 --hash=sha256:00\n")
    after = build_image(work, Quiet(), run=Programs(), trial=Sandboxes("tiny"))
    assert (after.manifest.languages["tiny"].tried, after.manifest.languages["bash"].tried) == (False, True)


KILLED = """
import os, signal, sys
from pathlib import Path
from supervisor.image import build, store
from tests.supervisor.images import Programs, Quiet, Sandboxes, plan
where, directory = sys.argv[1], Path(sys.argv[2])
def end(*_arguments, **_named):
    os.kill(os.getpid(), signal.SIGKILL)
class Ending(Programs):
    def __call__(self, arguments, on_line):
        super().__call__(arguments, on_line)
        if where == "layer" and "install" in arguments:
            end()
if where == "merge":
    build.content_of = end
if where == "switch":
    store.CURRENT = type("Ending", (str,), {"__format__": end})("current")
if where == "after":
    build.tidy = end
build.build_image(plan(directory, requirement="tiny==2.0"), Quiet(), run=Ending(),
    trial=end if where == "trial" else Sandboxes())
"""


@pytest.mark.parametrize("where", ["layer", "merge", "trial", "switch", "after"])
def test_a_killed_build_leaves_a_whole_image_current(tmp_path: Path, where: str) -> None:
    work = plan(tmp_path / "w")
    before = build_image(work, Quiet(), run=Programs())
    done = subprocess.run([sys.executable, "-c", KILLED, where, str(tmp_path / "w")], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    left = current_image(work.directory)
    assert left is not None
    assert left.manifest.languages["python"].packages == {"tiny": "2.0" if where == "after" else "1.0"}
    assert (left.local / "bin" / "tiny").exists()
    after = build_image(plan(tmp_path / "w", requirement="tiny==2.0"), Quiet(), run=Programs())
    assert after.manifest.languages["python"].packages == {"tiny": "2.0"}
    expected = {"current", "layers", "build.lock", after.path.name}
    kept = {"wheels", "npm-cache"} | {path.name for path in work.directory.glob("tool-*")}
    if where != "after":
        assert not before.path.exists()
        assert {path.name for path in work.directory.iterdir()} - kept == expected


def test_a_layer_whose_removal_was_interrupted_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = plan(tmp_path / "w")
    build_image(work, Quiet(), run=Programs())
    whole = shutil.rmtree

    def half(path: Path, *, ignore_errors: bool = False) -> None:
        if path.name.startswith("python-") and path.exists():
            (path / "local" / "bin" / "tiny").unlink()
            raise KeyboardInterrupt
        whole(path, ignore_errors=ignore_errors)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", half)
        with pytest.raises(KeyboardInterrupt):
            remove_layers(work.directory, set())
    assert next((work.directory / "layers").glob("python-*")).exists()
    built = build_image(plan(tmp_path / "w", tiny()), Quiet(), run=Programs())
    assert (built.local / "bin" / "tiny").exists()
    assert [path.name for path in (work.directory / "layers").iterdir() if "building" in path.name] == []


def test_images_that_nobody_uses_are_removed_and_one_that_is_used_stays(tmp_path: Path) -> None:
    work = plan(tmp_path / "w")
    first = build_image(work, Quiet(), run=Programs())
    held = hold(first)
    assert held is not None
    work.requirements.write_text("tiny==2.0 --hash=sha256:00\n")
    second = build_image(work, Quiet(), run=Programs())
    assert first.path.is_dir()
    os.close(held)
    work.requirements.write_text("tiny==3.0 --hash=sha256:00\n")
    third = build_image(work, Quiet(), run=Programs())
    assert [path.is_dir() for path in (first.path, second.path, third.path)] == [False, False, True]
    assert hold(first) is None
    # By another way to the same directory it is the current one all the same.
    (tmp_path / "link").symlink_to(work.directory)
    assert remove_unused(tmp_path / "link") == []
    assert (work.directory / "build.lock").exists()


def test_a_running_daemon_holds_its_image(daemon: Daemon, image_dir: Path) -> None:
    image = current_image(image_dir)
    assert image is not None
    fd = os.open(image.path / "manifest.json", os.O_RDONLY)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(fd)
    assert daemon.execute("print(1)")["stdout"] == "1\n"


def test_two_builds_at_once_are_refused(tmp_path: Path) -> None:
    work = plan(tmp_path / "w")
    work.directory.mkdir(parents=True)
    with (work.directory / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ImageError, match="another"):
            build_image(work, Quiet(), run=Programs())


def test_a_step_that_fails_tells_the_end_of_its_output(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"(?s)status 3.*last words.*resumes"):
        run_program(["bash", "-c", "echo last words; exit 3"], lambda _: None)
    with pytest.raises(ImageError, match="not installed"):
        run_program([str(tmp_path / "nothing")], lambda _: None)


def test_a_broken_manifest_is_an_error_that_says_what_to_do_and_a_build_mends_it(tmp_path: Path) -> None:
    work = plan(tmp_path / "w")
    (work.directory / "0123456789abcdef").mkdir(parents=True)
    (work.directory / "0123456789abcdef" / "manifest.json").write_text("{}")
    (work.directory / "current").symlink_to("0123456789abcdef")
    with pytest.raises(ConfigurationError, match="gaoler image build"):
        current_image(work.directory)
    assert current_image(build_image(work, Quiet(), run=Programs()).path.parent) is not None
    assert not (work.directory / "0123456789abcdef").exists()


def test_a_selection_is_kept_and_part_of_what_decides(tmp_path: Path) -> None:
    work: ImagePlan = plan(tmp_path / "w", tiny())
    plain = build_image(work, Quiet(), run=Programs())
    asked = build_image(replace(work, selection=Selection(languages=["tiny"])), Quiet(), run=Programs())
    assert plain.manifest.inputs != asked.manifest.inputs
    again = Programs()
    assert build_image(replace(work, selection=Selection(languages=["tiny"])), Quiet(), run=again) == asked
    assert again.calls == []


def test_an_image_with_a_root_of_its_own_brings_usr_and_etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Sequence[str]] = []

    def build_root(target: Path, wanted: Sequence[str], *_rest: object, **_named: object) -> None:
        built.append(wanted)
        for name in ("usr/bin/python3.99", "usr/bin/bash", "usr/bin/sh", "etc/passwd", "var/lib/dpkg/status"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).touch()
        (target / "usr/bin/python3").symlink_to("python3.99")
        (target / "var/lib/dpkg/status").write_text("Package: bash\nStatus: install ok installed\nVersion: 5\n\n")

    monkeypatch.setattr(blueprint, "build_root", build_root)
    work = plan(tmp_path / "w", tiny())
    on_host = build_image(work, Quiet(), run=Programs())
    own = replace(work, selection=Selection(base="own", suite="trixie", debian=["jq"]))
    first = Programs()
    image = build_image(own, Quiet(), run=first)
    assert (image.manifest.base, image.manifest.suite, image.manifest.python) == ("own", "trixie", "3.99")
    assert (image.usr / "bin" / "bash").is_file()
    assert (image.etc / "passwd").is_file()
    assert set(image.manifest.languages) == {"bash", "python", "tiny"}
    # Debian's packages go into the root, and none onto the host.
    assert set(built[0]) == {"bash", "python3", "jq"}
    assert not first.having("apt-get")
    assert image.manifest.content != on_host.manifest.content
    assert first.having("--python-version")
    again = Programs()
    assert build_image(own, Quiet(), run=again) == image
    assert (again.calls, len(built)) == ([], 1)
    assert build_image(work, Quiet(), run=Programs()).usr == Path("/usr")


def test_the_built_image_has_what_it_promises(image_dir: Path) -> None:
    built = current_image(image_dir)
    assert built is not None
    python = built.manifest.languages["python"]
    promised = {line.strip() for line in (SANDBOX_FILES / "packages.in").read_text().splitlines() if line[:1].isalpha()}
    assert promised <= set(python.packages)
    assert python.version.startswith(f"{built.manifest.python}.")
    for path in [built.path, built.local, *built.local.iterdir()]:
        assert path.stat().st_uid == os.getuid()
        assert not path.stat().st_mode & 0o022
    assert subprocess.run(["dot", "-V"], capture_output=True, check=False).returncode == 0

"""Building runtime images, with the programs that a build runs played by a recorder."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from supervisor.errors import ConfigurationError
from supervisor.image import ImageError, current_image, hold
from supervisor.image.build import build_image
from supervisor.image.plan import SANDBOX_FILES, ImagePlan
from supervisor.image.steps import run_program
from supervisor.image.store import remove_unused
from supervisor.progress import StepProgress
from tests.daemon import Daemon


class Quiet:
    def advance(self, what: str) -> None:
        pass

    def step(self, title: str, total: int | None = None) -> AbstractContextManager[StepProgress]:
        return nullcontext(self)


def plan(directory: Path) -> ImagePlan:
    requirements = directory / "packages.lock"
    directory.mkdir(exist_ok=True)
    requirements.write_text("tiny==1.0 --hash=sha256:00\n")
    return ImagePlan(directory / "images", requirements=requirements, debian_packages=())


class Recorder:
    """Stands in for the programs that a build runs; ``fail_at`` stops it at the step with this word."""

    def __init__(self, fail_at: str | None = None) -> None:
        self.calls: list[list[str]] = []
        self._fail_at = fail_at

    def __call__(self, arguments: Sequence[str], on_line: Callable[[str], None]) -> None:
        self.calls.append(list(arguments))
        if self._fail_at in arguments:
            raise KeyboardInterrupt
        if "install" in arguments:
            site = Path(arguments[arguments.index("--target") + 1])
            (site / "tiny").mkdir()
            version = Path(arguments[-1]).read_text().split()[0].removeprefix("tiny==")
            (site / f"tiny-{version}.dist-info").mkdir()
            (site / f"tiny-{version}.dist-info" / "METADATA").write_text(f"Version: {version}")
            (site / "bin").mkdir()
            (site / "bin" / "tiny").write_text("#!/some/venv/bin/python3\nprint(1)\n")
        if "venv" in arguments:
            Path(arguments[-1]).mkdir(parents=True)


def test_a_build_that_was_interrupted_goes_on_and_an_unchanged_one_runs_nothing(tmp_path: Path) -> None:
    work = plan(tmp_path / "w")
    first = Recorder(fail_at="install")
    with pytest.raises(KeyboardInterrupt):
        build_image(work, Quiet(), run=first)
    assert current_image(work.directory) is None
    second = Recorder()
    built = build_image(work, Quiet(), run=second)
    assert not [call for call in second.calls if "venv" in call]  # pip was there already
    assert current_image(work.directory) == built
    assert built.manifest.languages["python"].packages == {"tiny": "1.0"}
    assert (built.local / "bin" / "tiny").read_text().startswith("#!/usr/bin/python3\n")
    assert (built.path.stat().st_mode & 0o777) == 0o755
    third = Recorder()
    assert build_image(work, Quiet(), run=third) == built
    assert third.calls == []
    work.requirements.write_text("tiny==2.0 --hash=sha256:00\n")
    changed = build_image(work, Quiet(), run=Recorder())
    assert changed.path != built.path
    assert current_image(work.directory) == changed


def test_images_that_nobody_uses_are_removed_and_one_that_is_used_stays(tmp_path: Path) -> None:
    work = plan(tmp_path / "w")
    first = build_image(work, Quiet(), run=Recorder())
    held = hold(first)
    assert held is not None
    work.requirements.write_text("tiny==2.0 --hash=sha256:00\n")
    second = build_image(work, Quiet(), run=Recorder())
    assert first.path.is_dir()
    os.close(held)
    work.requirements.write_text("tiny==3.0 --hash=sha256:00\n")
    third = build_image(work, Quiet(), run=Recorder())
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
            build_image(work, Quiet(), run=Recorder())


def test_a_step_that_fails_tells_the_end_of_its_output(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"(?s)status 3.*last words.*resumes"):
        run_program(["bash", "-c", "echo last words; exit 3"], lambda _: None)
    with pytest.raises(ImageError, match="not installed"):
        run_program([str(tmp_path / "nothing")], lambda _: None)


def test_a_broken_manifest_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "manifest.json").write_text("{}")
    (tmp_path / "current").symlink_to("x")
    with pytest.raises(ConfigurationError, match="gaoler image build"):
        current_image(tmp_path)


def test_the_built_image_has_what_it_promises(image_dir: Path) -> None:
    built = current_image(image_dir)
    assert built is not None
    promised = {line.strip() for line in (SANDBOX_FILES / "packages.in").read_text().splitlines() if line[:1].isalpha()}
    assert promised <= set(built.manifest.languages["python"].packages)
    for path in [built.path, built.local, *built.local.iterdir()]:
        assert path.stat().st_uid == os.getuid()
        assert not path.stat().st_mode & 0o022
    assert subprocess.run(["dot", "-V"], capture_output=True, check=False).returncode == 0

"""The language catalogue and the runtime image."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from supervisor import image
from supervisor.errors import ConfigurationError
from supervisor.image import ImageError, ImagePlan, build_image, current_image, hold, remove_unused
from supervisor.progress import StepProgress
from supervisor.runtimes.catalogue import LANGUAGES, installed_languages, load_languages
from tests.daemon import Daemon

LIBRECHAT = [
    "py",
    "js",
    "ts",
    "c",
    "cpp",
    "java",
    "php",
    "rs",
    "go",
    "d",
    "f90",
    "r",
    "bash",
    "python",
    "javascript",
    "typescript",
]


class Quiet:
    def advance(self, what: str) -> None:
        pass

    def step(self, title: str, total: int | None = None) -> AbstractContextManager[StepProgress]:
        return nullcontext(self)


def test_every_code_of_librechat_is_known() -> None:
    known = {alias for language in load_languages() for alias in (language.name, *language.aliases)}
    assert set(LIBRECHAT) <= known


def test_command_lines_are_what_the_data_says(tmp_path: Path) -> None:
    for tool in ("gcc", "python3"):
        (tmp_path / tool).touch()
    found = installed_languages(load_languages(), [("/usr/local/bin", tmp_path / "none"), ("/usr/bin", tmp_path)])
    assert set(found) == {"c", "python", "py", "python3"}
    assert found["c"].compile_arguments() == ["/usr/bin/gcc", "-O1", "-o", "/tmp/main", "/code/main.c", "-lm"]
    assert found["c"].run_arguments(["a b", "{x}"]) == ["/tmp/main", "a b", "{x}"]
    assert found["py"].compile_arguments() is None
    assert found["py"].environment["HOME"] == "/mnt/data"


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('aliases = ["py", "python3"]', 'aliases = ["bash"]', "bash"),
        ("{source}", "{sauce}", "sauce"),
        ('title = "Python 3"', 'title = "Python 3"\nspeed = 9', "speed"),
        ('source = "main.py"', 'source = "../main.py"', "source"),
        ("run = ", "walk = ", "walk"),
        ("name", "name name", "python.toml"),
        ('seccomp = "python"\n', "", "seccomp"),
        ('seccomp = "python"', 'seccomp = "../default"', "seccomp"),
        ('seccomp = "python"', 'seccomp = "python"\nseccomp_compile = "compiler"', "seccomp_compile"),
    ],
)
def test_a_broken_language_refuses_and_names_file_and_key(tmp_path: Path, old: str, new: str, named: str) -> None:
    shutil.copytree(LANGUAGES, tmp_path / "l")
    path = tmp_path / "l" / "python.toml"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ConfigurationError) as caught:
        load_languages(tmp_path / "l")
    assert named in caught.value.message


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
            (site / "tiny-1.0.dist-info").mkdir()
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
    assert built.manifest.packages == {"tiny": "1.0"}
    assert (built.path / "bin" / "tiny").read_text().startswith("#!/usr/bin/python3\n")
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
        image._run(["bash", "-c", "echo last words; exit 3"], lambda _: None)
    with pytest.raises(ImageError, match="not installed"):
        image._run([str(tmp_path / "nothing")], lambda _: None)


def test_a_broken_manifest_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "manifest.json").write_text("{}")
    (tmp_path / "current").symlink_to("x")
    with pytest.raises(ConfigurationError, match="gaoler image build"):
        current_image(tmp_path)


def test_the_built_image_has_what_it_promises(image_dir: Path) -> None:
    built = current_image(image_dir)
    assert built is not None
    promised = {
        line.strip() for line in (image.SANDBOX_FILES / "packages.in").read_text().splitlines() if line[:1].isalpha()
    }
    assert promised <= set(built.manifest.packages)
    for path in [built.path, *built.path.iterdir()]:
        assert path.stat().st_uid == os.getuid()
        assert not path.stat().st_mode & 0o022
    assert subprocess.run(["dot", "-V"], capture_output=True, check=False).returncode == 0

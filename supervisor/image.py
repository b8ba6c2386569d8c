"""The runtime image: what a sandbox sees as ``/usr/local``, prepared once and read-only ever after.

An image is a directory named after everything that went into it, with a manifest; ``current`` is a link that is
switched when a new one is complete. Building can be interrupted at any moment: downloads are kept, a half image is
thrown away.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from supervisor.errors import ConfigurationError
from supervisor.progress import BuildProgress

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
SANDBOX_FILES: Final = Path(__file__).resolve().parent / "runtimes" / "python"
PACKAGES: Final = SANDBOX_FILES / "packages.lock"
DEBIAN_PACKAGES: Final = ("python3", "python3-venv", "catatonit", "graphviz", "fonts-dejavu-core", "fonts-liberation")
NEEDED_BYTES: Final = 2 << 30
_OUR_FILES: Final = (
    "gaoler_display.py",
    "gaoler_interpreter.py",
    "gaoler_plots.py",
    "gaoler_start.py",
    "gaoler_tools.py",
    "IPython/__init__.py",
    "IPython/display.py",
)
_REQUIREMENT: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==", re.MULTILINE)

Runner = Callable[[Sequence[str], Callable[[str], None]], None]


class ImageError(Exception):
    """The image cannot be built; the message says why and what to do next."""


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """``manifest.json`` of an image."""

    format: int
    inputs: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    python: str
    packages: dict[str, str]


@dataclass(frozen=True, slots=True)
class Image:
    """A complete image."""

    path: Path
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """What to build, and where. ``python`` is the interpreter that sandboxes will run."""

    directory: Path
    python: Path = Path("/usr/bin/python3")
    requirements: Path = PACKAGES
    debian_packages: tuple[str, ...] = DEBIAN_PACKAGES


def current_image(directory: Path) -> Image | None:
    """Read which image is current; ``None`` if there is none.

    Raises:
        ConfigurationError: there is one, but its manifest is broken.
    """
    link = directory / "current"
    if not link.exists():
        return None
    path = link.resolve()
    try:
        return Image(path, msgspec.json.decode((path / MANIFEST).read_bytes(), type=Manifest))
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigurationError(f"{path} is no image ({error}): run 'gaoler image build'", field="image_dir") from None


def build_image(plan: ImagePlan, progress: BuildProgress, *, run: Runner | None = None) -> Image:
    """Build the image unless the current one has the same inputs already. Runs as root; blocks for minutes.

    Raises:
        ImageError: a step failed, another build is running, or the disk is too small.
    """
    runner = run or _run
    _install_debian(plan, progress, runner)
    inputs = _inputs(plan)
    existing = current_image(plan.directory)
    if existing is not None and existing.manifest.inputs == inputs:
        return existing
    plan.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    with _locked(plan.directory):
        remove_unused(plan.directory)
        _check_room(plan.directory)
        building = plan.directory / "building"
        shutil.rmtree(building, ignore_errors=True)
        previous = os.umask(0o022)
        try:
            _fill(plan, building, progress, runner)
            manifest = Manifest(FORMAT, inputs, _python_version(plan.python), _installed(_site(plan, building)))
            (building / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
        finally:
            os.umask(previous)
        built = _publish(plan.directory, building, manifest)
        remove_unused(plan.directory)
        return built


def _fill(plan: ImagePlan, building: Path, progress: BuildProgress, run: Runner) -> None:
    site = _site(plan, building)
    site.mkdir(mode=0o755, parents=True)
    pip = _pip(plan, progress, run)
    wheels = plan.directory / "wheels"
    total = len(_REQUIREMENT.findall(plan.requirements.read_text()))
    with progress.step("Downloading Python packages", total) as step:
        options = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
        download = [*pip, "download", *options, "--require-hashes", "--only-binary", ":all:", "--dest", str(wheels)]
        run([*download, "--requirement", str(plan.requirements)], _advance_on("Collecting", step.advance))
    with progress.step("Installing Python packages", total) as step:
        install = [
            *pip,
            "install",
            *options,
            "--no-index",
            "--find-links",
            str(wheels),
            "--require-hashes",
            "--no-compile",
        ]
        arguments = [*install, "--target", str(site), "--requirement", str(plan.requirements)]
        run(arguments, _advance_on("Collecting", step.advance))
    with progress.step("Preparing the runtime", 4) as step:
        step.advance("programs")
        _move_programs(site, building / "bin")
        step.advance("charts")
        _add_our_files(site)
        step.advance("fonts")
        _list_fonts(plan, site, building / "share" / "gaoler" / "matplotlib", run)
        step.advance("byte code")
        run([str(plan.python), "-I", "-m", "compileall", "-q", "-j", "0", str(site)], _ignore)
    with progress.step("Trying every package") as step:
        _try_imports(plan, site, run)


def _install_debian(plan: ImagePlan, progress: BuildProgress, run: Runner) -> None:
    missing = [name for name in plan.debian_packages if not _debian_installed(name)]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise ImageError(f"missing on this host: {', '.join(missing)}; install what your distribution calls them")
    with progress.step(f"Installing {', '.join(missing)}") as step:
        apt = ["apt-get", "-y", "-q", "-o", "Dpkg::Use-Pty=0"]
        run([*apt, "update"], _ignore)
        run([*apt, "install", "--no-install-recommends", *missing], _advance_on("Setting up", step.advance))


def _debian_installed(name: str) -> bool:
    """Look into dpkg's own file: asking dpkg-query takes longer than a daemon's start should.

    The state counts, not the presence: of a package that was removed but not purged its record stays.
    """
    status = Path("/var/lib/dpkg/status")
    if not status.exists():
        return False
    record = re.search(rf"^Package: {re.escape(name)}\nStatus: (.*)$", status.read_text(errors="replace"), re.MULTILINE)
    return record is not None and record[1].endswith(" ok installed")


def _inputs(plan: ImagePlan) -> str:
    """Hash everything that decides what the image will be."""
    digest = hashlib.sha256(f"{FORMAT} {plan.python} {_python_version(plan.python)}\n".encode())
    for path in (plan.requirements, *(SANDBOX_FILES / name for name in _OUR_FILES)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _python_version(python: Path) -> str:
    """Read the version from where the interpreter leads to; starting it would cost every start of the daemon 20 ms."""
    name = python.resolve().name
    if not re.fullmatch(r"python3\.\d+", name):
        raise ImageError(f"{python} does not lead to a python3.N; set another interpreter")
    return name.removeprefix("python")


def _site(plan: ImagePlan, root: Path) -> Path:
    """Debian's Python looks for local packages here, in the sandbox below /usr/local."""
    return root / "lib" / f"python{_python_version(plan.python)}" / "dist-packages"


def _pip(plan: ImagePlan, progress: BuildProgress, run: Runner) -> list[str]:
    """Give a pip that runs under the sandbox's own interpreter, so that it chooses that one's wheels."""
    tool = plan.directory / f"tool-{_python_version(plan.python)}"
    if not (tool / "complete").exists():
        with progress.step("Preparing pip"):
            run([str(plan.python), "-m", "venv", "--clear", str(tool)], _ignore)
            (tool / "complete").touch()
    return [str(tool / "bin" / "python"), "-m", "pip"]


def _move_programs(site: Path, target: Path) -> None:
    """``pip --target`` puts programs beside the modules, made for the interpreter that pip ran under."""
    target.mkdir(mode=0o755)
    source = site / "bin"
    if not source.is_dir():
        return
    for program in source.iterdir():
        text = program.read_bytes()
        if text.startswith(b"#!") and b"python" in text.partition(b"\n")[0]:
            text = b"#!/usr/bin/python3\n" + text.partition(b"\n")[2]
        (target / program.name).write_bytes(text)
        (target / program.name).chmod(0o755)
    shutil.rmtree(source)


def _add_our_files(site: Path) -> None:
    for name in _OUR_FILES:
        (site / name).parent.mkdir(mode=0o755, exist_ok=True)
        shutil.copyfile(SANDBOX_FILES / name, site / name)
    (site / "gaoler_start.pth").write_text("import gaoler_start\n")


def _list_fonts(plan: ImagePlan, site: Path, target: Path, run: Runner) -> None:
    target.mkdir(mode=0o755, parents=True)
    if not (site / "matplotlib").is_dir():
        return
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); os.environ['MPLCONFIGDIR'] = sys.argv[2]; "
        "import matplotlib.font_manager"
    )
    run([str(plan.python), "-I", "-c", program, str(site), str(target)], _ignore)


def _try_imports(plan: ImagePlan, site: Path, run: Runner) -> None:
    names = sorted(
        line.strip()
        for top in site.glob("*.dist-info/top_level.txt")
        for line in top.read_text().splitlines()
        if re.fullmatch(r"[A-Za-z]\w*", line.strip())
    )
    program = "import sys; sys.path.insert(0, sys.argv[1])\nfor name in sys.argv[2:]: __import__(name)"
    run([str(plan.python), "-I", "-c", program, str(site), *names], _ignore)


def _installed(site: Path) -> dict[str, str]:
    found = (path.name.removesuffix(".dist-info").rpartition("-") for path in sorted(site.glob("*.dist-info")))
    return {name.replace("_", "-").lower(): version for name, _, version in found}


def _publish(directory: Path, building: Path, manifest: Manifest) -> Image:
    """Give the image its name and switch the link; both are atomic."""
    final = directory / manifest.inputs[:16]
    if final.exists():
        # One of an earlier time that a daemon still uses; it loses its name and nothing else.
        final.rename(directory / f"{final.name}.{os.urandom(4).hex()}")
    building.rename(final)
    link = directory / "current.new"
    link.unlink(missing_ok=True)
    link.symlink_to(final.name)
    link.rename(directory / "current")
    return Image(final, manifest)


def hold(image: Image) -> int | None:
    """Keep an image from being removed for as long as the descriptor is open; ``None``: it is gone already.

    It is the manifest's, not the directory's: from an open directory a process climbs out of any view of the host.
    """
    try:
        fd = os.open(image.path / MANIFEST, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    fcntl.flock(fd, fcntl.LOCK_SH)
    if not os.fstat(fd).st_nlink:
        os.close(fd)
        return None
    return fd


def remove_unused(directory: Path) -> list[str]:
    """Remove the images that are neither current nor held by a daemon; give their names. The build lock is held."""
    current = (directory / "current").resolve()
    removed: list[str] = []
    for path in sorted(directory.resolve().iterdir()):
        if not re.fullmatch(r"[0-9a-f]{16}(\.[0-9a-f]{8})?", path.name) or path == current:
            continue
        with ExitStack() as locks:
            try:
                # Daemons of before hold the directory.
                _lock_alone(path, os.O_DIRECTORY, locks)
                _lock_alone(path / MANIFEST, 0, locks)
            except BlockingIOError:
                continue
            # First what makes it an image, so that nobody begins to use it.
            (path / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(path)
            removed.append(path.name)
    return removed


def _lock_alone(path: Path, kind: int, locks: ExitStack) -> None:
    """Lock what is there, until ``locks`` are closed.

    Raises:
        BlockingIOError: somebody holds it.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | kind)
    except FileNotFoundError:
        return
    locks.callback(os.close, fd)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _check_room(directory: Path) -> None:
    free = shutil.disk_usage(directory).free
    if free < NEEDED_BYTES:
        raise ImageError(
            f"{directory} has {free >> 20} MiB free, {NEEDED_BYTES >> 20} MiB are needed: make room, or set image_dir"
        )


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    with (directory / "build.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ImageError(f"another 'gaoler image build' works in {directory}: wait for it, or end it") from None
        yield


def _advance_on(word: str, advance: Callable[[str], None]) -> Callable[[str], None]:
    def see(line: str) -> None:
        if line.startswith(word):
            advance(line.removeprefix(word).strip().partition("==")[0])

    return see


def _ignore(_line: str) -> None:
    return


def _run(arguments: Sequence[str], on_line: Callable[[str], None]) -> None:
    """Run a step; its output goes line by line to ``on_line``.

    Raises:
        ImageError: it failed; with the end of its output.
    """
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH", None)
    lines: list[str] = []
    try:
        with subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
            errors="replace",
        ) as process:
            for line in process.stdout or ():
                lines = [*lines[-14:], line.rstrip()]
                on_line(line)
    except FileNotFoundError:
        raise ImageError(f"{arguments[0]} is not installed") from None
    if process.returncode:
        tail = "\n    ".join(lines)
        raise ImageError(
            f"{' '.join(arguments[:4])} ... failed with status {process.returncode}:\n    {tail}\n"
            "Run the build again: it resumes."
        )

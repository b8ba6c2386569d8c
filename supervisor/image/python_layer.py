"""Python's packages and our own modules, as a layer; and the list of fonts, as another."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from supervisor.image.layers import LayerPlan, key_of
from supervisor.image.plan import SANDBOX_FILES, ImagePlan, python_version
from supervisor.image.steps import Runner, advance_on, ignore
from supervisor.progress import BuildProgress

OUR_FILES: Final = (
    "gaoler_display.py",
    "gaoler_interpreter.py",
    "gaoler_plots.py",
    "gaoler_start.py",
    "gaoler_tools.py",
    "IPython/__init__.py",
    "IPython/display.py",
)
FONTS: Final = Path("/usr/share/fonts")
_VERSION: Final = 1
"""Changes when this module makes something else of the same inputs."""
_REQUIREMENT: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==", re.MULTILINE)
_PIP_OPTIONS: Final = ("--disable-pip-version-check", "--no-input", "--progress-bar", "off")


def site_of(version: str, local: Path) -> Path:
    """Debian's Python looks for local packages here, in the sandbox below /usr/local."""
    return local / "lib" / f"python{version}" / "dist-packages"


def python_layer(plan: ImagePlan, progress: BuildProgress, run: Runner) -> LayerPlan:
    """Plan the layer of the packages that every image has."""
    version = python_version(plan.python)
    files = [plan.requirements, *(SANDBOX_FILES / name for name in OUR_FILES)]
    key = key_of(_VERSION, str(plan.python), version, [path.read_text(encoding="utf-8") for path in files])

    def fill(building: Path) -> None:
        site = site_of(version, building / "local")
        site.mkdir(mode=0o755, parents=True)
        _install(plan, site, progress, run)
        with progress.step("Preparing Python", 3) as step:
            step.advance("programs")
            move_programs(site, building / "local" / "bin")
            step.advance("our own modules")
            _add_our_files(site)
            step.advance("byte code")
            compile_all(plan.python, building / "local", run)
        with progress.step("Trying every package"):
            _try_imports(plan.python, site, run)

    return LayerPlan("python", key, fill)


def fonts_layer(plan: ImagePlan, python: LayerPlan, site: Path, progress: BuildProgress, run: Runner) -> LayerPlan:
    """Plan the list of fonts, which matplotlib would take seconds to make in each sandbox. ``site`` has matplotlib."""
    found = sorted((str(path), path.stat().st_size) for path in FONTS.rglob("*") if path.is_file())

    def fill(building: Path) -> None:
        target = building / "local" / "share" / "gaoler" / "matplotlib"
        target.mkdir(mode=0o755, parents=True)
        if not (site / "matplotlib").is_dir():
            return
        program = (
            "import os, sys; sys.path.insert(0, sys.argv[1]); os.environ['MPLCONFIGDIR'] = sys.argv[2]; "
            "import matplotlib.font_manager"
        )
        with progress.step("Listing fonts"):
            run([str(plan.python), "-I", "-B", "-c", program, str(site), str(target)], ignore)

    return LayerPlan("fonts", key_of(python.key, found), fill)


def pip_command(plan: ImagePlan, progress: BuildProgress, run: Runner) -> list[str]:
    """Give a pip that runs under the sandbox's own interpreter, so that it chooses that one's wheels."""
    tool = plan.directory / f"tool-{python_version(plan.python)}"
    if not (tool / "complete").exists():
        with progress.step("Preparing pip"):
            run([str(plan.python), "-m", "venv", "--clear", str(tool)], ignore)
            (tool / "complete").touch()
    return [str(tool / "bin" / "python"), "-m", "pip"]


def _install(plan: ImagePlan, site: Path, progress: BuildProgress, run: Runner) -> None:
    pip = pip_command(plan, progress, run)
    wheels = str(plan.directory / "wheels")
    wanted = ["--require-hashes", "--requirement", str(plan.requirements)]
    total = len(_REQUIREMENT.findall(plan.requirements.read_text()))
    with progress.step("Downloading Python packages", total) as step:
        download = [*pip, "download", *_PIP_OPTIONS, "--only-binary", ":all:", "--dest", wheels, *wanted]
        run(download, advance_on("Collecting", step.advance))
    with progress.step("Installing Python packages", total) as step:
        offline = ["--no-index", "--find-links", wheels, "--no-compile", "--target", str(site)]
        run([*pip, "install", *_PIP_OPTIONS, *offline, *wanted], advance_on("Collecting", step.advance))


def move_programs(site: Path, target: Path) -> None:
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


def compile_all(python: Path, local: Path, run: Runner) -> None:
    """Make the byte code. It is told by the source's content, not its time: so an image is the same each time.

    Nobody checks it in a sandbox either: sources cannot change there.
    """
    options = ["-q", "-j", "0", "--invalidation-mode", "unchecked-hash", "-s", str(local), "-p", "/usr/local"]
    run([str(python), "-I", "-m", "compileall", *options, str(local / "lib")], ignore)


def _add_our_files(site: Path) -> None:
    for name in OUR_FILES:
        (site / name).parent.mkdir(mode=0o755, exist_ok=True)
        shutil.copyfile(SANDBOX_FILES / name, site / name)
    (site / "gaoler_start.pth").write_text("import gaoler_start\n")


def _try_imports(python: Path, site: Path, run: Runner) -> None:
    names = sorted(
        line.strip()
        for top in site.glob("*.dist-info/top_level.txt")
        for line in top.read_text().splitlines()
        if re.fullmatch(r"[A-Za-z]\w*", line.strip())
    )
    program = "import sys; sys.path.insert(0, sys.argv[1])\nfor name in sys.argv[2:]: __import__(name)"
    run([str(python), "-I", "-B", "-c", program, str(site), *names], ignore)


def distributions(sites: Sequence[Path]) -> dict[str, str]:
    """Give the versions of the packages that are installed there, by name."""
    paths = sorted(path for site in sites for path in site.glob("*.dist-info"))
    found = (path.name.removesuffix(".dist-info").rpartition("-") for path in paths)
    return {name.replace("_", "-").lower(): version for name, _, version in found}

"""Python's packages as layers: what every image has with our own modules, the list of fonts, and what is added."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from supervisor.image.enclosed import Spec, environment_with, run_enclosed
from supervisor.image.ground import Ground
from supervisor.image.layers import LAYERS, LayerPlan, key_of
from supervisor.image.plan import SANDBOX_FILES, ImagePlan, python_version
from supervisor.image.progress import BuildProgress
from supervisor.image.steps import Runner, advance_on, ignore

OUR_FILES: Final = (
    "gaoler_display.py",
    "gaoler_interpreter.py",
    "gaoler_plots.py",
    "gaoler_start.py",
    "gaoler_tools.py",
    "IPython/__init__.py",
    "IPython/display.py",
)
PYTHON: Final = "/usr/bin/python3"
"""The interpreter that sandboxes run."""
FONT_LIST: Final = "share/gaoler/matplotlib"
_VERSION: Final = 4
"""Changes when this module makes something else of the same inputs."""
REQUIREMENT: Final = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==", re.MULTILINE)
"""A package in a lock file."""
_PIP_OPTIONS: Final = ("--disable-pip-version-check", "--no-input", "--progress-bar", "off")
COMPILE: Final = ("-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash", "/usr/local/lib")
"""Byte code is told by its source's content, not by its time: so an image is the same each time. Nobody checks it in a
sandbox either, for sources cannot change there."""


def site_of(version: str, local: Path) -> Path:
    """Debian's Python looks for local packages here, in the sandbox below /usr/local."""
    return local / "lib" / f"python{version}" / "dist-packages"


def added_site_of(version: str, local: Path) -> Path:
    """What an operator adds lies here: the zygotes of interpreters, which have rights, do not see it."""
    return local / "lib" / f"python{version}" / "added-packages"


def python_layer(plan: ImagePlan, ground: Ground, progress: BuildProgress, run: Runner) -> LayerPlan:
    """Plan the layer of the packages that every image has."""
    version = ground.python_version()
    files = [plan.requirements, *(SANDBOX_FILES / name for name in OUR_FILES)]
    key = key_of(_VERSION, str(plan.python), version, [path.read_text(encoding="utf-8") for path in files])

    def fill(building: Path) -> None:
        local = building / "local"
        site = site_of(version, local)
        site.mkdir(mode=0o755, parents=True)
        total = len(REQUIREMENT.findall(plan.requirements.read_text()))
        locked = ["--require-hashes", "--requirement", str(plan.requirements)]
        install_wheels(plan, version, site, locked, total, progress, run)
        _move_programs(site, local / "bin")
        _add_our_files(site)
        with progress.step("Compiling Python packages"):
            run_enclosed(run, enclosed_spec(ground, local, [], COMPILE))
        with progress.step("Trying every package"):
            run_enclosed(run, enclosed_spec(ground, local, [], ("-B", "-c", _try_imports(site))))

    return LayerPlan("python", key, fill)


def fonts_layer(plan: ImagePlan, ground: Ground, python: LayerPlan, progress: BuildProgress, run: Runner) -> LayerPlan:
    """Plan the list of fonts, which matplotlib would take seconds to make in each sandbox."""
    fonts = ground.usr / "share" / "fonts"
    found = sorted((str(path), path.stat().st_size) for path in fonts.rglob("*") if path.is_file())
    below = plan.directory / LAYERS / python.directory / "local"

    def fill(building: Path) -> None:
        target = building / "local" / FONT_LIST
        target.mkdir(mode=0o755, parents=True)
        if not (site_of(ground.python_version(), below) / "matplotlib").is_dir():
            return
        program = f"import os; os.environ['MPLCONFIGDIR'] = '/usr/local/{FONT_LIST}'\nimport matplotlib.font_manager"
        with progress.step("Listing fonts"):
            run_enclosed(run, enclosed_spec(ground, building / "local", [below], ("-B", "-c", program)))

    return LayerPlan("fonts", key_of(python.key, ground.key, found), fill)


def extra_layer(plan: ImagePlan, ground: Ground, python: LayerPlan, progress: BuildProgress, run: Runner) -> LayerPlan:
    """Plan the layer of packages that an operator adds; they take those that are there already as these are."""
    version = ground.python_version()
    wanted = sorted(plan.selection.python)
    below = plan.directory / LAYERS / python.directory / "local"

    def fill(building: Path) -> None:
        local = building / "local"
        site = added_site_of(version, local)
        site.mkdir(mode=0o755, parents=True)
        there = distributions([site_of(version, below)])
        constraints = building / "constraints.txt"
        constraints.write_text("".join(f"{name}=={each}\n" for name, each in there.items()), encoding="utf-8")
        install_wheels(plan, version, site, ["--constraint", str(constraints), *wanted], len(wanted), progress, run)
        constraints.unlink()
        drop_those_of(site, there)
        _move_programs(site, local / "bin")
        with progress.step("Compiling and trying what was added"):
            run_enclosed(run, enclosed_spec(ground, local, [], COMPILE))
            run_enclosed(run, enclosed_spec(ground, local, [below], ("-B", "-c", _try_imports(site))))

    return LayerPlan("extra", key_of(_VERSION, python.key, wanted), fill)


def distributions(sites: Sequence[Path]) -> dict[str, str]:
    """Give the versions of the packages that are installed there, by name."""
    paths = sorted(path for site in sites for path in site.glob("*.dist-info"))
    found = (path.name.removesuffix(".dist-info").rpartition("-") for path in paths)
    return {name.replace("_", "-").lower(): version for name, _, version in found}


def _pip_command(plan: ImagePlan, progress: BuildProgress, run: Runner) -> list[str]:
    """Give a pip of our own, made by the host's interpreter."""
    tool = plan.directory / f"tool-{python_version(plan.python)}"
    if not (tool / "complete").exists():
        with progress.step("Preparing pip"):
            run([str(plan.python), "-m", "venv", "--clear", str(tool)], ignore)
            (tool / "complete").touch()
    return [str(tool / "bin" / "python"), "-m", "pip"]


def install_wheels(
    plan: ImagePlan, version: str, site: Path, wanted: list[str], total: int, progress: BuildProgress, run: Runner
) -> None:
    """Download what is ``wanted``, and then install it without a network; wheels only, so that nothing of it is run."""
    pip = _pip_command(plan, progress, run)
    wheels = str(plan.directory / "wheels")
    options = [*_PIP_OPTIONS, "--only-binary", ":all:", "--find-links", wheels]
    if version != python_version(plan.python):
        options += ["--python-version", version]
    with progress.step("Downloading Python packages", total) as step:
        run([*pip, "download", *options, "--dest", wheels, *wanted], advance_on("Collecting", step.advance))
    with progress.step("Installing Python packages", total) as step:
        offline = ["--no-index", "--no-compile", "--target", str(site)]
        run([*pip, "install", *options, *offline, *wanted], advance_on("Collecting", step.advance))


def enclosed_spec(ground: Ground, local: Path, below: Sequence[Path], arguments: Sequence[str]) -> Spec:
    """Describe a run of the image's Python, which finds ``local`` over the layers ``below`` as ``/usr/local``."""
    return Spec(
        usr=str(ground.usr),
        etc=str(ground.etc),
        local=str(local),
        below=list(map(str, below)),
        command=[PYTHON, *arguments],
        # What a program makes of a set is the same each time.
        environment=environment_with({"PYTHONHASHSEED": "0"}),
    )


def _move_programs(site: Path, target: Path) -> None:
    """``pip --target`` puts programs beside the modules, made for the interpreter that pip ran under.

    A wheel may bring directories among them, for what its programs need.
    """
    source = site / "bin"
    if not source.is_dir():
        return
    target.mkdir(mode=0o755)
    for program in sorted(source.rglob("*")):
        place = target / program.relative_to(source)
        if program.is_dir():
            place.mkdir(mode=0o755)
            continue
        text = program.read_bytes()
        if text.startswith(b"#!") and b"python" in text.partition(b"\n")[0]:
            text = f"#!{PYTHON}\n".encode() + text.partition(b"\n")[2]
        place.write_bytes(text)
        place.chmod(0o755)
    shutil.rmtree(source)
    for record in site.glob("*.dist-info/RECORD"):
        # Size and hash of what pip made, which named a place on the host.
        rows = record.read_text(encoding="utf-8")
        record.write_text(re.sub(r"^((\.\./)+bin/[^,\n]+),.*$", r"\1,,", rows, flags=re.MULTILINE), encoding="utf-8")


def _add_our_files(site: Path) -> None:
    for name in OUR_FILES:
        (site / name).parent.mkdir(mode=0o755, exist_ok=True)
        shutil.copyfile(SANDBOX_FILES / name, site / name)
    (site / "gaoler_start.pth").write_text("import gaoler_start\n")


def drop_those_of(site: Path, there: dict[str, str]) -> None:
    """Take away the packages that the layer below has: by what each says that it consists of."""
    for info in site.glob("*.dist-info"):
        name = info.name.removesuffix(".dist-info").rpartition("-")[0].replace("_", "-").lower()
        if name in there:
            with (info / "RECORD").open(encoding="utf-8", newline="") as record:
                rows = [row[0].split("/") for row in csv.reader(record) if row]
            for parts in rows:
                # Programs and manuals are named where they would be without a target: above, and here in it.
                site.joinpath(*(part for part in parts if part != "..")).unlink(missing_ok=True)
            shutil.rmtree(info, ignore_errors=True)
    for directory in sorted((path for path in site.rglob("*") if path.is_dir()), reverse=True):
        if not any(directory.iterdir()):
            directory.rmdir()


def _try_imports(site: Path) -> str:
    names = sorted(
        line.strip()
        for top in site.glob("*.dist-info/top_level.txt")
        for line in top.read_text().splitlines()
        if re.fullmatch(r"[A-Za-z]\w*", line.strip())
    )
    return f"for name in {names!r}: __import__(name)"

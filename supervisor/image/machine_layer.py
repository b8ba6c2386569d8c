"""The layer ``machine``: the hypervisor's two libraries and the guest's kernel in one of them, out of pinned packages.

``libkrun.so.1`` comes from a package of npm, ``libkrunfw.so.5`` from a wheel that has other things too. No code of
either runs during a build, and nothing but these files and licences is kept.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from supervisor.image.layers import LayerPlan, key_of
from supervisor.image.manifest import MACHINE
from supervisor.image.npm import NpmFolder, install_folder, read_folder
from supervisor.image.plan import ImagePlan, python_version
from supervisor.image.progress import BuildProgress
from supervisor.image.python_layer import install_wheels
from supervisor.image.steps import ImageError, Runner
from supervisor.image.tree import make_plain
from supervisor.microvm.krun import KERNEL, LIBRARY
from supervisor.runtimes.catalogue import NPM_PROJECTS

PINS: Final = NPM_PROJECTS.parent / "machine"
PROCESSOR: Final = "x86_64"
"""Of the packages."""
_LICENCES: Final = ("LICENSE*", "LICENCE*", "COPYING*", "NOTICE*")
_VERSION: Final = 1
"""Changes when this module makes something else of the same inputs."""


def machine_layer(plan: ImagePlan, progress: BuildProgress, run: Runner) -> LayerPlan:
    """Plan the layer.

    Raises:
        ImageError: there is no such package for this processor.
    """
    processor = os.uname().machine
    if processor != PROCESSOR:
        raise ImageError(
            f"libkrun for {processor} is in none of the packages that Gaoler knows, only for {PROCESSOR}: "
            "build the image without --microvm (--only drops it)"
        )
    folder = read_folder(PINS.name, PINS.parent)
    wheel = PINS / "requirements.txt"

    def fill(building: Path) -> None:
        scratch, root = building / "scratch", building / MACHINE
        root.mkdir(mode=0o755)
        _fetch(plan, folder, wheel, scratch, progress, run)
        _keep(scratch, LIBRARY, root)
        _keep(scratch, KERNEL, root)
        _keep_licences(scratch, root / "licences")
        shutil.rmtree(scratch)
        make_plain(root)

    return LayerPlan(MACHINE, key_of(_VERSION, folder.key, wheel.read_text(encoding="utf-8")), fill)


def _fetch(
    plan: ImagePlan, folder: NpmFolder, wheel: Path, scratch: Path, progress: BuildProgress, run: Runner
) -> None:
    install_folder(folder, scratch / "npm", plan.directory, progress, run)
    # What the wheel itself would need is not for us.
    wanted = ["--no-deps", "--require-hashes", "--requirement", str(wheel)]
    (scratch / "wheel").mkdir()
    install_wheels(plan, python_version(plan.python), scratch / "wheel", wanted, 1, progress, run)


def _keep(scratch: Path, name: str, root: Path) -> None:
    """Copy the library ``name``, or the one version of it, under this very name: libkrun asks the linker for it.

    Raises:
        ImageError: the packages have none, or several that differ.
    """
    found = [*scratch.rglob(name), *scratch.rglob(f"{name}.*")]
    contents = {path.read_bytes() for path in found if path.is_file() and not path.is_symlink()}
    if len(contents) != 1:
        raise ImageError(f"the pinned packages have {len(contents)} files {name}, not one")
    (root / name).write_bytes(contents.pop())


def _keep_licences(scratch: Path, target: Path) -> None:
    target.mkdir(mode=0o755)
    found = sorted(path for pattern in _LICENCES for path in scratch.rglob(pattern) if path.is_file())
    for number, path in enumerate(found):
        shutil.copyfile(path, target / f"{number}-{path.name}")

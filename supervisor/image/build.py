"""The way of a build: what is missing of Debian, the layers, one tree of them, a try, and the switch.

It can be interrupted at any moment: downloads and complete layers are kept, a half image is thrown away, and until the
switch the image of before is the current one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from supervisor.errors import ConfigurationError
from supervisor.image import debian
from supervisor.image.layers import LAYERS, Layer, LayerPlan, have_layer, key_of
from supervisor.image.manifest import FILES, FORMAT, MANIFEST, Image, LanguageRecord, Manifest, current_image
from supervisor.image.plan import ImagePlan, python_version
from supervisor.image.python_layer import distributions, fonts_layer, python_layer, site_of
from supervisor.image.steps import Runner, run_program
from supervisor.image.store import check_room, locked, publish, remove_unused, tidy
from supervisor.image.tree import content_of, link_tree, merged
from supervisor.progress import BuildProgress

BUILDING = "building"


def build_image(plan: ImagePlan, progress: BuildProgress, *, run: Runner | None = None) -> Image:
    """Build the image unless the current one has the same inputs already. Runs as root; blocks for minutes.

    Raises:
        ImageError: a step failed, another build is running, or the disk is too small.
    """
    runner = run or run_program
    have = debian.installed_versions()
    debian.install([name for name in plan.debian_packages if name not in have], progress, runner)
    layers = plan_layers(plan, progress, runner)
    inputs = key_of(FORMAT, plan.selection, [layer.key for layer in layers])
    existing = usable_image(plan.directory)
    if existing is not None and existing.manifest.inputs == inputs and not plan.fresh:
        return existing
    with locked(plan.directory):
        remove_unused(plan.directory)
        check_room(plan.directory)
        previous = os.umask(0o022)
        try:
            complete = [have_layer(plan.directory, layer, fresh=plan.fresh) for layer in layers]
            building = _put_together(plan.directory, complete)
            manifest = _manifest(plan, inputs, complete, building)
            (building / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
        finally:
            os.umask(previous)
        built = publish(plan.directory, building, Image(building, manifest))
        tidy(plan.directory, built)
        return built


def usable_image(directory: Path) -> Image | None:
    """Give the current image, if there is one that this version can read: another one is built anew."""
    try:
        return current_image(directory)
    except ConfigurationError:
        return None


def plan_layers(plan: ImagePlan, progress: BuildProgress, run: Runner) -> list[LayerPlan]:
    """Give the layers of the image to be, in the order in which they are made."""
    python = python_layer(plan, progress, run)
    site = site_of(python_version(plan.python), plan.directory / LAYERS / python.directory / "local")
    return [python, fonts_layer(plan, python, site, progress, run)]


def _put_together(directory: Path, layers: Sequence[Layer]) -> Path:
    """Make the tree of an image out of its layers; give its directory."""
    building = directory / BUILDING
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(mode=0o755)
    entries = merged({layer.name: layer.entries for layer in layers})
    for layer in layers:
        link_tree(layer.path, layer.entries, building)
    (building / FILES).write_bytes(msgspec.json.encode(entries))
    return building


def _manifest(plan: ImagePlan, inputs: str, layers: Sequence[Layer], building: Path) -> Manifest:
    version = python_version(plan.python)
    packages = distributions([site_of(version, building / "local")])
    return Manifest(
        format=FORMAT,
        inputs=inputs,
        content=content_of(merged({layer.name: layer.entries for layer in layers})),
        base=plan.selection.base,
        suite=plan.selection.suite,
        python=version,
        selection=plan.selection,
        languages={"python": LanguageRecord(packages=packages)},
        groups={},
        layers=[layer.path.name for layer in layers],
    )

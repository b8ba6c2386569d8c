"""The way of a build: what is missing of Debian, the layers, one tree of them, a try, and the switch.

It can be interrupted at any moment: downloads and complete layers are kept, a half image is thrown away, and until the
switch the image of before is the current one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from supervisor.errors import ConfigurationError, GaolerError
from supervisor.image import debian
from supervisor.image.blueprint import Blueprint, Wanted, draw, missing_packages, root_layer, wanted_of
from supervisor.image.ground import Ground, host_ground, own_ground
from supervisor.image.guest_layer import try_parts
from supervisor.image.inside import Inside, inside
from supervisor.image.inventory import group_records, language_records, with_answers
from supervisor.image.layers import Layer, complete_layer, have_layer
from supervisor.image.manifest import BUILDING, CURRENT, FILES, FORMAT, MANIFEST, Image, Manifest, current_image
from supervisor.image.own_root import suite_of_host
from supervisor.image.plan import HOST_PACKAGES, ImagePlan
from supervisor.image.progress import BuildProgress
from supervisor.image.steps import ImageError, Runner, run_program
from supervisor.image.store import check_room, locked, publish, remove_unused, tidy
from supervisor.image.tree import content_of, link_tree, merged
from supervisor.image.trial import Trial, attempts_for

TRIAL: Final = "trial"


def build_image(
    plan: ImagePlan, progress: BuildProgress, *, run: Runner | None = None, trial: Trial | None = None
) -> Image:
    """Build the image unless the current one has the same inputs already. Runs as root; blocks for minutes.

    ``trial``: tries it in sandboxes before it becomes the current one; without, its versions are not known.

    Raises:
        ImageError: a step failed, another build is running, or the disk is too small.
        ConfigurationError: something that is asked for does not exist.
    """
    runner = run or run_program
    wanted = wanted_of(plan)
    existing = _as_it_is(plan, wanted, progress, runner)
    if existing is not None:
        return existing
    with locked(plan.directory):
        if _install_missing(plan, wanted, progress, runner):
            # Perhaps it was only the host that had changed, and is now as it was.
            existing = _as_it_is(plan, wanted, progress, runner)
            if existing is not None:
                return existing
        for name in (BUILDING, TRIAL):
            shutil.rmtree(plan.directory / name, ignore_errors=True)
        remove_unused(plan.directory)
        check_room(plan.directory)
        previous = os.umask(0o022)
        try:
            image = _build(plan, wanted, progress, runner)
            if trial is not None:
                image = _tried(plan, image, wanted, trial, progress, runner)
        finally:
            os.umask(previous)
        built = publish(plan.directory, image.path, image)
        tidy(plan.directory, built)
        return built


def _as_it_is(plan: ImagePlan, wanted: Wanted, progress: BuildProgress, run: Runner) -> Image | None:
    """Give the current image if it is what is asked for; reads, and changes nothing."""
    if plan.fresh or _missing(plan, wanted):
        return None
    ground: Ground | None = host_ground()
    if plan.selection.base == "own":
        root = complete_layer(plan.directory, root_layer(plan, wanted, progress, run))
        ground = None if root is None else own_ground(root)
    existing = None if ground is None else usable_image(plan.directory)
    if ground is None or existing is None:
        return None
    return existing if existing.manifest.inputs == draw(plan, wanted, ground, progress, run).inputs else None


def _missing(plan: ImagePlan, wanted: Wanted) -> list[str]:
    """Give what is to be installed on the host."""
    ground = host_ground()
    if plan.selection.base == "own":
        return [name for name in HOST_PACKAGES if name in plan.debian_packages and name not in ground.packages]
    return missing_packages(plan, wanted, ground)


def _install_missing(plan: ImagePlan, wanted: Wanted, progress: BuildProgress, run: Runner) -> bool:
    """Install what is missing on the host, and say whether there was anything. The build lock is held."""
    missing = _missing(plan, wanted)
    debian.install(missing, progress, run)
    return bool(missing)


def _build(plan: ImagePlan, wanted: Wanted, progress: BuildProgress, run: Runner) -> Image:
    """Make the layers that are not there yet, and the image."""
    ground = host_ground()
    if plan.selection.base == "own":
        ground = own_ground(have_layer(plan.directory, root_layer(plan, wanted, progress, run), fresh=plan.fresh))
    blueprint = draw(plan, wanted, ground, progress, run)
    layers = [] if ground.root is None else [ground.root]
    for layer in blueprint.layers:
        try:
            layers.append(have_layer(plan.directory, layer, fresh=plan.fresh))
        except ImageError as error:
            if not layer.optional:
                raise
            with progress.step(f"Going without it: {str(error).partition(chr(10))[0]}"):
                continue
    with progress.step("Putting the image together"):
        return _put_together(plan, blueprint, ground, layers)


def usable_image(directory: Path) -> Image | None:
    """Give the current image, if there is one that this version can read: another one is built anew."""
    try:
        return current_image(directory)
    except ConfigurationError:
        return None


def _put_together(plan: ImagePlan, blueprint: Blueprint, ground: Ground, layers: Sequence[Layer]) -> Image:
    """Make an image out of its layers, which is not the current one yet."""
    building = plan.directory / BUILDING
    building.mkdir(mode=0o755)
    entries = merged({layer.name: layer.entries for layer in layers})
    for layer in layers:
        link_tree(layer.path, layer.entries, building)
    (building / FILES).write_bytes(msgspec.json.encode(entries))
    trees = _trees(building, ground)
    manifest = Manifest(
        format=FORMAT,
        inputs=blueprint.inputs,
        content=content_of(entries),
        base=ground.base,
        suite=(plan.selection.suite or suite_of_host()) if ground.base == "own" else "",
        python=ground.python_version(),
        selection=plan.selection,
        languages=language_records(blueprint, trees),
        groups=group_records(blueprint),
        layers=[layer.path.name for layer in layers],
    )
    return _write(building, manifest)


def _tried(plan: ImagePlan, image: Image, wanted: Wanted, trial: Trial, progress: BuildProgress, run: Runner) -> Image:
    """Try it; give it with what has been found.

    Raises:
        ImageError: something that was chosen does not work.
    """
    place = plan.directory / TRIAL
    if plan.selection.microvm:
        try_parts(image, place, progress, run)
    present = [each for each in plan.languages if each.name in image.manifest.languages]
    attempts = attempts_for(present, wanted.groups, inside(image))
    with progress.step("Trying languages in sandboxes", len(attempts)) as step:
        place.mkdir(mode=0o755)
        (place / CURRENT).symlink_to(f"../{BUILDING}")
        try:
            answers = dict(zip(attempts, trial(place, attempts), strict=True))
        except GaolerError as error:
            raise ImageError(
                f"the new image cannot be tried: {error.message}; 'gaoler doctor' says why, --no-try leaves it out"
            ) from None
        shutil.rmtree(place)
        for attempt in attempts:
            step.advance(attempt.name)
    # What nobody has chosen, but the host has, may be broken: then it is not worse than before.
    chosen = {each.name for each in wanted.languages} | {each.name for each in wanted.groups}
    faults = [
        f"{attempt.kind} {attempt.name}: its smoke test {answer.fault}"
        for attempt, answer in answers.items()
        if answer.fault and attempt.kind != "version" and attempt.name in chosen
    ]
    if faults:
        raise ImageError("the new image is not used, for it does not work:\n    " + "\n    ".join(faults))
    records = with_answers(image.manifest.languages, answers)
    return _write(image.path, msgspec.structs.replace(image.manifest, languages=records))


def _trees(building: Path, ground: Ground) -> Inside:
    if ground.root is None:
        return Inside(building / "local", ground.usr, ground.etc)
    return Inside(building / "local", building / "root" / "usr", building / "root" / "etc")


def _write(path: Path, manifest: Manifest) -> Image:
    (path / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
    return Image(path, manifest)

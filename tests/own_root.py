"""An image with a root of its own for tests: made once, kept beside the image that all tests share."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import msgspec

from supervisor.image import Image, current_image
from supervisor.image.layers import LayerPlan, have_layer, key_of
from supervisor.image.manifest import FILES, GUEST, MACHINE, MANIFEST
from supervisor.image.own_root import build_root, identity, suite_of_host
from supervisor.image.progress import ConsoleProgress
from supervisor.image.steps import run_program
from supervisor.image.store import locked, publish, remove_unused
from supervisor.image.tree import Entry, content_of, link_tree, merged

PACKAGES: Final = ("python3", "php-cli", "fonts-dejavu-core", "fonts-liberation")
MARK: Final = "lib/of-the-image"
"""Below ``/usr``: a file that no host has."""


def own_image(image_dir: Path) -> Path:
    """Give a directory whose current image is that of ``image_dir`` on a root of its own: the same files, by links."""
    directory = image_dir.parent / "own-root"
    with locked(directory):
        root = have_layer(directory, LayerPlan("root", key_of(*identity(PACKAGES, ""), MARK), _fill))
        below = current_image(image_dir)
        assert below is not None
        listed = msgspec.json.decode((below.path / FILES).read_bytes(), type=list[Entry])
        # What virtual machines are made of is the same on both, where the image has it.
        local = [entry for entry in listed if entry.path.partition("/")[0] in {"local", GUEST, MACHINE}]
        entries = merged({"root": root.entries, "local": local})
        current = current_image(directory)
        if current is None or current.manifest.content != content_of(entries):
            building = directory / f"building-{root.path.name}"
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir()
            link_tree(root.path, root.entries, building)
            link_tree(below.path, local, building)
            (building / FILES).write_bytes(msgspec.json.encode(entries))
            manifest = msgspec.structs.replace(
                below.manifest, base="own", suite=suite_of_host(), content=content_of(entries), languages={}
            )
            (building / MANIFEST).write_bytes(msgspec.json.encode(manifest))
            publish(directory, building, Image(building, manifest))
            remove_unused(directory)
    return directory


def _fill(building: Path) -> None:
    root = building / "root"
    build_root(root, PACKAGES, ConsoleProgress(), run_program, debs=building.parent.parent / "debs")
    (root / "usr" / MARK).write_text("of the image\n")

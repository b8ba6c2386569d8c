"""The layers that images are put together from: ``layers/<name>-<key>``, each complete or not there.

A key is a hash of all that decides what is in the layer. A layer is made in a directory with another name and renamed
when it is complete and on the disk: what an interrupted build had finished is not made again.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from supervisor.image.durable import rename_whole
from supervisor.image.manifest import FILES
from supervisor.image.steps import ImageError
from supervisor.image.tree import Entry, list_tree, make_plain

LAYERS: Final = "layers"
KEY_DIGITS: Final = 16
_BUILDING: Final = ".building"


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """A layer to be: ``fill`` puts what belongs to it into ``local`` or ``root`` of the directory that it is given."""

    name: str
    key: str
    fill: Callable[[Path], None]
    optional: bool = False
    """If it cannot be made, the image goes without."""

    @property
    def directory(self) -> str:
        """Its name below ``layers``."""
        return f"{self.name}-{self.key[:KEY_DIGITS]}"


@dataclass(frozen=True, slots=True)
class Layer:
    """A complete layer."""

    name: str
    path: Path
    entries: list[Entry]


def key_of(*parts: object) -> str:
    """Hash what decides a layer."""
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def have_layer(images: Path, plan: LayerPlan, *, fresh: bool = False) -> Layer:
    """Give the layer, making it if it is not there yet, or again if ``fresh``. The build lock is held.

    Raises:
        ImageError: it could not be made; what is there of it is removed at the next build.
    """
    final = images / LAYERS / plan.directory
    if fresh and final.exists():
        _remove(final)
    if not final.exists():
        building = final.with_name(f"{final.name}{_BUILDING}")
        shutil.rmtree(building, ignore_errors=True)
        (building / "local").mkdir(mode=0o755, parents=True)
        plan.fill(building)
        make_plain(building / "local")
        (building / FILES).write_bytes(msgspec.json.encode(list_tree(building)))
        rename_whole(building, final)
    return _read(plan, final)


def complete_layer(images: Path, plan: LayerPlan) -> Layer | None:
    """Give the layer if it is there."""
    final = images / LAYERS / plan.directory
    return _read(plan, final) if final.exists() else None


def _read(plan: LayerPlan, path: Path) -> Layer:
    try:
        entries = msgspec.json.decode((path / FILES).read_bytes(), type=list[Entry])
    except (OSError, msgspec.DecodeError) as error:
        raise ImageError(f"{path} is broken ({error}): run 'gaoler image build --fresh'") from None
    return Layer(plan.name, path, entries)


def remove_layers(images: Path, kept: set[str]) -> None:
    """Remove the layers but ``kept``, and halves of layers. The build lock is held.

    No image loses anything: it has its own links to all files.
    """
    directory = images / LAYERS
    # Halves come before what they are halves of.
    for path in sorted(directory.iterdir(), reverse=True) if directory.is_dir() else ():
        if path.name not in kept:
            _remove(path)


def _remove(path: Path) -> None:
    """Remove a layer; first its name, so that half of one is never taken for whole."""
    if not path.name.endswith(_BUILDING):
        half = path.with_name(f"{path.name}{_BUILDING}")
        shutil.rmtree(half, ignore_errors=True)
        path = path.rename(half)
    shutil.rmtree(path)

"""What an operator does with images that are there: list, verify, remove."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from supervisor.errors import ConfigurationError, Conflict, NotFound
from supervisor.image.layers import LAYERS
from supervisor.image.manifest import CURRENT, FILES, MANIFEST, Image, current_image, read_image
from supervisor.image.store import image_paths, is_held, locked, remove_unless_held
from supervisor.image.tree import Entry, content_of, differences, list_tree

_NAME: Final = re.compile(r"[0-9a-f]{1,16}(\.[0-9a-f]{8})?")


class ImageRow(Struct, frozen=True):
    """One image of the list."""

    id: str
    current: bool
    in_use: bool
    base: str
    """Empty: an image of another version of Gaoler."""
    bytes: int
    own_bytes: int
    """Of files that no other image has."""
    languages: dict[str, str]
    groups: list[str]
    microvm: bool
    """It has what virtual machines are made of."""


class ImageList(Struct, frozen=True):
    """All images, and what they cost together with the layers that the next one will be made of."""

    images: list[ImageRow]
    bytes: int


class Verdict(Struct, frozen=True):
    """What has become of an image's files: paths below its directory."""

    id: str
    wrong: list[str]
    missing: list[str]
    extra: list[str]

    @property
    def good(self) -> bool:
        """Every file is what it was when the image was built."""
        return not (self.wrong or self.missing or self.extra)


def list_images(directory: Path) -> ImageList:
    """List the images; a file that several have counts once."""
    current = (directory / CURRENT).resolve()
    paths = image_paths(directory)
    sizes = {path: dict(_sizes(path)) for path in paths}
    everything = dict(_sizes(directory / LAYERS)) if (directory / LAYERS).is_dir() else {}
    for each in sizes.values():
        everything.update(each)
    rows: list[ImageRow] = []
    for path in paths:
        others = set[int]().union(*(sizes[each] for each in paths if each != path))
        own = sum(size for inode, size in sizes[path].items() if inode not in others)
        rows.append(_row(path, path == current, sum(sizes[path].values()), own))
    return ImageList(rows, sum(everything.values()))


def verify(directory: Path, name: str | None) -> Verdict:
    """Compare every file of an image, the current one if none is named, with what was built.

    It finds what was changed by accident; who is root can change the list as well.

    Raises:
        NotFound: there is no such image.
        ConfigurationError: it is broken so that nothing can be compared.
    """
    image = _find(directory, name)
    try:
        expected = msgspec.json.decode((image.path / FILES).read_bytes(), type=list[Entry])
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigurationError(f"{image.path / FILES}: {error}: build the image again", field="image_dir") from None
    if content_of(expected) != image.manifest.content:
        raise ConfigurationError(
            f"{image.path / FILES} is not the list that the manifest tells of: build the image again", field="image_dir"
        )
    found = differences(expected, list_tree(image.path, leave_out=(MANIFEST, FILES)))
    return Verdict(image.path.name, found["wrong"], found["missing"], found["extra"])


def remove(directory: Path, name: str) -> str:
    """Remove an image that nobody uses; give its whole name.

    Raises:
        NotFound: there is no such image.
        Conflict: it is the current one, or a daemon uses it.
        ImageError: a build is running.
    """
    path = _path_of(directory, name)
    with locked(directory):
        if path == (directory / CURRENT).resolve():
            raise Conflict(f"{path.name} is the current image: build another one first")
        if not remove_unless_held(path):
            raise Conflict(f"{path.name} is in use by a daemon: stop or restart it first")
    return path.name


def _row(path: Path, current: bool, size: int, own: int) -> ImageRow:  # noqa: FBT001 - a column
    try:
        manifest = read_image(path).manifest
    except ConfigurationError:
        return ImageRow(path.name, current, is_held(path), "", size, own, {}, [], microvm=False)
    languages = {name: each.version for name, each in manifest.languages.items()}
    groups, microvm = sorted(manifest.groups), manifest.selection.microvm
    return ImageRow(path.name, current, is_held(path), manifest.base, size, own, languages, groups, microvm)


def _sizes(directory: Path) -> Iterator[tuple[int, int]]:
    """Give inode and bytes on disk of all files."""
    for where, _, names in os.walk(directory):
        for name in names:
            status = os.lstat(os.path.join(where, name))  # noqa: PTH118 - ten thousands of them
            yield status.st_ino, status.st_blocks * 512


def _find(directory: Path, name: str | None) -> Image:
    if name is not None:
        return read_image(_path_of(directory, name))
    image = current_image(directory)
    if image is None:
        raise NotFound(f"there is no image in {directory}: run 'gaoler image build'")
    return image


def _path_of(directory: Path, name: str) -> Path:
    """Find an image by its name or the start of it."""
    paths = image_paths(directory)
    found = [path for path in paths if path.name.startswith(name)] if _NAME.fullmatch(name) else []
    found = [path for path in found if path.name == name] or found
    if len(found) == 1:
        return found[0]
    if found:
        raise NotFound(f"{name!r} is the start of several images: {', '.join(path.name for path in found)}")
    known = f"in {directory} there are {', '.join(path.name for path in paths) or 'none'}"
    raise NotFound(
        f"no image is called {name!r}: {known}" if name else f"give an image's ID, or the start of it: {known}"
    )

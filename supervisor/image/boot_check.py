"""The parts of virtual machines are compared with what was built before any of them is used."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from supervisor.errors import ConfigurationError
from supervisor.image.manifest import BUILDING, FILES, GUEST, MACHINE, Image
from supervisor.image.steps import ImageError
from supervisor.image.store import NAME_DIGITS
from supervisor.image.tree import Entry, differences, list_tree

_MEND: Final = "run 'gaoler image build --microvm --fresh'"
_SUFFIX: Final = re.compile(r"\.[0-9a-f]{8}\Z")
"""Of an image whose name another has taken over while it was in use."""


@dataclass(frozen=True, slots=True)
class MicrovmParts:
    """Directories of an image, each file of which is what was built."""

    guest: Path
    """A guest sees it as ``/opt/gaoler``."""
    machine: Path
    """The hypervisor's libraries."""


def check_microvm(image: Image) -> MicrovmParts:
    """Compare every file, directory and link of both parts with the image's list, and the list with its name.

    Whoever is root can change list and name too; what this finds are accidents, and files that another could write.

    Raises:
        ConfigurationError: the image has no such parts, or something in them is not what was built: says what first.
    """
    if not image.manifest.selection.microvm:
        raise ConfigurationError(
            f"{image.path} has nothing to make virtual machines of: run 'gaoler image build --microvm'",
            field="image_dir",
        )
    entries = _list_of(image)
    for part in (GUEST, MACHINE):
        wrong = _first_wrong(image.path, part, entries)
        if wrong is not None:
            raise ConfigurationError(f"{image.path / wrong[1]} {wrong[0]}: {_MEND}", field="image_dir")
    return MicrovmParts(image.path / GUEST, image.path / MACHINE)


def _list_of(image: Image) -> list[Entry]:
    """Read the list of files, which has to be the one that the image is named after."""
    path = image.path / FILES
    try:
        text = path.read_bytes()
        entries = msgspec.json.decode(text, type=list[Entry])
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read ({error}): {_MEND}", field="image_dir") from None
    content = hashlib.sha256(text).hexdigest()
    name = _SUFFIX.sub("", image.path.name)
    # One that is being tried has no name yet.
    if content != image.manifest.content or name not in {BUILDING, content[:NAME_DIGITS]}:
        raise ConfigurationError(f"{path} is not the list that the image is named after: {_MEND}", field="image_dir")
    return entries


def _first_wrong(root: Path, part: str, entries: list[Entry]) -> tuple[str, str] | None:
    """Give what is wrong and where; ``None``: nothing."""
    expected = [each for each in entries if each.path == part or each.path.startswith(f"{part}/")]
    if not expected:
        return "is missing", part
    try:
        found = list_tree(root, only=part)
    except (OSError, ImageError) as error:
        return f"cannot be compared ({error})", part
    wrong = differences(expected, found)
    words = {"wrong": "is not as it was built", "missing": "is missing", "extra": "was not built"}
    faults = sorted((path, words[kind]) for kind, paths in wrong.items() for path in paths)
    faults = faults or sorted((path, "does not belong to root") for path in _of_others(root, part))
    return (faults[0][1], faults[0][0]) if faults else None


def _of_others(root: Path, part: str) -> Iterator[str]:
    """Give what another user than this process's could write."""
    for directory, names, files in os.walk(root / part):
        for path in (Path(directory), *(Path(directory, name) for name in (*names, *files))):
            if path.lstat().st_uid != os.geteuid():
                yield str(path.relative_to(root))

"""What an image says of itself, and how the current one is found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from supervisor.errors import ConfigurationError

FORMAT: Final = 2
MANIFEST: Final = "manifest.json"
FILES: Final = "files.json"
CURRENT: Final = "current"
GUEST: Final = "guest"
"""What a virtual machine sees at ``/opt/gaoler``, if the image has it."""
MACHINE: Final = "machine"
"""The hypervisor's libraries, beside it."""
BUILDING: Final = "building"
"""What a build calls an image that has no name yet."""

Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
Base = Literal["host", "own"]
"""Whose ``/usr`` and ``/etc`` sandboxes see."""


class Selection(Struct, frozen=True, forbid_unknown_fields=True):
    """What was asked for, beside what every image has."""

    languages: list[str] = []
    """Names, or ``all``."""
    groups: list[str] = []
    debian: list[str] = []
    python: list[str] = []
    """As pip calls them, with or without a version."""
    npm: list[str] = []
    base: Base = "host"
    suite: str = ""
    """Of Debian, for an own root; empty: the host's."""
    microvm: bool = False
    """The image has what virtual machines are made of: ``guest`` and ``machine``."""


class LanguageRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """A language as it was found when the image was built."""

    version: str = ""
    packages: dict[str, str] = {}
    tools: dict[str, str] = {}
    """For each tool's path inside a sandbox what it was: where it leads to, its size and when it was changed."""
    tried: bool = False
    """Its smoke test ran in a sandbox of this image."""


class GroupRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """A group of programs that the image has."""

    title: str
    programs: list[str] = []


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """``manifest.json`` of an image."""

    format: Annotated[int, Meta(ge=FORMAT, le=FORMAT)]
    inputs: Digest
    """Of everything that decided what the image would be."""
    content: Digest
    """Of every file: :func:`supervisor.image.tree.content_of`."""
    base: Base
    suite: str
    python: str
    selection: Selection
    languages: dict[str, LanguageRecord]
    groups: dict[str, GroupRecord]
    layers: list[str]
    """The directories below ``layers`` that it was put together from."""


@dataclass(frozen=True, slots=True)
class Image:
    """A complete image."""

    path: Path
    manifest: Manifest

    @property
    def local(self) -> Path:
        """What sandboxes see as ``/usr/local``."""
        return self.path / "local"

    @property
    def usr(self) -> Path:
        """What they see as ``/usr``."""
        return self.path / "root" / "usr" if self.manifest.base == "own" else Path("/usr")

    @property
    def etc(self) -> Path:
        """What their ``/etc`` is made from."""
        return self.path / "root" / "etc" if self.manifest.base == "own" else Path("/etc")


def current_image(directory: Path) -> Image | None:
    """Read which image is current; ``None`` if there is none.

    Raises:
        ConfigurationError: there is one, but its manifest is broken, or of another version of Gaoler.
    """
    link = directory / CURRENT
    return read_image(link.resolve()) if link.exists() else None


def read_image(path: Path) -> Image:
    """Read an image.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        return Image(path, msgspec.json.decode((path / MANIFEST).read_bytes(), type=Manifest))
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigurationError(
            f"{path} is no image of this version ({error}): run 'gaoler image build'", field="image_dir"
        ) from None

"""What the operator has installed for every sandbox, as it is written down beside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from supervisor.errors import ConfigurationError, InvalidRequest
from supervisor.packages.names import NODE_PATTERN, PYTHON_PATTERN

MANIFEST: Final = "manifest.json"
_PYTHON: Final = re.compile(PYTHON_PATTERN)
_NODE: Final = re.compile(NODE_PATTERN)

Requirement = Annotated[str, Meta(max_length=300)]


class Wanted(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be installed, as pip and npm call it."""

    python: list[Requirement] = []
    node: list[Requirement] = []

    def check(self) -> None:
        """Check the form of every name: they become arguments.

        Raises:
            InvalidRequest: one is none.
        """
        for kind, pattern, names in (("python", _PYTHON, self.python), ("node", _NODE, self.node)):
            for name in names:
                if not pattern.fullmatch(name):
                    raise InvalidRequest(f"{name!r} is no name of a package, with or without a version", field=kind)


def read_manifest(directory: Path | None) -> Wanted:
    """Give what is installed in a directory of packages; nothing in none.

    Raises:
        ConfigurationError: the manifest is broken.
    """
    if directory is None:
        return Wanted()
    try:
        return msgspec.json.decode((directory / MANIFEST).read_bytes(), type=Wanted)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigurationError(
            f"{directory / MANIFEST}: {error}: remove {directory.parent}", field="state_dir"
        ) from None


def read_added(directory: Path | None) -> dict[str, dict[str, str]]:
    """Give the same as versions by name, by the kinds of :class:`supervisor.runtimes.catalogue.Packages`.

    Raises:
        ConfigurationError: the manifest is broken.
    """
    wanted = read_manifest(directory)
    return {
        "python": dict(_named(each) for each in wanted.python),
        "npm": dict(_named(each) for each in wanted.node),
    }


def bare(requirement: str) -> str:
    """Give the name without version and extras, as both managers compare names."""
    return _split(requirement)[0].lower().replace("_", "-")


def _named(requirement: str) -> tuple[str, str]:
    """Give name and version; a version that is not one exactly is not known."""
    name, rest = _split(requirement)
    exact = re.fullmatch(r"(?:==|@)([0-9][A-Za-z0-9.+-]*)", rest)
    return name, exact[1] if exact else ""


def _split(requirement: str) -> tuple[str, str]:
    found = re.match(r"(@?[^\[<>=!~@]*)(?:\[[^\]]*\])?(.*)", requirement, re.DOTALL)
    assert found is not None
    return found[1], found[2]

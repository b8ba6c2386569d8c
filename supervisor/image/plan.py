"""What to build, and where."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.image.manifest import Selection
from supervisor.image.steps import ImageError
from supervisor.runtimes.catalogue import NPM_PROJECTS, Group, Language, load_groups, load_languages

SANDBOX_FILES: Final = Path(__file__).resolve().parent.parent / "runtimes" / "python"
PACKAGES: Final = SANDBOX_FILES / "packages.lock"
HOST_PACKAGES: Final = ("python3", "python3-venv", "catatonit")
"""What building and the daemon need of Debian."""
SANDBOX_PACKAGES: Final = ("graphviz", "fonts-dejavu-core", "fonts-liberation")
"""What programs in every sandbox find."""
ALWAYS: Final = ("python", "bash")
"""Languages that nobody has to ask for."""
NOTHING: Final = Selection()
"""Nothing is asked for: what every image has."""


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """What to build, and where. ``python`` is the interpreter that sandboxes will run."""

    directory: Path
    selection: Selection = NOTHING
    python: Path = Path("/usr/bin/python3")
    requirements: Path = PACKAGES
    debian_packages: tuple[str, ...] = (*HOST_PACKAGES, *SANDBOX_PACKAGES)
    """What every image needs of the host."""
    languages: tuple[Language, ...] = ()
    groups: tuple[Group, ...] = ()
    npm: Path = NPM_PROJECTS
    fresh: bool = False
    """Every layer is made again."""


def plan_of(directory: Path, selection: Selection, *, fresh: bool = False) -> ImagePlan:
    """Plan an image with the languages and groups that Gaoler knows."""
    return ImagePlan(directory, selection, languages=load_languages(), groups=load_groups(), fresh=fresh)


def python_version(python: Path) -> str:
    """Read the version from where the interpreter leads to; starting it would cost every start of the daemon 20 ms.

    Raises:
        ImageError: it leads elsewhere.
    """
    name = python.resolve().name
    if not re.fullmatch(r"python3\.\d+", name):
        raise ImageError(f"{python} does not lead to a python3.N: install Debian's python3")
    return name.removeprefix("python")

"""What an image stands on: the host's ``/usr`` and ``/etc``, or a root of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from supervisor.image import debian
from supervisor.image.inside import Inside
from supervisor.image.layers import Layer
from supervisor.image.manifest import Base
from supervisor.image.own_root import STATUS
from supervisor.image.plan import python_version

_NOWHERE = Path("/nonexistent")


@dataclass(frozen=True, slots=True)
class Ground:
    """The trees below an image, and what Debian has installed there."""

    base: Base
    usr: Path
    etc: Path
    packages: Mapping[str, str]
    """Versions of Debian's packages, by name."""
    root: Layer | None = None
    """Where it is the image's own."""

    @property
    def key(self) -> str:
        """Of an own root; the host's programs are told one by one."""
        return self.root.path.name if self.root is not None else ""

    def find(self, names: Sequence[str]) -> str | None:
        """Give the path inside of the first of these programs that is there."""
        return self._inside.find(names)

    def identities(self, tools: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """Say for each of the tools that are here what is there."""
        found = filter(None, map(self.find, tools.values()))
        return {path: self._inside.identity(path) for path in found}

    def python_version(self) -> str:
        """Give the version of the Python that sandboxes will run."""
        return python_version(self.usr / "bin" / "python3")

    @property
    def _inside(self) -> Inside:
        return Inside(_NOWHERE, self.usr, self.etc)


def host_ground() -> Ground:
    """Give the host as it is now."""
    return Ground("host", Path("/usr"), Path("/etc"), debian.installed_versions())


def own_ground(root: Layer) -> Ground:
    """Give a root of the image's own."""
    tree = root.path / "root"
    return Ground("own", tree / "usr", tree / "etc", debian.installed_versions(tree / STATUS), root)

"""Where paths inside a sandbox are on the host: links are followed as the sandbox would, not as the host does."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.image.manifest import Image

SEARCH: Final = ("/usr/local/bin", "/usr/bin")
"""As in the PATH of every sandbox; ``/bin`` is a link to the second."""
_MERGED: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_MAX_LINKS: Final = 40


@dataclass(frozen=True, slots=True)
class Inside:
    """The trees that a sandbox sees, as they are on the host."""

    local: Path
    usr: Path
    etc: Path

    def place(self, path: str) -> Path | None:
        """Give the file that a sandbox would find at ``path``, if there is one. It is no link."""
        todo, done, links = path.split("/"), list[str](), 0
        while todo:
            part = todo.pop(0)
            if part in {"", "."}:
                continue
            if part == "..":
                done = done[:-1]
                continue
            if not done and part in _MERGED:
                done = ["usr"]
            done.append(part)
            here = self._on_host(done)
            if here is not None and here.is_symlink():
                links += 1
                if links > _MAX_LINKS:
                    return None
                target = str(here.readlink())
                done = [] if target.startswith("/") else done[:-1]
                todo = [*target.split("/"), *todo]
        found = self._on_host(done)
        return found if found is not None and found.exists() else None

    def find(self, names: Sequence[str]) -> str | None:
        """Give the path inside of the first of these programs that is there; a path names itself."""
        paths = (posixpath.join(directory, name) for name in names for directory in SEARCH)
        return next((path for path in paths if self.place(path) is not None), None)

    def identity(self, path: str) -> str:
        """Say what is at ``path``: another program, or another version of it, gives something else."""
        found = self.place(path)
        if found is None:
            return ""
        status = found.stat()
        return f"{found.name} {status.st_size} {status.st_mtime_ns}"

    def _on_host(self, parts: Sequence[str]) -> Path | None:
        match parts:
            case ["usr", "local", *rest]:
                return self.local.joinpath(*rest)
            case ["usr", *rest]:
                return self.usr.joinpath(*rest)
            case ["etc", *rest]:
                return self.etc.joinpath(*rest)
            case _:
                return None


def inside(image: Image) -> Inside:
    """Give the trees of an image."""
    return Inside(image.local, image.usr, image.etc)

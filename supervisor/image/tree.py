"""Trees of files as values: listed, compared by a hash, and put together out of layers by hard links."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from supervisor.image.steps import ImageError

SHOWN: Final = 5
"""Paths that a message names at most."""


class Entry(Struct, frozen=True, array_like=True, order=True):
    """One file, directory or link; ``path`` is relative to the tree."""

    path: str
    kind: Literal["file", "directory", "link"]
    mode: int
    size: int
    value: str
    """SHA-256 of a file's content; a link's target."""


def list_tree(root: Path, leave_out: Sequence[str] = (), only: str | None = None) -> list[Entry]:
    """List all that is below ``root``, sorted; ``leave_out`` are names directly in it, ``only`` is the one to list.

    Raises:
        ImageError: something is neither file nor directory nor link.
    """
    return sorted(_entries(root, "", lambda name: name in leave_out or only not in {None, name}))


def _entries(directory: Path, prefix: str, left_out: Callable[[str], bool]) -> Iterator[Entry]:
    with os.scandir(directory) as found:
        for each in found:
            if not prefix and left_out(each.name):
                continue
            path = prefix + each.name
            status = each.stat(follow_symlinks=False)
            mode = stat.S_IMODE(status.st_mode)
            if stat.S_ISDIR(status.st_mode):
                yield Entry(path, "directory", mode, 0, "")
                yield from _entries(Path(each.path), f"{path}/", left_out)
            elif stat.S_ISLNK(status.st_mode):
                yield Entry(path, "link", 0, 0, str(Path(each.path).readlink()))
            elif stat.S_ISREG(status.st_mode):
                yield Entry(path, "file", mode, status.st_size, _sha256(each.path))
            else:
                raise ImageError(f"{each.path} is neither a file nor a directory nor a link: no image may have it")


def _sha256(path: str) -> str:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a path object for each file of an image costs a second
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_of(entries: Sequence[Entry]) -> str:
    """Hash a listing: the identity of the tree."""
    return hashlib.sha256(msgspec.json.encode(sorted(entries))).hexdigest()


def merged(layers: Mapping[str, Sequence[Entry]]) -> list[Entry]:
    """Put the listings of layers together; directories may be in several.

    Raises:
        ImageError: two layers both have a path, or differ in a directory's mode; the message names all three.
    """
    owners: dict[str, tuple[str, Entry]] = {}
    clashes: list[str] = []
    for name, entries in layers.items():
        for entry in entries:
            owner, there = owners.setdefault(entry.path, (name, entry))
            if there is not entry and (entry.kind, there) != ("directory", entry):
                clashes.append(f"{entry.path} (in {owner} and {name})")
    if clashes:
        more = f", and {len(clashes) - SHOWN} more" if len(clashes) > SHOWN else ""
        raise ImageError(f"two layers have the same file: {', '.join(clashes[:SHOWN])}{more}")
    return sorted(entry for _, entry in owners.values())


def link_tree(source: Path, entries: Sequence[Entry], target: Path) -> None:
    """Make what ``entries`` list of ``source`` appear in ``target`` too; files by hard links. Both on one disk.

    Raises:
        OSError: a file cannot be linked.
    """
    for entry in entries:
        path = target / entry.path
        if entry.kind == "directory":
            path.mkdir(mode=0o755, exist_ok=True)
            path.chmod(entry.mode)
        elif entry.kind == "link":
            path.symlink_to(entry.value)
        else:
            os.link(source / entry.path, path)


def make_plain(root: Path) -> None:
    """Let everybody read all below ``root``, and nobody but root write; programs stay programs, set-user-ID goes."""
    for directory, names, files in os.walk(root):
        Path(directory).chmod(0o755)
        for name in (*files, *names):
            path = Path(directory, name)
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                path.chmod(0o755 if status.st_mode & stat.S_IXUSR else 0o644)
            if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                os.chown(path, os.geteuid(), os.getegid(), follow_symlinks=False)


def differences(expected: Sequence[Entry], found: Sequence[Entry]) -> dict[str, list[str]]:
    """Compare two listings: the paths that are ``wrong``, ``missing`` or ``extra``."""
    before = {entry.path: entry for entry in expected}
    after = {entry.path: entry for entry in found}
    both = before.keys() & after.keys()
    return {
        "wrong": sorted(path for path in both if before[path] != after[path]),
        "missing": sorted(before.keys() - after.keys()),
        "extra": sorted(after.keys() - before.keys()),
    }

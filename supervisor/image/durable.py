"""Renames that a lost host does not betray: what has its final name has its content on the disk too."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

_libc: Final = ctypes.CDLL(None, use_errno=True)


def rename_whole(source: Path, target: Path) -> None:
    """Rename a tree that is complete, once all of it is on the disk; and have the new name there as well.

    One call for the whole file system: for each of ten thousands of files it would take minutes. Files that others
    write there at the moment are waited for too.

    Raises:
        OSError: what was written cannot be kept, or the name cannot be given.
    """
    flush(source)
    source.rename(target)
    keep_names(target.parent)


def keep_names(directory: Path) -> None:
    """Have on the disk which names a directory has.

    Raises:
        OSError: it cannot be kept.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def flush(tree: Path) -> None:
    """Wait for all that was written to the file system of ``tree`` (``syncfs``)."""
    fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(fd) < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{tree}: {os.strerror(number)}")
    finally:
        os.close(fd)

"""The directory of images: who builds, which is current, which are in use, what may go."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from supervisor.image.durable import flush, keep_names, rename_whole
from supervisor.image.layers import remove_layers
from supervisor.image.manifest import CURRENT, MANIFEST, Image
from supervisor.image.steps import ImageError
from supervisor.jailer import kernel

NEEDED_BYTES: Final = 2 << 30
NAME_DIGITS: Final = 16
_NAME: Final = re.compile(r"[0-9a-f]{16}(\.[0-9a-f]{8})?")
"""The second part is of one whose name another has taken over while it was in use."""


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Let nobody else change the directory during the block.

    Raises:
        ImageError: somebody does already.
    """
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (directory / "build.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ImageError(f"another 'gaoler image' works in {directory}: wait for it, or end it") from None
        yield


def check_room(directory: Path) -> None:
    """Look for room for one more image.

    Raises:
        ImageError: there is too little.
    """
    free = shutil.disk_usage(directory).free
    if free < NEEDED_BYTES:
        raise ImageError(
            f"{directory} has {free >> 20} MiB free, {NEEDED_BYTES >> 20} MiB are needed: make room, or set image_dir"
        )


def publish(directory: Path, building: Path, image: Image) -> Image:
    """Give the image its name and switch the link; both are atomic. The build lock is held."""
    final = directory / image.manifest.content[:NAME_DIGITS]
    if final.exists():
        # The same files with another manifest, or one that a daemon still uses: it loses its name and nothing else.
        # Exchanged, so that the name leads to a complete image at every moment.
        flush(building)
        kernel.exchange(building, final)
        building.rename(directory / f"{final.name}.{os.urandom(4).hex()}")
    else:
        rename_whole(building, final)
    link = directory / f"{CURRENT}.new"
    link.unlink(missing_ok=True)
    link.symlink_to(final.name)
    link.rename(directory / CURRENT)
    keep_names(directory)
    return Image(final, image.manifest)


def hold(image: Image) -> int | None:
    """Keep an image from being removed for as long as the descriptor is open; ``None``: it is gone already.

    It is the manifest's, not the directory's: from an open directory a process climbs out of any view of the host.
    """
    try:
        fd = os.open(image.path / MANIFEST, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    fcntl.flock(fd, fcntl.LOCK_SH)
    if not os.fstat(fd).st_nlink:
        os.close(fd)
        return None
    return fd


def image_paths(directory: Path) -> list[Path]:
    """Give the directories of all images that are there."""
    if not directory.is_dir():
        return []
    return [path for path in sorted(directory.resolve().iterdir()) if _NAME.fullmatch(path.name)]


def remove_unused(directory: Path) -> list[str]:
    """Remove the images that are neither current nor held by a daemon; give their names. The build lock is held."""
    current = (directory / CURRENT).resolve()
    return [path.name for path in image_paths(directory) if path != current and remove_unless_held(path)]


def remove_unless_held(path: Path) -> bool:
    """Remove an image and say so, or leave it because a daemon uses it. The build lock is held."""
    with ExitStack() as locks:
        try:
            # Daemons of before hold the directory.
            _lock_alone(path, os.O_DIRECTORY, locks)
            _lock_alone(path / MANIFEST, 0, locks)
        except BlockingIOError:
            return False
        # First what makes it an image, so that nobody begins to use it.
        (path / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(path)
        return True


def is_held(path: Path) -> bool:
    """Say whether a daemon uses an image."""
    with ExitStack() as locks:
        try:
            _lock_alone(path, os.O_DIRECTORY, locks)
            _lock_alone(path / MANIFEST, 0, locks)
        except BlockingIOError:
            return True
        return False


def tidy(directory: Path, image: Image) -> None:
    """Remove what a complete ``image`` makes superfluous. The build lock is held."""
    remove_unused(directory)
    remove_layers(directory, set(image.manifest.layers))


def _lock_alone(path: Path, kind: int, locks: ExitStack) -> None:
    """Lock what is there, until ``locks`` are closed.

    Raises:
        BlockingIOError: somebody holds it.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | kind)
    except FileNotFoundError:
        return
    locks.callback(os.close, fd)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

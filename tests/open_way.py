"""For programs of this checkout that are run by others than root, where it lies in a home that is root's alone.

    python -m tests.open_way PROGRAM [ARGUMENT]...

As root. In a mount namespace of its own the first directory that others may not enter has an empty one over it, with
nothing but the checkout in its place. The program is started by ``execvp``: its pid is the one that was started.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from supervisor.jailer import kernel

_CHECKOUT: Final = Path(__file__).resolve().parent.parent
OPEN_WAY: Final = (sys.executable, "-m", "tests.open_way")
"""What is put before a command line, in the checkout as working directory."""


def main(command: Sequence[str]) -> None:
    """Become the program."""
    closed = [each for each in reversed(_CHECKOUT.parents) if not each.stat().st_mode & 0o001]
    if closed:
        directory = Path.cwd()
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
        here = os.open(_CHECKOUT, os.O_PATH)
        kernel.mount("tmpfs", str(closed[0]), "tmpfs", 0, "mode=755")
        _CHECKOUT.mkdir(mode=0o755, parents=True)
        kernel.bind(f"/proc/self/fd/{here}", str(_CHECKOUT))
        os.close(here)
        os.chdir(directory)
    os.execvp(command[0], list(command))


if __name__ == "__main__":
    main(sys.argv[1:])

"""What a person typed, kept for the next time in a file of their own."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

MOST_LINES: Final = 2000
_FILE: Final = Path(".local/state/gaoler/shell_history")


@contextmanager
def kept_history() -> Iterator[None]:
    """Have readline know what was typed before, for the block, and keep what is typed in it.

    The file is in the home of whoever we are, whatever the environment says: below sudo that is root's. One that cannot
    be read or written is no reason not to work.
    """
    import readline

    path = Path(pwd.getpwuid(os.geteuid()).pw_dir) / _FILE
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        readline.read_history_file(path)
    readline.set_history_length(MOST_LINES)
    try:
        yield
    finally:
        with suppress(OSError):
            readline.write_history_file(path)

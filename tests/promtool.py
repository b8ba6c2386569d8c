"""Prometheus' own judge of figures, rules and configurations, if it is here: ``make tools`` takes it from Debian's package."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.daemon import ROOT

_OURS = ROOT / ".cache" / "prometheus" / "promtool"
PROMTOOL = shutil.which("promtool") or (str(_OURS) if _OURS.exists() else None)
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not here: make tools")


def promtool(*arguments: str | Path, given: str = "") -> tuple[int, str]:
    """Run it: its status, and all that it says."""
    assert PROMTOOL is not None
    command = [PROMTOOL, *map(str, arguments)]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr

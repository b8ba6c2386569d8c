"""What the tests of this door share beside the daemon of all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon, daemon_with


@pytest.fixture(scope="package")
def lenient(image_dir: Path) -> Iterator[Daemon]:
    """A daemon that gives code which is interrupted as long to end as a busy machine may keep it from doing so."""
    with daemon_with(image_dir, {"GAOLER_LIVE_INTERRUPT_SECONDS": "20"}) as running:
        yield running

"""One daemon for all tests of operators that do not harm it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon, daemon_with


@pytest.fixture(scope="package")
def daemon(image_dir: Path) -> Iterator[Daemon]:
    with daemon_with(image_dir, {"GAOLER_ADMIN_FOLLOWERS": "2"}) as running:
        yield running

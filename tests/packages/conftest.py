"""What tests of packages share: the pack of documents that the example makes, once, and what the image has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.image import current_image
from tests.daemon import KEY, Daemon

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "document-pack"


@pytest.fixture(scope="session")
def javascript(image_dir: Path) -> Path:
    """Where the image has the packages of JavaScript; a test that uses it is skipped by name when it has none."""
    image = current_image(image_dir)
    assert image is not None
    packages = image.local / "lib" / "npm" / "javascript"
    if not packages.is_dir():
        pytest.skip("the image has no JavaScript packages: gaoler image build --languages javascript")
    return packages


@pytest.fixture(scope="session")
def typescript(image_dir: Path, javascript: Path) -> None:
    """Skips a test, by name, when there is no TypeScript."""
    assert javascript.is_dir()
    image = current_image(image_dir)
    assert image is not None
    if "typescript" not in image.manifest.languages:
        pytest.skip("TypeScript is not installed: gaoler image build --languages typescript")


@pytest.fixture(scope="session")
def r(image_dir: Path) -> None:
    """Skips a test, by name, when there is no R."""
    image = current_image(image_dir)
    assert image is not None
    if not (image.usr / "bin" / "Rscript").exists():
        pytest.skip("R is not installed: gaoler image build --languages r")


@pytest.fixture(scope="session")
def groups(image_dir: Path) -> frozenset[str]:
    """The groups of programs that the image has."""
    image = current_image(image_dir)
    assert image is not None
    return frozenset(image.manifest.groups)


@pytest.fixture(scope="session")
def pack(daemon: Daemon, javascript: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documents, in a directory for each language that made them."""
    assert javascript.is_dir()
    directory = tmp_path_factory.mktemp("pack")
    done = subprocess.run(
        [sys.executable, EXAMPLE / "conversation.py", daemon.base_url, directory],
        env={"PATH": os.environ["PATH"], "GAOLER_API_KEY": KEY},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return directory

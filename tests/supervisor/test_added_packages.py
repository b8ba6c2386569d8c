"""Packages that an operator has added to the image: hostile ones are as confined as what imports them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from supervisor.image import current_image
from supervisor.image.manifest import CURRENT
from tests.daemon import daemon_with

pytestmark = pytest.mark.root

EVIL = """
rights = [line for line in open("/proc/self/status") if line.startswith(("CapEff", "CapPrm"))]
"""
SEEN = """
import sys
loaded = sorted({"evil", "bottleneck"} & set(sys.modules))
import bottleneck, evil
print(loaded, [line.split()[1] for line in (*bottleneck.rights, *evil.rights)])
"""


@pytest.mark.parametrize("stateful", [False, True])
def test_their_code_runs_only_in_sandboxes(image_dir: Path, tmp_path: Path, *, stateful: bool) -> None:
    """What a preimported library would import too (pandas: bottleneck), and what every start of Python runs."""
    image = current_image(image_dir)
    assert image is not None
    images = image_dir.parent / f"{image_dir.name}-{tmp_path.name}"
    copy = images / image.path.name
    try:
        shutil.copytree(image.path, copy, symlinks=True, copy_function=os.link)
        (images / CURRENT).symlink_to(copy.name)
        added = copy / "local" / "lib" / f"python{image.manifest.python}" / "added-packages"
        added.mkdir(exist_ok=True)
        (added / "evil.py").write_text(EVIL)
        (added / "bottleneck.py").write_text(EVIL)
        (added / "evil.pth").write_text("import evil\n")
        with daemon_with(images, {}) as daemon:
            said = daemon.execute(SEEN, stateful=stateful)
    finally:
        shutil.rmtree(images)
    assert said["stdout"] == f"['evil'] {['0' * 16] * 4}\n", said

"""Debian packages on the host: which are missing, and how they come."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from supervisor.image.progress import BuildProgress
from supervisor.image.steps import ImageError, Runner, advance_on, ignore

STATUS: Final = Path("/var/lib/dpkg/status")


def installed_versions(status: Path = STATUS) -> dict[str, str]:
    """Give the version of every installed package, from dpkg's own file; nothing where there is none.

    Asking dpkg-query takes longer than a daemon's start should. The state counts, not the presence: of a package that
    was removed but not purged its record stays.
    """
    if not status.exists():
        return {}
    found: dict[str, str] = {}
    for record in status.read_text(errors="replace").split("\n\n"):
        fields = dict(re.findall(r"^(Package|Status|Version): (.*)$", record, re.MULTILINE))
        if fields.get("Status", "").endswith(" ok installed"):
            found[fields["Package"]] = fields.get("Version", "")
    return found


def install(missing: Sequence[str], progress: BuildProgress, run: Runner) -> None:
    """Install packages on the host.

    Raises:
        ImageError: there is no apt, or it failed.
    """
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise ImageError(f"missing on this host: {', '.join(missing)}; install what your distribution calls them")
    with progress.step(f"Installing {', '.join(missing)}") as step:
        apt = ["apt-get", "-y", "-q", "-o", "Dpkg::Use-Pty=0"]
        run([*apt, "update"], ignore)
        run([*apt, "install", "--no-install-recommends", *missing], advance_on("Setting up", step.advance))

"""Whether this host gives virtual machines, as far as can be told without booting one.

Nothing found here is no proof: ``gaoler doctor --microvm`` boots one (:mod:`supervisor.microvm.probe`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from supervisor.image.manifest import GUEST, MACHINE
from supervisor.microvm.findings import BUILD, HostFacts, Missing, look, missing_libraries, missing_on_host
from supervisor.microvm.krun import FaultKind, Libraries, MachineFault, find_libraries
from supervisor.settings.sandboxes import MicrovmSettings

_SWITCHED_OFF: Final = "this server's settings do not switch it on (microvm.enabled)"


def missing(settings: MicrovmSettings, image: Path, facts: HostFacts) -> Iterator[Missing]:
    """Say what a virtual machine lacks; ``image`` is the directory of one runtime image."""
    yield from missing_on_host(facts)
    if not (image / GUEST).is_dir():
        yield Missing("guest", "the runtime image has no guest", BUILD)
    yield from missing_libraries(facts, lambda: _libraries(settings, image))


def _libraries(settings: MicrovmSettings, image: Path) -> Libraries:
    """Find them where a machine would have them from.

    Raises:
        MachineFault: one is not there.
    """
    for key, path in (("library", settings.library), ("kernel", settings.kernel)):
        if path and not Path(path).is_file():
            kind: FaultKind = "kernel-missing" if key == "kernel" else "library-missing"
            raise MachineFault(kind, f"microvm.{key} = {path}: there is no such file")
    if settings.library and settings.kernel:
        return Libraries(Path(settings.library), Path(settings.kernel))
    of_image = find_libraries([image / MACHINE])
    return Libraries(
        Path(settings.library) if settings.library else of_image.hypervisor,
        Path(settings.kernel) if settings.kernel else of_image.kernel,
    )


def why_not(settings: MicrovmSettings, image: Path) -> str:
    """Say why there are no virtual machines, in a clause; empty: nothing speaks against them."""
    if not settings.enabled:
        return _SWITCHED_OFF
    return "; ".join(each.found for each in missing(settings, image, look()))

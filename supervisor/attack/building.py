"""The hostile programs that try the kernel's surface, run where a build runs code of packages."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from supervisor.attack.programs import CONTAINED, HERE, PROGRAMS
from supervisor.image.enclosed import Spec, environment_with, run_enclosed
from supervisor.image.python_layer import PYTHON
from supervisor.image.steps import ImageError, run_program

TRIED: Final = (
    *("k1_ptrace", "k2_process_vm", "k3_bpf_perf", "k4_userfaultfd", "k5_io_uring", "k6_keyrings"),
    *("k7_new_namespaces", "k8_clone3", "k9_every_namespace", "k9_setns", "k10_mounts", "k11_chroot", "k13_sockets"),
    *("k15_machine", "k16_memfd", "k17_terminal", "k25_vmsplice", "k26_inotify", "r11_sync", "seccomp_default"),
)
"""Programs of Python whose end hangs on the filter, not on what else a sandbox is."""
_SHOWN_CHARACTERS: Final = 400


def try_in_build(name: str) -> str:
    """Run a hostile program as what a build runs; give what got through, or nothing. Blocks; needs root."""
    code = (HERE / "prelude.py").read_text(encoding="utf-8") + (PROGRAMS / f"{name}.py").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="gaoler-attack-") as directory:
        local = Path(directory, "local")
        local.mkdir()
        try:
            run_enclosed(
                run_program, _spec(local, ["sh", "-c", 'exec "$0" -I -c "$1" > /usr/local/said', PYTHON, code])
            )
        except ImageError as error:
            return _said(local) or f"it did not come to its end: {error}"[:_SHOWN_CHARACTERS]
        said = _said(local)
    return "" if said == CONTAINED else said or "it said nothing"


def _spec(local: Path, command: Sequence[str]) -> Spec:
    return Spec("/usr", "/etc", str(local), [], list(command), environment_with())


def _said(local: Path) -> str:
    said = local / "said"
    return said.read_text(encoding="utf-8", errors="replace").strip()[:_SHOWN_CHARACTERS] if said.exists() else ""

"""Is a process that joined a jail what nsjail would have made of it? The jail's init, nsjail's own child, is the model.

Asked before the first job of every waiting interpreter: a step of joining that was forgotten, or that a new kernel
does not do, ends that sandbox instead of weakening it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

STATUS_FIELDS: Final = (
    "Umask",
    "Uid",
    "Gid",
    "Groups",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
    "Speculation_Store_Bypass",
    "SpeculationIndirectBranch",
    "Cpus_allowed",
    "Mems_allowed",
)
_NAMESPACES: Final = ("user", "pid", "mnt", "net", "ipc", "uts", "cgroup")
_FILTERS: Final = "Seccomp_filters"
_NO_CAPABILITY: Final = "0000000000000000"
_WANTED: Final = {
    "CapInh": _NO_CAPABILITY,
    "CapPrm": _NO_CAPABILITY,
    "CapEff": _NO_CAPABILITY,
    "CapBnd": _NO_CAPABILITY,
    "CapAmb": _NO_CAPABILITY,
    "NoNewPrivs": "1",
    "Seccomp": "2",
}


def describe(pid: int) -> Mapping[str, str]:
    """Read what the kernel says about the rights of a process.

    Raises:
        OSError: it is gone.
    """
    base = f"/proc/{pid}/"
    lines = dict(line.split(":", 1) for line in _read(base + "status").splitlines())
    found: dict[str, str] = {name: lines[name].strip() for name in STATUS_FIELDS if name in lines}
    found |= {f"namespace {name}": str(Path(f"{base}ns/{name}").readlink()) for name in _NAMESPACES}
    for name in ("cgroup", "limits", "oom_score_adj"):
        found[name] = _read(base + name)
    return found


def program_name(pid: int) -> str:
    """Read the name of what a process executes.

    Raises:
        OSError: it is gone.
    """
    return _read(f"/proc/{pid}/comm")


def difference(model: Mapping[str, str], joined: Mapping[str, str], *, narrowed: int = 0) -> str | None:
    """Name what differs, or what both lack; ``None`` if all is well.

    ``narrowed``: so many seccomp filters more than nsjail's own, which is the language's or none.
    """
    if narrowed and _FILTERS in model:
        model = {**model, _FILTERS: str(int(model[_FILTERS]) + narrowed)}
    for name, value in _WANTED.items():
        if joined.get(name) != value:
            return f"{name} is {joined.get(name)}, not {value}"
    for name, value in model.items():
        if joined.get(name) != value:
            return f"{name} is {joined.get(name)!r} and not {value!r}"
    return None


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")

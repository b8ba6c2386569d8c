"""Settings of how the daemon is operated: its log, and limits that stand before those of the policy."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct


def _meta(description: str, **rules: Any) -> Meta:
    return Meta(description=description, **rules)


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[log]``: what is written of what happens."""

    level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], _meta("least important log line that is written")
    ] = "INFO"
    format: Annotated[
        Literal["text", "json", "journal"],
        _meta("text: a line a record; json: one object a line; journal: records with fields for systemd's journal"),
    ] = "text"
    file: Annotated[
        str,
        _meta(
            "file in a directory of the daemon's own, /var/log/gaoler/gaoler.log say; empty: standard error",
            pattern=r"^$|^/.*[^/]$",
        ),
    ] = ""
    file_bytes: Annotated[int, _meta("the file is put aside when it has so many", ge=65_536, le=1 << 40)] = 100 << 20
    files: Annotated[int, _meta("files put aside that are kept, as FILE.1, FILE.2 and so on", ge=0, le=1000)] = 5
    access: Annotated[bool, _meta("a line for each request and each call of a tool (gaoler.access)")] = True
    security: Annotated[bool, _meta("a line for each refused credential and the like (gaoler.security)")] = True


class LimitsSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[limits]``: of the policy ``execution.policy``, instead of what its file says. 0: as it says."""

    wall_seconds: Annotated[float, _meta("one run; 0: the policy's", ge=0, le=86_400)] = 0.0
    cpu_cores: Annotated[float, _meta("processors that all its threads share; 0: the policy's", ge=0, le=1024)] = 0.0
    memory_bytes: Annotated[
        int, _meta("memory of a sandbox, swap off, at least 16 MiB; 0: the policy's", ge=0, le=1 << 44)
    ] = 0
    processes: Annotated[int, _meta("processes and threads of a sandbox; 0: the policy's", ge=0, le=1 << 22)] = 0
    file_bytes: Annotated[int, _meta("largest file a program can write; 0: the policy's", ge=0, le=1 << 40)] = 0
    workspace_bytes: Annotated[int, _meta("files at /mnt/data, in memory; 0: the policy's", ge=0, le=1 << 40)] = 0
    temporary_bytes: Annotated[
        int, _meta("/tmp and /dev/shm, each; less than memory_bytes; 0: the policy's", ge=0, le=1 << 40)
    ] = 0
    output_bytes: Annotated[
        int, _meta("kept of stdout and of stderr, at least 1024; 0: the policy's", ge=0, le=16 << 20)
    ] = 0

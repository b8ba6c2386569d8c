"""Settings of how the daemon is operated: its log, what it may take of its host, what operators and callers may do."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Struct

from supervisor.settings.meta import RATE_RULE, meta


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[log]``: what is written of what happens."""

    level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], meta("least important log line that is written")] = (
        "INFO"
    )
    format: Annotated[
        Literal["text", "json", "journal"],
        meta("text: a line a record; json: one object a line; journal: records with fields for systemd's journal"),
    ] = "text"
    file: Annotated[
        str,
        meta(
            "file in a directory of the daemon's own, /var/log/gaoler/gaoler.log say; empty: standard error",
            pattern=r"^$|^/.*[^/]$",
        ),
    ] = ""
    file_bytes: Annotated[int, meta("the file is put aside when it has so many", ge=65_536, le=1 << 40)] = 100 << 20
    files: Annotated[int, meta("files put aside that are kept, as FILE.1, FILE.2 and so on", ge=0, le=1000)] = 5
    access: Annotated[bool, meta("a line for each request and each call of a tool (gaoler.access)")] = True
    security: Annotated[bool, meta("a line for each refused credential and the like (gaoler.security)")] = True


class LimitsSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[limits]``: of the policy ``execution.policy``, instead of what its file says. 0: as it says."""

    wall_seconds: Annotated[float, meta("one run; 0: the policy's", ge=0, le=86_400)] = 0.0
    cpu_cores: Annotated[float, meta("processors that all its threads share; 0: the policy's", ge=0, le=1024)] = 0.0
    memory_bytes: Annotated[
        int, meta("memory of a sandbox, swap off, at least 16 MiB; 0: the policy's", ge=0, le=1 << 44)
    ] = 0
    processes: Annotated[int, meta("processes and threads of a sandbox; 0: the policy's", ge=0, le=1 << 22)] = 0
    file_bytes: Annotated[int, meta("largest file a program can write; 0: the policy's", ge=0, le=1 << 40)] = 0
    workspace_bytes: Annotated[int, meta("files at /mnt/data, in memory; 0: the policy's", ge=0, le=1 << 40)] = 0
    temporary_bytes: Annotated[
        int, meta("/tmp and /dev/shm, each; less than memory_bytes; 0: the policy's", ge=0, le=1 << 40)
    ] = 0
    output_bytes: Annotated[
        int, meta("kept of stdout and of stderr, at least 1024; 0: the policy's", ge=0, le=16 << 20)
    ] = 0


class HostSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[host]``: below these, new executions and uploads are refused with 503 until there is a quarter more again.

    Below twice what is said of memory, interpreters that nobody uses and cells that wait are given back. 0: not
    watched.
    """

    free_memory_bytes: Annotated[
        int, meta("free memory of the host, or room in a cgroup around the daemon", ge=0, le=1 << 50)
    ] = 256 << 20
    free_memory_percent: Annotated[float, meta("the same, of all memory of the host", ge=0, le=100)] = 2.0
    memory_stall_percent: Annotated[
        float,
        meta("of the time, everything waits for memory (PSI) while it is tight: refuse too; 100: never", gt=0, le=100),
    ] = 40.0
    free_disk_bytes: Annotated[
        int, meta("free disk space at state_dir; files.reserve_bytes is for what already runs", ge=0, le=1 << 50)
    ] = 512 << 20
    free_disk_inodes: Annotated[int, meta("files that can still be made at state_dir", ge=0, le=1 << 40)] = 10_000


class AdminSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[admin]``: what operators see and do."""

    followers: Annotated[int, meta("who follow executions as they happen, at once", ge=1, le=1000)] = 32
    audit_bytes: Annotated[int, meta("largest file of the record of what operators do", ge=4096, le=1 << 40)] = 16 << 20
    audit_files: Annotated[int, meta("files of it that are kept", ge=1, le=1000)] = 8


class UsageSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[usage]``: what each caller has used, day by day."""

    days: Annotated[int, meta("it is kept so long", ge=1, le=3660)] = 366


class RatesSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[rates]``: how often one user may call, as CALLS/SECONDS, or ``off``. The defaults are LibreChat's own."""

    exec: Annotated[str, meta("executions", pattern=RATE_RULE)] = "20/30"
    upload: Annotated[str, meta("uploads", pattern=RATE_RULE)] = "30/300"
    download: Annotated[str, meta("downloads", pattern=RATE_RULE)] = "60/60"
    listing: Annotated[str, meta("listings and questions about files and sessions", pattern=RATE_RULE)] = "120/60"
    shared_factor: Annotated[
        int, meta("a caller who names no user speaks for many, and may call so many times as often", ge=1, le=10_000)
    ] = 20

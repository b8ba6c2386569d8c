"""Settings of what runs and what is kept of it: executions, cells, lasting sessions, tools, files."""

from __future__ import annotations

from typing import Annotated

from msgspec import Struct

from supervisor.settings.meta import meta


class ExecutionSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[execution]``: how much runs at once."""

    policy: Annotated[
        str, meta("policy of every execution, a file of policies/sandbox", pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    ] = "default"
    concurrent: Annotated[int, meta("executions that run at once", ge=1, le=1024)] = 8
    concurrent_per_user: Annotated[int, meta("executions of one user that run at once", ge=1, le=1024)] = 6
    queue_length: Annotated[int, meta("executions that wait at most; more are refused with 429", ge=0, le=100_000)] = (
        128
    )
    queue_length_per_user: Annotated[int, meta("executions of one user that wait at most", ge=0, le=100_000)] = 64
    queue_seconds: Annotated[float, meta("longest wait in the queue before the refusal", gt=0, le=600)] = 30.0
    drain_seconds: Annotated[
        float, meta("a daemon or gateway that is stopped lets requests under way end for so long", ge=0, le=3600)
    ] = 20.0


class CellsSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[cells]``: sandboxes that are ready and wait."""

    floor: Annotated[int, meta("cells with a warm interpreter that wait at least", ge=0, le=1024)] = 8
    bare_floor: Annotated[int, meta("cells without one, for other languages, that wait at least", ge=0, le=1024)] = 4
    memory_bytes: Annotated[int, meta("what all waiting cells together may cost", ge=0, le=1 << 42)] = 512 << 20


class LiveSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[live]``: sessions that keep their interpreter."""

    sessions: Annotated[int, meta("interpreters kept at once; the longest unused goes first", ge=1, le=4096)] = 32
    sessions_per_user: Annotated[
        int, meta("of one user at once; then its own longest unused goes first", ge=1, le=4096)
    ] = 16
    idle_minutes: Annotated[float, meta("an unused interpreter is saved and ended after it", gt=0, le=24 * 60)] = 120.0
    state_bytes: Annotated[int, meta("largest saved state, compressed", ge=4096, le=1 << 32)] = 100 << 20
    archive_hours: Annotated[float, meta("a saved state is kept so long", gt=0, le=24 * 366)] = 24.0
    save_seconds: Annotated[float, meta("longest time that saving or restoring may take", gt=0, le=600)] = 20.0
    interrupt_seconds: Annotated[
        float, meta("after SIGINT, the time that code has to end before it is killed", gt=0, le=60)
    ] = 2.0
    process_minutes: Annotated[
        float, meta("a background program is killed after it; its session ends it sooner if unused", gt=0, le=24 * 60)
    ] = 120.0
    processes_per_user: Annotated[
        int, meta("background programs of one user at once, in all sessions; of one session 16", ge=0, le=100_000)
    ] = 48
    process_output_bytes: Annotated[
        int, meta("latest output of each background program that is kept", ge=4096, le=1 << 26)
    ] = 1 << 20


class ToolsSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[tools]``: programs that call their caller's tools, and wait for them."""

    waiting: Annotated[int, meta("such programs at once, each in a sandbox of its own", ge=1, le=4096)] = 64
    waiting_per_user: Annotated[int, meta("of one user", ge=1, le=4096)] = 16
    held_bytes: Annotated[
        int, meta("results of all of them that are held, in case one has to be run again", ge=1 << 20, le=1 << 40)
    ] = 256 << 20
    token_seconds: Annotated[float, meta("how long a program waits for the results of its calls", gt=0, le=3600)] = (
        600.0
    )


class FilesSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[files]``: what is kept of uploads and results."""

    retention_hours: Annotated[float, meta("a session's files go so long after its last use", gt=0, le=24 * 366)] = 24.0
    sweep_minutes: Annotated[float, meta("how often expired sessions are looked for", gt=0, le=24 * 60)] = 5.0
    file_bytes: Annotated[int, meta("largest upload or result file", ge=1, le=1 << 40)] = 150 << 20
    files_per_session: Annotated[int, meta("most files that a session holds", ge=1, le=100_000)] = 1000
    session_bytes: Annotated[int, meta("most bytes that a session holds", ge=1, le=1 << 42)] = 1 << 30
    user_bytes: Annotated[
        int, meta("most bytes that all sessions of a user hold, with saved states and packages", ge=1, le=1 << 50)
    ] = 10 << 30
    user_sessions: Annotated[int, meta("most sessions with files of a user", ge=1, le=1 << 40)] = 10_000
    tenant_bytes: Annotated[int, meta("most bytes that a tenant's users hold together", ge=1, le=1 << 60)] = 200 << 30
    result_files: Annotated[int, meta("most new files kept of one execution", ge=0, le=4096)] = 100
    packages_bytes: Annotated[
        int, meta("most bytes of packages (.packages, node_modules) that a session keeps; 0: none", ge=0, le=1 << 40)
    ] = 192 << 20
    remove_orphans: Annotated[
        bool, meta("bytes that nothing names any more are removed when sessions are looked for")
    ] = True
    reserve_bytes: Annotated[int, meta("free disk space below which nothing at all is stored", ge=0, le=1 << 42)] = (
        256 << 20
    )

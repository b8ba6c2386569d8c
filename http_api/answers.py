"""From an execution's result to the answer that LibreChat's clients understand. Pure.

The clients show the model nothing but ``stdout`` and ``stderr``, so whatever it has to know is said in ``stderr`` too.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, assert_never

from supervisor.execution.values import (
    Cancelled,
    ExecutionResult,
    Exited,
    FileReference,
    Outcome,
    OutOfMemory,
    OutputLimit,
    ResultFile,
    Signalled,
    StoredFile,
    TimedOut,
)
from supervisor.execution.wording import explanation, signal_name, skip_notes


def execution(result: ExecutionResult) -> dict[str, Any]:
    """Build the flat answer of ``POST /exec``."""
    code, signal_name, status = _codes(result.outcome)
    stderr = result.stderr.text()
    notes = [note for note in (explanation(result.outcome, result.phase), *result.notes, *skip_notes(result)) if note]
    if notes:
        stderr += ("" if not stderr or stderr.endswith("\n") else "\n") + "".join(
            f"[gaoler] {note}\n" for note in notes
        )
    runtime: dict[str, Any] = {}
    if result.runtime is not None:
        status_word = "reused" if result.runtime.status == "reused" else "new"
        runtime = {
            "runtime_session_id": result.runtime.session_id,
            # LibreChat knows two words; whether a new one got its variables back is said beside it.
            "runtime_status": status_word,
            "runtime_restored": result.runtime.status == "restored",
            "runtime_state_lives": result.runtime.state_lives,
        }
    return runtime | {
        "session_id": result.session_id,
        "stdout": result.stdout.text(),
        "stderr": stderr,
        "files": [_file(file) for file in result.files if not _hidden(file)],
        "deleted_files": list(result.deleted),
        "skipped": [{"name": skip.untrusted_name, "reason": skip.reason} for skip in result.skipped],
        "code": code,
        "signal": signal_name,
        "status": status,
        "message": explanation(result.outcome, result.phase),
        "phase": result.phase,
        "compiler_output": result.compiler.text(),
        "wall_time": round(result.usage.wall_seconds * 1000),
        "cpu_time": round(result.usage.cpu_seconds * 1000),
        "memory": result.usage.memory_peak_bytes,
        "tier": result.tier,
    }


def _codes(outcome: Outcome) -> tuple[int | None, str | None, str | None]:
    """Give exit code, signal name and the official status: TO (time), OL / EL (output), SG (signal)."""
    match outcome:
        case Exited(code):
            return code, None, None
        case Signalled(number):
            return None, signal_name(number), "SG"
        case OutOfMemory():
            return None, "SIGKILL", "SG"
        case TimedOut():
            return None, "SIGKILL", "TO"
        case OutputLimit(stream):
            return None, "SIGKILL", "OL" if stream == "stdout" else "EL"
        case Cancelled():
            return None, "SIGKILL", "SG"
        case _:
            assert_never(outcome)


def _hidden(file: ResultFile) -> bool:
    """Clients of the old form attach the execution's id to every file they are shown, so they see only new ones."""
    return file.inherited and file.source is not None and file.source.old_form


def _file(file: ResultFile) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": file.id,
        "name": file.name,
        "storage_session_id": file.session_id,
        "size": file.size_bytes,
    }
    source = file.source or file.modified_from
    if source is not None and source.resource_id is not None and file.inherited:
        row |= {"resource_id": source.resource_id, "kind": source.kind}
        if source.version is not None:
            row["version"] = source.version
    if file.inherited:
        row["inherited"] = True
        if file.source is not None:
            row["id"], row["storage_session_id"] = file.source.id, file.source.session_id
    if file.modified_from is not None:
        row["modified_from"] = _origin(file.modified_from)
    return row


def _origin(reference: FileReference) -> dict[str, str]:
    return {"id": reference.id, "storage_session_id": reference.session_id}


def upload(session_id: str, files: list[StoredFile]) -> dict[str, Any]:
    """Build the answer of ``POST /upload``, for the clients of both eras."""
    return {
        "message": "success",
        "storage_session_id": session_id,
        "session_id": session_id,
        "files": [{"fileId": file.id, "filename": file.name} for file in files],
    }


def timestamp(seconds: float) -> str:
    """Give a time as ISO 8601 in UTC with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _object_name(file: StoredFile) -> str:
    extension = file.name.rpartition("/")[2].rpartition(".")
    return f"{file.session_id}/{file.id}" + (f".{extension[2]}" if extension[0] else "")


def freshness(file: StoredFile) -> dict[str, Any]:
    """Build the answer about one object."""
    return {
        "lastModified": timestamp(file.modified_at),
        "name": f"{file.session_id}/{file.id}",
        "originalFilename": file.name,
        "size": file.size_bytes,
        "etag": file.sha256,
        "contentType": file.content_type,
        "readOnly": file.read_only,
    }


def listing(files: tuple[StoredFile, ...], detail: str) -> list[Any]:
    """Build a listing in the form that ``detail`` asks for."""
    if detail == "simple":
        return [_object_name(file) for file in files]
    if detail == "normalized":
        return [
            {
                "id": file.id,
                "name": file.name,
                "storage_session_id": file.session_id,
                "size": file.size_bytes,
                "contentType": file.content_type,
                "lastModified": timestamp(file.modified_at),
                "read_only": file.read_only,
            }
            for file in files
        ]
    rows = []
    for file in files:
        row: dict[str, Any] = {
            "name": _object_name(file),
            "id": file.id,
            "session_id": file.session_id,
            "storage_session_id": file.session_id,
            "lastModified": timestamp(file.modified_at),
            "size": file.size_bytes,
            "etag": file.sha256,
        }
        if detail == "full":
            row["metadata"] = {"original-filename": file.name, "content-type": file.content_type}
        rows.append(row)
    return rows

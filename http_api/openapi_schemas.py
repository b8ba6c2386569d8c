"""The schemas of the answers that the OpenAPI document names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

REF: Final = "#/components/schemas/{name}"


@dataclass(frozen=True, slots=True)
class Operation:
    """A route as it is described. ``body``: a type, ``multipart``, or none; ``answers``: schemas by status."""

    tag: str
    summary: str
    answers: Mapping[int, Any]
    body: Any = None
    refusals: tuple[int, ...] = (400, 401, 403, 429)
    query: tuple[str, ...] = ()
    open: bool = False


def object_of(required: list[str], **properties: Any) -> dict[str, Any]:
    """Describe an object with these properties."""
    return {"type": "object", "required": required, "properties": properties}


TEXT: Final = {"type": "string"}
NUMBER: Final = {"type": "integer"}
MAYBE_TEXT: Final = {"type": ["string", "null"]}
_SKIPPED: Final = {"type": "array", "items": object_of(["name", "reason"], name=TEXT, reason=TEXT)}
NAMES: Final = {"type": "array", "items": TEXT}
_TIER: Final = {**MAYBE_TEXT, "description": "of the sandbox that it ran in: nsjail or microvm; null: in none"}
_RESULT_FILE: Final = object_of(
    ["id", "name", "storage_session_id", "size"],
    id=TEXT,
    name=TEXT,
    storage_session_id=TEXT,
    size=NUMBER,
    inherited={"type": "boolean"},
    modified_from=object_of(["id", "storage_session_id"], id=TEXT, storage_session_id=TEXT),
)
_LANGUAGE: Final = object_of(
    [
        "name",
        "title",
        "aliases",
        "extension",
        "extensions",
        "installed",
        "version",
        "warm",
        "compiled",
        "tested",
        "tier",
        "limits",
        "packages",
        "install_command",
    ],
    name=TEXT,
    title=TEXT,
    aliases=NAMES,
    extension=TEXT,
    extensions=NAMES,
    installed={"type": "boolean"},
    version=MAYBE_TEXT,
    warm={"type": "boolean", "description": "its interpreter waits, and can keep variables"},
    compiled={"type": "boolean"},
    tested={"type": "boolean", "description": "its smoke test ran in a sandbox when the image was built"},
    tier={"type": "string", "enum": ["nsjail", "microvm"], "description": "the least that its executions have"},
    limits=object_of(
        ["wall_seconds"],
        wall_seconds={"type": "number", "description": "the shorter of the policy's and the language's"},
        compile_seconds={"type": "number", "description": "where there is a compiler"},
    ),
    packages={"type": "object", "additionalProperties": TEXT, "description": "versions by name"},
    install_command={**MAYBE_TEXT, "description": "what an operator runs to have it; null: it is installed"},
)
COMPONENTS: Final[dict[str, Any]] = {
    "Refusal": object_of(
        ["error", "message"],
        error=TEXT,
        message=TEXT,
        field=TEXT,
        hint=TEXT,
        retry_after_seconds={"type": "integer"},
        request_id={"type": "string"},
    ),
    "Execution": object_of(
        ["session_id", "stdout", "stderr", "files"],
        session_id=TEXT,
        stdout=TEXT,
        stderr=TEXT,
        files={"type": "array", "items": _RESULT_FILE},
        deleted_files=NAMES,
        skipped=_SKIPPED,
        code={"type": ["integer", "null"]},
        signal=MAYBE_TEXT,
        status={"type": ["string", "null"], "description": "null, TO (time), OL or EL (output), SG (signal)"},
        message=MAYBE_TEXT,
        phase={"type": "string", "enum": ["compile", "run"], "description": "in which it ended"},
        compiler_output={**TEXT, "description": "what the compiler said of a program that it accepted"},
        wall_time={**NUMBER, "description": "milliseconds"},
        cpu_time={**NUMBER, "description": "milliseconds"},
        memory={**NUMBER, "description": "peak, bytes"},
        tier=_TIER,
        runtime_session_id=TEXT,
        runtime_status={"type": "string", "enum": ["new", "reused"]},
        runtime_restored={"type": "boolean"},
        runtime_state_lives={"type": "boolean"},
    ),
    "Program": object_of(
        ["status", "session_id"],
        status={"type": "string", "enum": ["tool_call_required", "completed", "error"]},
        session_id=TEXT,
        continuation_token=TEXT,
        tool_calls={
            "type": "array",
            "items": object_of(["id", "name", "input"], id=TEXT, name=TEXT, input={"type": "object"}),
        },
        error=TEXT,
        stdout=TEXT,
        stderr=TEXT,
    ),
    "Uploaded": object_of(
        ["message", "session_id", "storage_session_id", "files"],
        message=TEXT,
        session_id=TEXT,
        storage_session_id=TEXT,
        files={"type": "array", "items": object_of(["fileId", "filename"], fileId=TEXT, filename=TEXT)},
    ),
    "Batch": object_of(
        ["message", "files", "succeeded", "failed"],
        message={"type": "string", "enum": ["success", "partial_success", "error"]},
        session_id=MAYBE_TEXT,
        storage_session_id=MAYBE_TEXT,
        files={"type": "array", "items": object_of(["status", "filename"], status=TEXT, filename=TEXT)},
        succeeded=NUMBER,
        failed=NUMBER,
    ),
    "Object": object_of(
        ["lastModified", "name", "size"],
        lastModified={"type": "string", "format": "date-time"},
        name=TEXT,
        originalFilename=TEXT,
        size=NUMBER,
        etag=TEXT,
        contentType=TEXT,
        readOnly={"type": "boolean"},
    ),
    "Deleted": object_of(["message"], message=TEXT, session_id=TEXT, fileId=TEXT),
    "Content": object_of(
        ["filename", "size", "encoding", "content"],
        session_id=TEXT,
        file_id=TEXT,
        filename=TEXT,
        mime_type=TEXT,
        size=NUMBER,
        encoding={"const": "base64"},
        content={"type": "string", "contentEncoding": "base64"},
    ),
    "Session": object_of(
        ["session_id", "language"],
        session_id=TEXT,
        language=TEXT,
        created_at={"type": "string", "format": "date-time"},
        expires_at={"type": "string", "format": "date-time"},
        files={"type": "array", "items": {"type": "object"}},
    ),
    "SessionRun": object_of(
        ["session_id", "stdout", "stderr", "exit_code", "duration", "files"],
        session_id=TEXT,
        stdout=TEXT,
        stderr=TEXT,
        exit_code=NUMBER,
        signal=MAYBE_TEXT,
        timed_out={"type": "boolean"},
        message=MAYBE_TEXT,
        tier=_TIER,
        duration={"type": "number", "description": "seconds"},
        files=NAMES,
        deleted_files=NAMES,
        skipped=_SKIPPED,
    ),
    "Language": _LANGUAGE,
    "Languages": object_of(
        ["languages", "groups", "limits", "tiers"],
        languages={"type": "array", "items": {"$ref": REF.format(name="Language")}},
        groups={
            "type": "array",
            "items": object_of(
                ["name", "title", "programs", "installed", "install_command"],
                name=TEXT,
                title=TEXT,
                programs=NAMES,
                installed={"type": "boolean"},
                install_command=MAYBE_TEXT,
            ),
        },
        limits={"type": "object", "additionalProperties": {"type": "number"}},
        tiers={
            "type": "array",
            "items": object_of(
                ["name", "title", "available", "reason"],
                name=TEXT,
                title=TEXT,
                available={"type": "boolean"},
                reason={**MAYBE_TEXT, "description": "why it is not to be had; null: it is"},
            ),
        },
    ),
    "Health": object_of(["status", "version", "languages"], status=TEXT, version=TEXT, languages=NAMES),
    "Readiness": object_of(
        ["ready", "status", "role", "version", "checks"],
        ready={"type": "boolean"},
        status=TEXT,
        role=TEXT,
        version=TEXT,
        checks={
            "type": "array",
            "items": object_of(
                ["name", "ok"],
                name=TEXT,
                ok={"type": "boolean"},
                reason={**TEXT, "description": "why it is not there, or more about it"},
            ),
        },
    ),
}

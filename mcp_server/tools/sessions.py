"""Sessions, and what a sandbox can do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta

from mcp_server.registry import Call, Input, Output, Reply, text
from mcp_server.tools.common import REGISTRY, Session
from supervisor.identity.access import owner_of

MAX_LISTED = 100


class CreateSession(Input, frozen=True):
    """Arguments of ``create_session``."""


class ListSessions(Input, frozen=True):
    """Arguments of ``list_sessions``."""

    limit: Annotated[int, Meta(description="Most sessions to give.", ge=1, le=MAX_LISTED)] = 20


class CloseSession(Input, frozen=True):
    """Arguments of ``close_session``."""

    session: Session | None = None
    delete_files: Annotated[bool, Meta(description="Delete its files too. It cannot be undone.")] = False


class ExplainNetwork(Input, frozen=True):
    """Arguments of ``explain_network``."""

    url: Annotated[str, Meta(description="As https://example.org/data.csv.", min_length=1, max_length=2048)]
    method: Annotated[str, Meta(description="Of an HTTP request, as POST.", max_length=32)] | None = None


class SessionLine(Output, frozen=True):
    """A session. ``state``: ``live`` with a sandbox in memory, or ``resting``."""

    session: str
    state: str
    files: int
    bytes: int
    created: str | None
    expires: str | None
    current: bool


class SessionList(Output, frozen=True):
    """Sessions, the newest first."""

    sessions: list[SessionLine]


class CloseReply(Output, frozen=True):
    """What was closed."""

    session: str
    files_deleted: bool


class NetworkReply(Output, frozen=True):
    """Whether an address may be reached, and what to do about it."""

    url: str
    allowed: bool
    reason: str
    advice: str


@REGISTRY.tool(CreateSession, SessionLine, title="Open a session", rate="upload")
async def create_session(call: Call, _given: CreateSession) -> Reply:
    """Open a new, empty session and get its id, for work that must not mix with this conversation's files.

    Not needed otherwise: every tool uses the session of this conversation by itself.
    """
    session_id = await call.door.sessions.create_session(owner_of(call.principal))
    info = await call.door.sessions.session(call.principal, session_id)
    line = SessionLine(session_id, "resting", 0, 0, _time(info.created_at), _time(info.expires_at), current=False)
    return Reply(line, [text(f"[gaoler] session {session_id}: name it in the other tools")])


@REGISTRY.tool(ListSessions, SessionList, title="List sessions", rate="listing", read_only=True, idempotent=True)
async def list_sessions(call: Call, given: ListSessions) -> Reply:
    """List your sessions, the newest first: how many files, until when they are kept, which is this conversation's.

    Also those that the code tool of a chat application has made for the same user.
    """
    current = call.visit.default_session(call.door.ids)
    lines = [
        SessionLine(
            info.id,
            await call.door.processes.state(info.id),
            info.files,
            info.size_bytes,
            _time(info.created_at),
            _time(info.expires_at),
            info.id == current,
        )
        for info in await call.door.sessions.sessions(call.principal, given.limit)
    ]
    said = "\n".join(
        f"[gaoler] {line.session} {line.state}, {line.files} files of {line.bytes} bytes, kept until {line.expires}"
        + (" (this conversation)" if line.current else "")
        for line in lines
    )
    return Reply(SessionList(lines), [text(said or "no sessions yet")])


@REGISTRY.tool(CloseSession, CloseReply, title="Close a session", rate="upload", destructive=True, idempotent=True)
async def close_session(call: Call, given: CloseSession) -> Reply:
    """End a session's sandbox: its background processes and variables are gone, its files are kept.

    With delete_files they are deleted too. Idle sessions are closed by themselves.
    """
    session_id = await call.session(given.session)
    await call.door.processes.close(call.principal, session_id)
    call.recent.forget(session_id)
    if given.delete_files:
        await call.door.sessions.delete_session(call.principal, session_id)
    said = "with its files" if given.delete_files else "; its files are kept"
    return Reply(CloseReply(session_id, given.delete_files), [text(f"[gaoler] session {session_id} closed {said}")])


@REGISTRY.tool(
    ExplainNetwork,
    NetworkReply,
    title="Explain network access",
    rate="listing",
    read_only=True,
    idempotent=True,
)
async def explain_network(call: Call, given: ExplainNetwork) -> Reply:
    """Say whether code in the sandbox could reach a URL, why not, and what to do instead. Sends nothing anywhere.

    Ask it before you write code that downloads something.
    """
    answer = call.door.explain_network(given.url, given.method)
    word = "allowed" if answer.allowed else "not allowed"
    said = f"[gaoler] {word}: {answer.reason}. {answer.advice[:1].upper()}{answer.advice[1:]}."
    return Reply(NetworkReply(given.url, answer.allowed, answer.reason, answer.advice), [text(said)])


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")

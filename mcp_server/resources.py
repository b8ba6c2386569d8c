"""Resources: files of sessions, their recent output, languages, the policy in words; and who is told of changes."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, assert_never

import msgspec
import trio
from mcp.server.session import ServerSession
from mcp.server.subscriptions import InMemorySubscriptionBus, ResourceUpdated
from mcp_types import (
    BlobResourceContents,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextResourceContents,
)

from mcp_server import uris
from mcp_server.recent import Entry, Recent
from mcp_server.services import Door
from mcp_server.visit import Visit
from supervisor.errors import InvalidRequest, NotFound, TooLarge
from supervisor.execution.values import Principal, SessionId
from supervisor.runtimes.language_view import described

PAGE: Final = 200
LISTED_SESSIONS: Final = 20
MAX_SUBSCRIPTIONS: Final = 100
MAX_LISTENERS: Final = 32
"""Streams of the newer era of one caller."""
TELL_SECONDS: Final = 0.5
_TEXT: Final = ("text/", "application/json", "application/vnd.plotly.v1+json", "image/svg+xml")

TEMPLATES: Final = (
    ResourceTemplate(
        uri_template="gaoler://session/{session}/files",
        name="files of a session",
        description="The list of a session's files, as JSON.",
        mime_type="application/json",
    ),
    ResourceTemplate(
        uri_template="gaoler://session/{session}/files/{+path}",
        name="a file of a session",
        description="The content of a file below /mnt/data.",
    ),
    ResourceTemplate(
        uri_template="gaoler://session/{session}/output",
        name="recent output of a session",
        description="What the last executions have printed.",
        mime_type="text/plain",
    ),
)


class Resources:
    """Lists and reads."""

    def __init__(self, door: Door, recent: Recent) -> None:
        self._door = door
        self._recent = recent

    async def listed(self, visit: Visit, cursor: str | None) -> ListResourcesResult:
        """Give the fixed ones and the files of the caller's latest sessions, in pages."""
        start = 0
        if cursor is not None:
            if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 10):
                raise InvalidRequest("it is not one that this server gave", field="cursor")
            start = int(cursor)
        found = [
            Resource(
                uri=uris.LANGUAGES,
                name="languages",
                description="Languages, versions and all their packages; what the operator runs to have the others.",
                mime_type="application/json",
            ),
            Resource(uri=uris.POLICY, name="policy", description="What a sandbox may do.", mime_type="text/plain"),
        ]
        for session in await self._door.sessions.sessions(visit.principal, LISTED_SESSIONS):
            if self._recent.all(session.id):
                found.append(
                    Resource(uri=uris.output(session.id), name=f"output of {session.id}", mime_type="text/plain")
                )
            found += [
                Resource(
                    uri=uris.file(session.id, file.name),
                    name=file.name,
                    mime_type=file.content_type,
                    size=file.size_bytes,
                )
                for file in await self._door.sessions.listing(visit.principal, session.id)
            ]
        end = start + PAGE
        return ListResourcesResult(resources=found[start:end], next_cursor=str(end) if end < len(found) else None)

    def templates(self) -> ListResourceTemplatesResult:
        """Give the forms of all others."""
        return ListResourceTemplatesResult(resource_templates=list(TEMPLATES))

    async def read(self, visit: Visit, uri: str) -> ReadResourceResult:
        """Give the content of one.

        Raises:
            NotFound: there is no such thing for this caller.
            TooLarge: it has to be downloaded.
        """
        address = uris.parse(uri)
        match address:
            case uris.Fixed():
                return self._fixed(uri)
            case uris.SessionFile():
                return await self._file(visit.principal, address, uri)
            case uris.SessionFiles():
                files = await self._door.sessions.listing(visit.principal, address.session)
                rows = [
                    {"path": each.name, "size": each.size_bytes, "type": each.content_type, "sha256": each.sha256}
                    for each in files
                ]
                return _contents(uri, "application/json", msgspec.json.encode(rows))
            case uris.SessionOutput():
                await self._door.sessions.session(visit.principal, address.session)
                return self._output(address, uri)
            case _:
                assert_never(address)

    def _fixed(self, uri: str) -> ReadResourceResult:
        if uri == uris.POLICY:
            return _contents(uri, "text/plain", self._door.policy_words.encode())
        return _contents(uri, "application/json", msgspec.json.encode(described(self._door.languages)))

    async def _file(self, principal: Principal, address: uris.SessionFile, uri: str) -> ReadResourceResult:
        file = await self._door.sessions.find_by_name(principal, address.session, address.path)
        limit = self._door.settings.base64_bytes
        if file.size_bytes > limit:
            raise TooLarge(f"more than {limit} bytes: download it by its link (stat_file)", field="uri")
        async with self._door.sessions.open(principal, address.session, file.id) as (_file, chunks):
            content = b"".join([chunk async for chunk in chunks])
        return _contents(uri, file.content_type, content)

    def _output(self, address: uris.SessionOutput, uri: str) -> ReadResourceResult:
        if address.number is None:
            said = "\n".join(_in_words(entry) for entry in self._recent.all(address.session))
            return _contents(uri, "text/plain", (said or "no recent output\n").encode())
        entry = self._recent.one(address.session, address.number)
        if address.shown is not None:
            forms = entry.shown[address.shown].untrusted_forms if address.shown < len(entry.shown) else {}
            kind = address.kind or ""
            if kind not in forms:
                raise NotFound("there is no such resource", field="uri")
            return _contents(uri, kind, forms[kind])
        streams = {"stdout": entry.stdout, "stderr": entry.stderr, None: _in_words(entry)}
        return _contents(uri, "text/plain", streams[address.stream].encode())


def _in_words(entry: Entry) -> str:
    parts = [f"--- execution {entry.number} ---"]
    parts += [f"{name}:\n{said}" for name, said in (("stdout", entry.stdout), ("stderr", entry.stderr)) if said]
    return "\n".join(parts) + "\n"


def _contents(uri: str, kind: str, content: bytes) -> ReadResourceResult:
    """As text where it is text, else as base64."""
    if kind.startswith(_TEXT):
        try:
            said = content.decode()
        except UnicodeDecodeError:
            pass  # whatever its name promises
        else:
            return ReadResourceResult(contents=[TextResourceContents(uri=uri, mime_type=kind, text=said)])
    blob = base64.b64encode(content).decode()
    return ReadResourceResult(contents=[BlobResourceContents(uri=uri, mime_type=kind, blob=blob)])


@dataclass(eq=False, slots=True)
class _Subscriber:
    session: ServerSession
    principal: Principal
    seen: dict[str, str] = field(default_factory=dict)
    """What each of its resources was like when it was last told of."""


class Subscriptions:
    """Who wants to know of what, in both eras. :meth:`run` is its task."""

    def __init__(self, door: Door, recent: Recent) -> None:
        self._door = door
        self._recent = recent
        self._subscribers: dict[Any, _Subscriber] = {}
        """By connection; it takes its own away when it ends."""
        self._changed: set[SessionId] = set()
        self._news = trio.Event()
        self.bus = InMemorySubscriptionBus()
        self._listeners: Counter[Principal] = Counter()
        self._listened: dict[str, tuple[Principal, int, str]] = {}
        """By URI, what listeners of the newer era want: how many they are, and what it was like."""

    def note(self, session_id: SessionId) -> None:
        """A session's files or output have changed."""
        if self._subscribers or self._listened:
            self._changed.add(session_id)
            self._news.set()

    async def subscribe(self, session: ServerSession, principal: Principal, uri: str) -> None:
        """Tell this connection when the resource changes.

        Raises:
            NotFound: it cannot see it.
            InvalidRequest: it has too many.
        """
        state = await self._look(principal, uri)
        connection = session._connection  # noqa: SLF001 - the SDK gives requests nothing else that lasts as long
        subscriber = self._subscribers.get(connection)
        if subscriber is None:
            subscriber = self._subscribers[connection] = _Subscriber(session, principal)
            connection.exit_stack.callback(self._subscribers.pop, connection, None)
        if len(subscriber.seen) >= MAX_SUBSCRIPTIONS:
            raise InvalidRequest(f"at most {MAX_SUBSCRIPTIONS} subscriptions", field="uri")
        subscriber.seen[uri] = state

    def unsubscribe(self, session: ServerSession, uri: str) -> None:
        """Tell it no more."""
        subscriber = self._subscribers.get(session._connection)  # noqa: SLF001 - as above
        if subscriber is not None:
            subscriber.seen.pop(uri, None)

    async def listen(self, principal: Principal, wanted: Iterable[str]) -> None:
        """Begin to look after what a listener of the newer era wants.

        Raises:
            NotFound: it cannot see one of them.
            InvalidRequest: the caller has too many streams.
        """
        if self._listeners[principal] >= MAX_LISTENERS:
            raise InvalidRequest(f"at most {MAX_LISTENERS} streams of changes at once")
        states = {uri: await self._look(principal, uri) for uri in wanted}
        for uri, state in states.items():
            _, count, _ = self._listened.get(uri, (principal, 0, state))
            self._listened[uri] = (principal, count + 1, state)
        self._listeners[principal] += 1

    def stop_listening(self, principal: Principal, wanted: Iterable[str]) -> None:
        """The listener has gone."""
        self._listeners[principal] -= 1
        self._listeners += Counter()
        for uri in wanted:
            who, count, state = self._listened[uri]
            if count == 1:
                del self._listened[uri]
            else:
                self._listened[uri] = (who, count - 1, state)

    async def run(self) -> None:
        """Tell of changes, until cancelled."""
        while True:
            await self._news.wait()
            self._news = trio.Event()
            changed, self._changed = self._changed, set()
            for subscriber in list(self._subscribers.values()):
                for uri in await self._differing(subscriber.principal, subscriber.seen, changed):
                    # A client that does not read must not keep the others waiting.
                    with trio.move_on_after(TELL_SECONDS):
                        await subscriber.session.send_resource_updated(uri)
            for uri, (principal, _count, state) in list(self._listened.items()):
                states = {uri: state}
                if await self._differing(principal, states, changed) and uri in self._listened:
                    self._listened[uri] = (principal, self._listened[uri][1], states[uri])
                    await self.bus.publish(ResourceUpdated(uri))

    async def _differing(self, principal: Principal, seen: dict[str, str], changed: set[SessionId]) -> list[str]:
        found = []
        for uri, before in list(seen.items()):
            address = uris.parse(uri)
            if isinstance(address, uris.Fixed) or address.session not in changed:
                continue
            try:
                now = await self._look(principal, uri)
            except NotFound:
                now = "gone"
            if now != before:
                seen[uri] = now
                found.append(uri)
        return found

    async def _look(self, principal: Principal, uri: str) -> str:
        """Say in a word what a resource is like now."""
        address = uris.parse(uri)
        if isinstance(address, uris.Fixed):
            return ""
        files = await self._door.sessions.listing(principal, address.session)
        match address:
            case uris.SessionFile(path=path):
                return next((file.id for file in files if file.name == path), "none yet")
            case uris.SessionFiles():
                return " ".join(file.id for file in files)
            case uris.SessionOutput():
                return str(max((entry.number for entry in self._recent.all(address.session)), default=0))

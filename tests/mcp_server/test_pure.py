"""Rules that need no daemon: names of resources, globs, events, schemas, the size of what models read."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from mcp_types import JSONRPCNotification, JSONRPCResponse

from mcp_server import uris
from mcp_server.events import HELD_STREAMS, EventBudget, SessionEvents, weight
from mcp_server.recent import Recent
from mcp_server.registry import Call
from mcp_server.results import shortened
from mcp_server.server import INSTRUCTIONS, Handlers
from mcp_server.tools import REGISTRY
from mcp_server.visit import Visit
from supervisor.errors import InvalidRequest, NotFound
from supervisor.execution.assistants import as_picture
from supervisor.execution.shown import read_shown
from supervisor.execution.values import FileId, Principal, SessionId, new_id
from supervisor.files.links import FileLinks
from supervisor.identity.derived import DerivedIds
from supervisor.jailer import protocol
from supervisor.jailer.remote_program import RemoteProgram
from supervisor.workspace.names import name_fault
from supervisor.workspace.text_part import Cutter
from supervisor.workspace.views import FileView, matching, workspace_name

SESSION = SessionId(new_id())


@given(st.text(min_size=1, max_size=60).filter(lambda name: name_fault(name) is None))
def test_every_name_survives_its_uri(name: str) -> None:
    assert uris.parse(uris.file(SESSION, name)) == uris.SessionFile(SESSION, name)


@given(st.text(max_size=80))
def test_no_text_breaks_the_reader_of_uris(text: str) -> None:
    for uri in (text, f"gaoler://{text}", f"gaoler://session/{SESSION}/{text}"):
        try:
            uris.parse(uri)
        except NotFound:
            continue


@given(st.text(max_size=60))
def test_a_path_never_leads_out(path: str) -> None:
    try:
        name = workspace_name(path)
    except InvalidRequest:
        return
    assert not name.startswith("/")
    assert ".." not in name.split("/")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("", ["a.py", "d", "d/a.py", "d/e/b.txt"]),
        ("*.py", ["a.py", "d/a.py"]),
        ("d/*", ["d/a.py"]),
        ("d/**", ["d", "d/a.py", "d/e/b.txt"]),
        ("**/b.*", ["d/e/b.txt"]),
        ("/mnt/data/d/*.py", ["d/a.py"]),
        ("*/*", ["d/a.py"]),
        ("?.py", ["a.py", "d/a.py"]),
        ("[ab].py", ["a.py", "d/a.py"]),
    ],
)
def test_globs(pattern: str, found: list[str]) -> None:
    views = [FileView(path, directory=path == "d") for path in ("a.py", "d", "d/a.py", "d/e/b.txt")]
    assert [view.path for view in matching(views, pattern, None)] == found


def test_a_glob_that_means_harm_costs_nothing() -> None:
    view = FileView("/".join(["a" * 25] * 10), directory=False)
    assert matching([view] * 100, "**/" * 30 + "*a" * 40 + "b", None) == []


def test_depth() -> None:
    views = [FileView(path, directory=False) for path in ("a", "b/c", "b/d/e")]
    assert [view.path for view in matching(views, "", 2)] == ["a", "b/c"]


@given(st.text(max_size=400), st.integers(min_value=16, max_value=64))
def test_shortened_text_keeps_both_ends(whole: str, budget: int) -> None:
    short = shortened(whole, budget)
    if len(whole.encode()) <= budget:
        assert short == whole
    else:
        head, _, tail = short.partition("\n[... ")
        assert whole.startswith(head)
        assert whole.endswith(tail.partition(" ...]\n")[2])


@given(st.binary(max_size=400))
def test_no_bytes_break_the_readers_of_what_was_shown(data: bytes) -> None:
    read_shown(data, 1000)
    as_picture(b"\x89PNG\r\n\x1a\n" + data)
    as_picture(b"\xff\xd8\xff" + data)


def test_pictures_are_recognised_by_their_first_bytes() -> None:
    png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 30, 20) + b"rest"
    picture = as_picture(png)
    assert picture is not None
    assert (picture.media_type, picture.width, picture.height) == ("image/png", 30, 20)
    jpeg = b"\xff\xd8\xff\xe0\0\x04ab\xff\xc2\0\x11\x08" + struct.pack(">HH", 20, 30) + b"rest"
    picture = as_picture(jpeg)
    assert picture is not None
    assert (picture.width, picture.height) == (30, 20)
    assert as_picture(b"GIF89a") is None


def test_instructions_are_short() -> None:
    assert len(INSTRUCTIONS.split()) < 300


def test_every_tool_is_described() -> None:
    assert len(REGISTRY.entries) == 21
    for name, entry in REGISTRY.entries.items():
        tool = entry.tool
        assert tool.description
        assert len(tool.description) > 40, name
        assert tool.annotations is not None
        assert tool.output_schema is not None
        assert tool.output_schema["type"] == "object"
        assert tool.input_schema["additionalProperties"] is False
        assert "$ref" not in json.dumps([tool.input_schema, tool.output_schema])
        assert "null" not in json.dumps(tool.input_schema)
        assert not (tool.annotations.read_only_hint and tool.annotations.destructive_hint)
        for field, schema in tool.input_schema["properties"].items():
            assert "description" in schema or field == "ignore_case", (name, field)
    read_only = {name for name, entry in REGISTRY.entries.items() if entry.tool.annotations.read_only_hint}  # type: ignore[union-attr]
    assert read_only == {
        "read_file",
        "list_files",
        "stat_file",
        "search_files",
        "list_processes",
        "list_sessions",
        "list_languages",
        "explain_network",
    }


def test_examples_in_descriptions_hold() -> None:
    decoder = json.JSONDecoder()
    count = 0
    for entry in REGISTRY.entries.values():
        said = entry.tool.description or ""
        at = said.find("Example")
        while at >= 0 and (at := said.find("{", at)) >= 0:
            arguments, end = decoder.raw_decode(said, at)
            entry.decode(arguments)
            count += 1
            at = end
    assert count >= 12


async def test_events_are_bounded_and_answered_streams_go_first() -> None:
    budget = EventBudget()
    events = SessionEvents(budget)
    for number in range(HELD_STREAMS + 50):
        await events.store_event(str(number), JSONRPCResponse(jsonrpc="2.0", id=number, result={}))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await events.replay_events_after("1", send)
    assert sent == []
    large = JSONRPCNotification(jsonrpc="2.0", method="n", params={"x": "y" * (1 << 20)})
    for _ in range(40):
        await events.store_event("long", large)
    assert events._bytes <= 24 << 20
    await events.store_event("long", JSONRPCResponse(jsonrpc="2.0", id="long", result={}))
    for bad in ("", "x", "-1", "9" * 30, "\N{SUPERSCRIPT TWO}"):
        await events.replay_events_after(bad, send)
    assert sent == []
    assert budget.held == events._bytes
    events.close()
    assert budget.held == 0


def test_the_weight_of_a_message_is_about_what_it_takes() -> None:
    for content in ({"a": "x" * 100_000}, {"a": [{"b": "y" * 1000}] * 100}, {"k" * 50_000: 1}):
        message = JSONRPCResponse(jsonrpc="2.0", id=1, result=content)
        assert 0.9 < weight(message) / len(message.model_dump_json()) < 1.5


async def test_the_answer_of_a_cancelled_write_is_not_taken_for_the_next_ones() -> None:
    answers, incoming = trio.open_memory_channel[bytes](10)

    class Channel:
        async def send_message(self, _payload: bytes) -> None:
            """It is on its way."""

        async def receive_message(self) -> bytes:
            return await incoming.receive()

    program = RemoteProgram(Channel())  # type: ignore[arg-type]
    written: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(program.next)
        async with trio.open_nursery() as writers:

            async def give_up() -> None:
                await program.write(b"123456", close=False)

            writers.start_soon(give_up)
            await trio.testing.wait_all_tasks_blocked()
            writers.cancel_scope.cancel()
            answers.send_nowait(protocol.encode(protocol.Written(size=6)))
        answers.send_nowait(protocol.encode(protocol.Written(size=26)))
        written.append(await program.write(b"x" * 26, close=False))
        nursery.cancel_scope.cancel()
    assert written == [26]


async def test_all_sessions_together_hold_so_much_and_the_oldest_answers_go() -> None:
    budget = EventBudget(limit_bytes=100_000)
    stores = [SessionEvents(budget) for _ in range(20)]
    for store in stores:
        await store.store_event("1", JSONRPCNotification(jsonrpc="2.0", method="n", params={"x": "y" * 10_000}))
        await store.store_event("1", JSONRPCResponse(jsonrpc="2.0", id=1, result={}))
    assert budget.held <= 100_000
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await stores[0].replay_events_after("1", send)
    assert sent == []
    await stores[-1].replay_events_after("1", send)
    assert len(sent) == 1


@given(
    st.lists(st.text(alphabet="aä\n", max_size=12).map(str.encode), max_size=8),
    st.integers(min_value=1, max_value=12),
    st.integers(min_value=1, max_value=6),
    st.integers(min_value=1, max_value=40),
)
def test_lines_are_cut_out_of_any_chunks(chunks: list[bytes], first: int, count: int, limit: int) -> None:
    cutter = Cutter(first, count, limit)
    for chunk in chunks:
        if chunk:
            cutter.feed(chunk)
    lines = b"".join(chunks).splitlines(keepends=True)
    wanted = b"".join(lines[first - 1 : first - 1 + count])
    assert bytes(cutter.taken) == wanted[:limit]
    assert cutter.cut == (len(wanted) > limit)
    assert cutter.lines == len(lines)


def test_a_link_holds_for_a_while_and_cannot_be_forged() -> None:
    now = [1000.0]
    links = FileLinks(DerivedIds(b"secret"), 60, clock=lambda: now[0])
    token = links.make(Principal("t", "key", "ann"), SESSION, FileId(new_id()))
    principal, session, _file = links.read(token)
    assert (principal.tenant, session) == ("t", SESSION)
    other = FileLinks(DerivedIds(b"other"), 60, clock=lambda: now[0])
    for forged, reader in ((token, other), (token[:-1], links), ("x" + token, links), ("", links), ("." * 9, links)):
        with pytest.raises(NotFound):
            reader.read(forged)
    now[0] = 1060.0
    with pytest.raises(NotFound):
        links.read(token)


async def test_a_tool_that_does_not_come_back_is_ended(autojump_clock: trio.testing.MockClock) -> None:
    async def never(_call: Any, _given: Any) -> Any:
        await trio.sleep_forever()

    class Door:
        settings = SimpleNamespace(wall_seconds=60, queue_seconds=30, resume_seconds=15, recent_bytes=0)

        async def admit(self, _principal: Any, _kind: str) -> None:
            """Everybody may."""

    handlers = Handlers(Door())  # type: ignore[arg-type]
    for deadline, seconds in ((60.0, 60.0), (None, 120.0)):
        entry = replace(REGISTRY.entries["list_languages"], run=never, deadline_seconds=deadline)
        visit = Visit(Principal("t", "c"), None, None)
        call = Call(Door(), Recent(0), visit, SimpleNamespace(request_id=1))  # type: ignore[arg-type]
        started = trio.current_time()
        result = await handlers._guarded(call, entry, {})
        assert trio.current_time() - started == seconds
        assert result.is_error
        assert f"more than {seconds:g} s" in str(result.content)

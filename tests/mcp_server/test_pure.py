"""Rules that need no daemon: names of resources, globs, events, schemas, the size of what models read."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_types import JSONRPCNotification, JSONRPCResponse

from mcp_server import uris
from mcp_server.events import HELD_STREAMS, SessionEvents
from mcp_server.results import shortened
from mcp_server.server import INSTRUCTIONS
from mcp_server.tools import REGISTRY
from supervisor.assistants import as_picture
from supervisor.errors import InvalidRequest, NotFound
from supervisor.execution import SessionId, new_id
from supervisor.names import name_fault
from supervisor.shown import read_shown
from supervisor.views import FileView, matching, workspace_name

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
    events = SessionEvents()
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

"""The file tools: what they do, what they refuse, and that a live sandbox and a resting session see the same."""

from __future__ import annotations

import base64

import pytest
import trio

from tests.daemon import Daemon
from tests.mcp import connected

pytestmark = pytest.mark.root


async def test_text_is_read_by_lines_and_bytes_by_ranges(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        await agent.call("write_file", path="t.txt", text="eins\nzwei\ndrei ü\nvier")
        part = (await agent.call("read_file", path="t.txt", first_line=3, lines=5)).data
        assert (part["content"], part["first_line"], part["last_line"], part["total_lines"]) == (
            "drei ü\nvier",
            3,
            4,
            4,
        )
        assert not part["complete"]
        assert (await agent.call("read_file", path="t.txt")).data["complete"]
        beyond = (await agent.call("read_file", path="t.txt", first_line=99)).data
        assert (beyond["content"], beyond["total_lines"]) == ("", 4)
        content = bytes(range(256)) * 3
        await agent.call("write_file", path="b.bin", base64=base64.b64encode(content).decode())
        piece = (await agent.call("read_file", path="b.bin", encoding="base64", offset=250, length=300)).data
        assert base64.b64decode(piece["content"]) == content[250:550]
        assert piece["next_offset"] == 550
        last = (await agent.call("read_file", path="b.bin", encoding="base64", offset=700)).data
        assert base64.b64decode(last["content"]) == content[700:]
        assert last["next_offset"] is None
        assert "base64" in (await agent.call("read_file", path="b.bin")).refusal
        empty = await agent.call("write_file", path="empty", text="")
        assert empty.data["file"]["size"] == 0
        assert (await agent.call("read_file", path="empty")).data["content"] == ""


async def test_long_text_comes_in_parts_that_fit(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        lines = [f"{number:06}" + "x" * 90 for number in range(5000)]
        await agent.call("write_file", path="long.txt", text="\n".join(lines) + "\n")
        seen: list[str] = []
        line = 1
        while len(seen) < 5000:
            part = (await agent.call("read_file", path="long.txt", first_line=line, lines=100_000)).data
            whole = part["content"].splitlines()
            if not part["content"].endswith("\n"):
                whole = whole[:-1]
            seen += whole
            line += len(whole)
        assert seen == lines
        await agent.call("write_file", path="one.txt", text="y" * 500_000)
        one = (await agent.call("read_file", path="one.txt")).data
        assert len(one["content"]) == 65_536
        assert not one["complete"]


async def test_files_are_appended_to_edited_moved_and_deleted(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        await agent.call("write_file", path="log/a.txt", text="one\n")
        await agent.call("write_file", path="log/a.txt", text="two\n", append=True)
        edited = await agent.call("edit_file", path="log/a.txt", old_text="two", new_text="three")
        assert edited.data["replaced"] == 1
        assert "line 2" in edited.text
        await agent.call("edit_file", path="log/a.txt", old_text="e", new_text="E", replace_all=True)
        assert (await agent.call("read_file", path="log/a.txt")).data["content"] == "onE\nthrEE\n"
        await agent.call("make_directory", path="empty/inner")
        listed = await agent.call("list_files")
        assert [entry["path"] for entry in listed.data["entries"]] == ["empty", "empty/inner", "log", "log/a.txt"]
        await agent.call("move_file", source="log", target="kept/log")
        await agent.call("move_file", source="empty", target="kept/empty")
        listed = await agent.call("list_files", glob="kept/**")
        assert [entry["path"] for entry in listed.data["entries"]] == [
            "kept",
            "kept/empty",
            "kept/empty/inner",
            "kept/log",
            "kept/log/a.txt",
        ]
        seen = await agent.call("run_command", command="find . -type d | sort; cat kept/log/a.txt")
        assert seen.data["stdout"] == ".\n./kept\n./kept/empty\n./kept/empty/inner\n./kept/log\nonE\nthrEE\n"
        gone = await agent.call("delete_file", path="kept", recursive=True)
        assert gone.data["files"] == 1
        assert (await agent.call("run_command", command="find . -mindepth 1")).data["stdout"] == ""


async def test_what_code_does_to_directories_and_modes_is_kept(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        await agent.call("write_file", path="run.sh", text="#!/bin/bash\necho ran\n", mode="755")
        ran = await agent.call(
            "execute_code", language="bash", code="./run.sh; mkdir -p d/e; touch f; chmod +x f", stateful=False
        )
        assert ran.data["stdout"] == "ran\n"
        listed = {entry["path"]: entry for entry in (await agent.call("list_files")).data["entries"]}
        assert listed["f"]["executable"]
        assert listed["d/e"]["kind"] == "directory"
        again = await agent.call(
            "execute_code",
            language="bash",
            code="./run.sh; ls -d d/e; test -x f; rmdir d/e; chmod -x f",
            stateful=False,
        )
        assert (again.data["stdout"], again.data["exit_code"]) == ("ran\nd/e\n", 0)
        listed = {entry["path"]: entry for entry in (await agent.call("list_files")).data["entries"]}
        assert set(listed) == {"run.sh", "f", "d"}
        assert not listed["f"]["executable"]
        await agent.call("write_file", path="run.sh", text="#!/bin/bash\necho again\n")
        assert (await agent.call("run_command", command="./run.sh")).data["stdout"] == "again\n"


async def test_a_live_sandbox_and_the_tools_see_each_others_changes(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        await agent.call("execute_code", code="open('a', 'w').write('1'); open('b', 'w').write('1')")
        await agent.call("delete_file", path="a")
        await agent.call("write_file", path="b", text="22")
        seen = await agent.call(
            "execute_code", code="import os\nprint(sorted(os.listdir()), open('b').read())\nos.remove('b')"
        )
        assert seen.data["stdout"] == "['b'] 22\n"
        assert seen.data["deleted"] == ["b"]
        assert (await agent.call("list_files")).data["entries"] == []


async def test_search_finds_lines(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        await agent.call("write_file", path="src/a.py", text="import os\ndef one():\n    return 'Über'\n")
        await agent.call("write_file", path="src/b.txt", text="def two\n")
        await agent.call("write_file", path="c.bin", base64="AAECAw==")
        found = (await agent.call("search_files", pattern=r"def \w+")).data
        assert [(hit["path"], hit["line"]) for hit in found["hits"]] == [("src/a.py", 2), ("src/b.txt", 1)]
        assert (found["files_searched"], found["files_skipped"]) == (2, 1)
        found = (await agent.call("search_files", pattern=r"über", ignore_case=True, glob="*.py")).data
        assert [hit["text"] for hit in found["hits"]] == ["return 'Über'"]
        assert (await agent.call("search_files", pattern="one()", literal=True)).data["hits"][0]["line"] == 2
        assert "regular expression" in (await agent.call("search_files", pattern="(")).refusal
        await agent.call("write_file", path="evil.txt", text="a" * 40 + "!\n")
        slow = await agent.call("search_files", pattern="(a+)+$", glob="evil.txt")
        assert "more than 5 s" in slow.refusal
        limited = (await agent.call("search_files", pattern=".", limit=2)).data
        assert len(limited["hits"]) == 2
        assert limited["truncated"]


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "a/../../x",
        "/etc/passwd",
        "/mnt/database",
        "/mnt/data/../x",
        "a\0b",
        "a\nb",
        "a" * 300,
        "/".join("abcdefghijkl"),
        "/mnt/data",
        ".",
        "C:/x",
    ],
)
async def test_paths_that_are_none_are_refused_by_every_tool(daemon: Daemon, path: str) -> None:
    async with connected(daemon) as agent:
        await agent.call("write_file", path="there.txt", text="x")
        for tool, arguments in (
            ("write_file", {"path": path, "text": "x"}),
            ("read_file", {"path": path}),
            ("edit_file", {"path": path, "old_text": "x", "new_text": "y"}),
            ("move_file", {"source": "there.txt", "target": path}),
            ("make_directory", {"path": path}),
        ):
            assert (await agent.call(tool, **arguments)).raw.is_error, tool
        assert [entry["path"] for entry in (await agent.call("list_files")).data["entries"]] == ["there.txt"]


async def test_what_stands_in_the_way_is_named(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        await agent.call("write_file", path="f", text="aa")
        await agent.call("write_file", path="d/g", text="x")
        for tool, arguments, said in (
            ("write_file", {"path": "f/x", "text": ""}, "is a file"),
            ("write_file", {"path": "d", "text": ""}, "is a directory"),
            ("read_file", {"path": "d"}, "is a directory"),
            ("read_file", {"path": "g"}, "did you mean /mnt/data/d/g"),
            ("edit_file", {"path": "f", "old_text": "a", "new_text": "b"}, "2 times"),
            ("edit_file", {"path": "f", "old_text": "c", "new_text": "b"}, "is not in"),
            ("edit_file", {"path": "f", "old_text": "a", "new_text": "a"}, "the same"),
            ("move_file", {"source": "f", "target": "d/g"}, "is there already"),
            ("move_file", {"source": "d", "target": "d/e"}, "into itself"),
            ("move_file", {"source": "none", "target": "e"}, "there is no"),
            ("delete_file", {"path": "d"}, "recursive"),
            ("delete_file", {"path": "none"}, "there is no"),
            ("make_directory", {"path": "f"}, "is a file"),
            ("stat_file", {"path": "none"}, "there is no"),
            ("write_file", {"path": "x"}, "exactly one of text and base64"),
            ("write_file", {"path": "x", "text": "", "base64": ""}, "exactly one of text and base64"),
            ("write_file", {"path": "x", "base64": "%%%"}, "not base64"),
            ("write_file", {"path": "x", "base64": "YWJj-_=="}, "not base64"),
            ("write_file", {"path": "x", "text": "", "mode": "9"}, "mode"),
        ):
            assert said in (await agent.call(tool, **arguments)).refusal, (tool, arguments)


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("read_file", {"path": "a", "offset": -1}, "offset: expected int >= 0"),
        ("read_file", {"path": "a", "first_line": 0}, "first_line: expected int >= 1"),
        ("read_file", {"path": "a", "length": 0}, "length: expected int >= 1"),
        ("read_file", {"path": 5}, "path: expected str, got int"),
        ("read_file", {}, "path: this argument is required"),
        ("read_file", {"path": "a", "encoding": "utf-7"}, "encoding: invalid enum value"),
        ("read_file", {"path": "a", "pth": "b"}, "pth: there is no such argument; did you mean 'path'?"),
        ("execute_code", {"code": "1", "timeout": 0}, "timeout: expected float > 0"),
        ("execute_code", {"code": "1", "timeout": "5"}, "timeout: expected float"),
        ("execute_code", {"language": "cobol", "code": "1"}, "unsupported language"),
        ("execute_code", {}, "code: this is required: code, or main"),
        ("execute_code", {"code": "a\0"}, "code: it has a NUL"),
        ("execute_code", {"code": "x" * 1_000_001}, "code: at most 1000000 characters"),
        ("execute_code", {"code": "1", "session": "mine"}, "session: a session id has 21 characters"),
        ("execute_code", {"code": "1", "session": "A" * 21}, "no such session"),
        ("execute_code", {"code": "1", "files": [{"path": "a"}]}, "files[0].text: give exactly one"),
        ("execute_code", {"code": "1", "files": [{"path": "a", "txt": ""}]}, "files"),
        ("execute_code", {"code": "1", "tools": [{"name": "a;b"}]}, "tools"),
        ("execute_code", {"continuation_token": "a.b"}, "not a token of this server"),
        ("start_process", {"command": ""}, "command: expected str of length >= 1"),
        ("read_process", {"process": "1"}, "process: a process id is"),
        ("read_process", {"process": "p99"}, "no such process"),
        ("signal_process", {"process": "p1", "signal": "STOP"}, "signal: invalid enum value"),
        ("list_files", {"depth": 0}, "depth: expected int >= 1"),
        ("explain_network", {"url": "http://"}, "url: it is no url"),
        ("explain_network", {"url": "https://a.example", "method": "TRACE"}, "method: "),
        ("list_sessions", {"limit": 1000}, "limit: expected int <= 100"),
    ],
)
async def test_arguments_that_break_a_rule_are_named(
    daemon: Daemon, tool: str, arguments: dict[str, object], said: str
) -> None:
    async with connected(daemon) as agent:
        assert said in (await agent.call(tool, **arguments)).refusal.lower().replace("nul", "NUL")


async def test_another_users_session_is_not_there(daemon: Daemon) -> None:
    async with connected(daemon, user="owner") as agent:
        session = (await agent.call("write_file", path="mine.txt", text="secret")).data["session"]
        await agent.call("start_process", command="sleep 60")
    async with connected(daemon, user="thief") as agent:
        for tool, arguments in (
            ("read_file", {"path": "mine.txt"}),
            ("write_file", {"path": "mine.txt", "text": ""}),
            ("list_files", {}),
            ("execute_code", {"code": "1"}),
            ("run_command", {"command": "ls"}),
            ("start_process", {"command": "ls"}),
            ("list_processes", {}),
            ("read_process", {"process": "p1"}),
            ("signal_process", {"process": "p1"}),
            ("close_session", {"delete_files": True}),
            ("search_files", {"pattern": "s"}),
        ):
            refusal = (await agent.call(tool, session=session, **arguments)).refusal
            assert "no such session" in refusal, (tool, refusal)
            assert "secret" not in refusal
        assert session not in str((await agent.call("list_sessions")).data)
    async with connected(daemon, user="owner") as agent:
        assert (await agent.call("read_file", session=session, path="mine.txt")).data["content"] == "secret"
        await agent.call("close_session", session=session)


async def test_changes_at_the_same_time_are_all_kept(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        await agent.call("write_file", path="log", text="")
        async with trio.open_nursery() as nursery:

            async def append(number: int) -> None:
                await agent.call("write_file", path="log", text=f"{number}\n", append=True)

            for number in range(30):
                nursery.start_soon(append, number)
        lines = (await agent.call("read_file", path="log")).data["content"].split()
        assert sorted(map(int, lines)) == list(range(30))


async def test_ten_megabytes_of_base64_are_a_file(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        encoded = base64.b64encode(b"\x01" * 7_500_000).decode()
        made = await agent.call("write_file", path="big.bin", base64=encoded)
        assert made.data["file"]["size"] == 7_500_000
        back = await agent.call("read_file", path="big.bin", encoding="base64", length=20_000_000)
        assert back.data["content"] == encoded
        assert back.data["complete"]


@pytest.mark.parametrize("encoded", ["QUJD====", "QUJD=", "QQ===", "====", "QQ==QQ==", "-_-_", "QUJDR"])
async def test_base64_that_is_none_is_refused(daemon: Daemon, encoded: str) -> None:
    async with connected(daemon) as agent:
        assert "it is not base64" in (await agent.call("write_file", path="b", base64=encoded)).refusal


async def test_nothing_is_moved_over_a_file_that_is_read_only(daemon: Daemon) -> None:
    session = daemon.upload(("kept", b"as it was"), fields={"read_only": "true"}, user="ann").json["session_id"]
    async with connected(daemon, user="ann") as agent:
        await agent.call("write_file", session=session, path="other", text="forged")
        moved = await agent.call("move_file", session=session, source="other", target="kept", overwrite=True)
        assert "is read-only" in moved.refusal
        assert (await agent.call("read_file", session=session, path="kept")).data["content"] == "as it was"

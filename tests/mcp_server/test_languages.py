"""Languages and whole requests, as agents see them."""

from __future__ import annotations

import json

import pytest
from mcp_types import TextResourceContents

from supervisor.runtimes.catalogue import load_languages
from tests.daemon import Daemon
from tests.mcp import connected

pytestmark = pytest.mark.root


async def test_languages_are_listed_with_what_installs_the_others(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        listed = await agent.call("list_languages")
        lines = {line["name"]: line for line in listed.data["languages"]}
        assert sorted(lines) == sorted(each.name for each in load_languages())
        assert lines["python"]["installed"]
        assert lines["python"]["keeps_variables"]
        assert "python: Python 3" in listed.text
        for name, line in lines.items():
            assert line["installed"] == (line["install_command"] is None)
            if not line["installed"]:
                assert f"{name}: not installed; the operator of this server runs: gaoler image build" in listed.text
        # Short, whatever is installed.
        assert len(listed.text) < 6000


async def test_one_of_them_is_told_whole(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        one = await agent.call("list_languages", language="py")
        assert [line["name"] for line in one.data["languages"]] == ["python"]
        assert len(one.data["languages"][0]["packages"]) == one.data["languages"][0]["package_count"]
        refused = await agent.call("list_languages", language="cobol")
        assert "there is no such language; there are bash, " in refused.refusal
        read = await agent.client.read_resource("gaoler://languages")
        content = read.contents[0]
        assert isinstance(content, TextResourceContents)
        plain = json.loads(content.text)
        assert plain == daemon.request("GET", "/v1/languages").json


async def test_a_language_that_is_not_there_is_refused_with_what_to_do(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        typo = await agent.call("execute_code", language="pyhton", code="1")
        assert "lang: Unsupported language: pyhton; did you mean 'python'? installed are bash, " in typo.refusal
        listed = await agent.call("list_languages")
        missing = [line["name"] for line in listed.data["languages"] if not line["installed"]]
        for name in missing[:1]:
            refused = await agent.call("execute_code", language=name, code="1")
            assert f"gaoler image build --languages {name}" in refused.refusal


async def test_a_project_is_written_run_changed_and_run_again(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        files = [
            {
                "path": "src/app.py",
                "text": "import helper, os, sys\nprint(helper.x, os.environ['A'], sys.argv[1:], input())\n",
            },
            {"path": "src/helper.py", "text": "x = 1\n"},
        ]
        ran = await agent.call(
            "execute_code", main="src/app.py", files=files, args=["a b"], env={"A": "v"}, stdin="line\n"
        )
        assert (ran.data["status"], ran.data["stdout"]) == ("ok", "1 v ['a b'] line\n")
        edited = await agent.call("edit_file", path="src/helper.py", old_text="1", new_text="2")
        assert not edited.raw.is_error, edited.text
        again = await agent.call("execute_code", main="/mnt/data/src/app.py", env={"A": "w"}, stdin="z\n")
        assert again.data["stdout"] == "2 w [] z\n"
        wrong = await agent.call("execute_code", main="src/ap.py")
        assert "main: there is no file /mnt/data/src/ap.py in this session; did you mean" in wrong.refusal


async def test_arguments_and_variables_are_of_one_call(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        code = "import os, sys; [sys.argv[1:], os.environ.get('A')]"
        first = await agent.call("execute_code", code=code, args=["x"], env={"A": "1"})
        assert first.data["stdout"] == "[['x'], '1']\n"
        assert (await agent.call("execute_code", code=code)).data["stdout"] == "[[], None]\n"
        shell = await agent.call("run_command", command="echo $A", env={"A": "2"})
        assert shell.data["stdout"] == "2\n"
        refused = await agent.call("run_command", command="true", env={"GAOLER_X": "2"})
        assert "env.GAOLER_X: names that begin with GAOLER_ are the server's own" in refused.refusal


async def test_what_contradicts_itself_is_refused(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        assert "code: this is required" in (await agent.call("execute_code")).refusal
        both = await agent.call("execute_code", code="1", main="a.py")
        assert "main: give code or main, not both" in both.refusal
        tools = await agent.call("execute_code", main="a.py", language="python", tools=[{"name": "t"}])
        assert "main: a program that calls tools is given as code" in tools.refusal
        sources = await agent.call(
            "execute_code", main="a.py", sources=["b.py"], files=[{"path": p, "text": ""} for p in ("a.py", "b.py")]
        )
        assert "sources: Python 3 finds further files by itself" in sources.refusal


async def test_who_lacks_a_package_reads_how_to_get_it(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        ran = await agent.call("execute_code", code="import cowsay")
        assert ran.data["stderr"].endswith('where FILE says python = ["cowsay"]\n')
        ran = await agent.call("run_command", command="pip install cowsay")
        assert "this sandbox has no network" in ran.data["stderr"]

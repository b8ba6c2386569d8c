"""What agents do, from end to end, with the official client, in both eras of the protocol."""

from __future__ import annotations

import base64

import pytest
import trio
from mcp_types import BlobResourceContents, TextResourceContents

from tests.daemon import Daemon
from tests.mcp import ERAS, Agent, connected, png_size

pytestmark = pytest.mark.root


@pytest.mark.parametrize("mode", ERAS)
async def test_an_agent_works_from_the_first_file_to_the_end(daemon: Daemon, mode: str) -> None:
    async with connected(daemon, mode=mode) as agent:
        made = await agent.call("create_session")
        session = made.data["session"]
        await agent.call("write_file", session=session, path="data/sales.csv", text="m,n\njan,3\nfeb,5\n")
        ran = await agent.call(
            "execute_code",
            session=session,
            code="import pandas as pd\nimport matplotlib.pyplot as plt\ndf = pd.read_csv('data/sales.csv')\n"
            "df.plot(x='m', y='n')\nplt.show()\nint(df.n.sum())",
        )
        assert ran.data["status"] == "ok"
        assert ran.data["stdout"] == "8\n"
        assert [file["path"] for file in ran.data["files"]] == ["plot_1.png"]
        assert min(png_size(ran.images[0])) > 100
        again = await agent.call("execute_code", session=session, code="len(df)")
        assert again.data["stdout"] == "2\n"
        read = await agent.call("read_file", session=session, path="/mnt/data/data/sales.csv", first_line=2, lines=1)
        assert read.data["content"] == "jan,3\n"
        assert (read.data["first_line"], read.data["last_line"], read.data["total_lines"]) == (2, 2, 3)
        assert not read.data["complete"]
        started = await agent.call(
            "start_process", session=session, command="for i in 1 2 3; do echo tick $i; sleep 0.05; done; cat"
        )
        process = started.data["process"]["process"]
        seen = await agent.call("read_process", session=session, process=process, wait=10, until="tick 3", position=0)
        assert seen.data["output"] == "tick 1\ntick 2\ntick 3\n"
        await agent.call("write_stdin", session=session, process=process, text="over\n", close=True)
        ended = await agent.call("read_process", session=session, process=process, wait=10, until="over")
        assert ended.data["output"] == "over\n"
        await agent.call("close_session", session=session, delete_files=True)
        gone = await agent.call("list_files", session=session)
        assert "no such session" in gone.refusal


async def test_the_session_of_a_conversation_needs_no_name(daemon: Daemon) -> None:
    async with connected(daemon, conversation="chat-1") as agent:
        first = await agent.call("execute_code", code="kept = [1, 2]")
    async with connected(daemon, conversation="chat-1", mode="legacy") as agent:
        second = await agent.call("execute_code", code="kept")
        assert second.data["stdout"] == "[1, 2]\n"
        assert second.data["session"] == first.data["session"]
    async with connected(daemon, conversation="chat-2") as agent:
        assert "NameError" in (await agent.call("execute_code", code="kept")).data["stderr"]
    async with connected(daemon, conversation="chat-1", user="ben") as agent:
        assert "NameError" in (await agent.call("execute_code", code="kept")).data["stderr"]


async def test_a_connection_of_the_handshake_era_is_a_conversation_too(daemon: Daemon) -> None:
    async with connected(daemon, conversation=None, mode="legacy") as agent:
        await agent.call("execute_code", code="x = 7")
        assert (await agent.call("execute_code", code="x")).data["stdout"] == "7\n"


async def test_without_anything_that_holds_calls_together_each_has_a_session_of_its_own(daemon: Daemon) -> None:
    async with connected(daemon, conversation=None) as agent:
        assert "no session yet" in (await agent.call("read_file", path="a")).refusal
        one = await agent.call("write_file", path="a.txt", text="a")
        two = await agent.call("execute_code", code="import os; print(os.listdir())")
        assert one.data["session"] != two.data["session"]
        assert two.data["stdout"] == "[]\n"
        again = await agent.call("execute_code", code="print(open('a.txt').read())", session=one.data["session"])
        assert again.data["stdout"] == "a\n"


async def test_both_doors_lead_to_the_same_files_and_variables(daemon: Daemon) -> None:
    async with connected(daemon, user="dora") as agent:
        by_http = daemon.execute("open('http.txt', 'w').write('from http'); seen = 'here'", user="dora", stateful=True)
        session = by_http["session_id"]
        assert (await agent.call("read_file", session=session, path="http.txt")).data["content"] == "from http"
        assert (await agent.call("execute_code", session=session, code="seen")).data["stdout"] == "'here'\n"
        await agent.call("execute_code", session=session, code="answer = 42")
        assert daemon.execute("print(answer)", user="dora", session_id=session, stateful=True)["stdout"] == "42\n"
        await agent.call("write_file", session=session, path="mcp.txt", text="from mcp")
        listed = daemon.request("GET", f"/v1/files/{session}?detail=normalized", headers={"X-User-Id": "dora"}).json
        found = {row["name"]: row["id"] for row in listed}
        assert set(found) == {"http.txt", "mcp.txt"}
        got = daemon.request("GET", f"/v1/download/{session}/{found['mcp.txt']}", headers={"X-User-Id": "dora"})
        assert got.body == b"from mcp"
        own = (await agent.call("list_sessions")).data["sessions"]
        assert session in {line["session"] for line in own}


async def test_a_file_is_a_link_that_a_person_can_open(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        ran = await agent.call("execute_code", code="open('<b>.html', 'w').write('<script>alert(1)</script>')")
        url = ran.data["files"][0]["url"]
        assert url.startswith(daemon.base_url)
        path = url.removeprefix(daemon.base_url)
        got = daemon.request("GET", path, key=None)
        assert (got.status, got.body) == (200, b"<script>alert(1)</script>")
        assert got.headers["Content-Disposition"].startswith("attachment")
        assert got.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in got.headers["Content-Security-Policy"]
        assert got.headers["Referrer-Policy"] == "no-referrer"
        head, token, name = path.rpartition("/")[0].rpartition("/")[0], path.split("/")[-2], "x.html"
        assert daemon.request("GET", f"{head}/{token}/{name}", key=None).status == 200
        body, _, signature = token.partition(".")
        for forged in (f"{body}.{other(signature)}", f"{other(body)}.{signature}", signature, body, "x", "a.b" * 300):
            assert daemon.request("GET", f"{head}/{forged}/{name}", key=None).status == 404, forged


def other(text: str) -> str:
    """Text that ends otherwise, whatever it ends in."""
    return text[:-3] + ("BBB" if text.endswith("AAA") else "AAA")


async def test_progress_is_told_to_who_asks(daemon: Daemon) -> None:
    told: list[tuple[float, str]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, message or ""))
        news.send_nowait(None)

    # It takes its next step when one was told of: on a full machine all of them would be one piece else.
    code = "with open('/tmp/go') as go:\n    for i in range(4):\n        print(f'step {i}', flush=True)\n        go.readline()"
    for mode in ERAS:
        told.clear()
        news, heard = trio.open_memory_channel[None](10)
        async with connected(daemon, mode=mode) as agent, trio.open_nursery() as nursery:
            await agent.call("execute_code", code="import os; os.mkfifo('/tmp/go')")
            await agent.call("start_process", command="cat > /tmp/go")

            async def step(agent: Agent = agent, heard: trio.MemoryReceiveChannel[None] = heard) -> None:
                async for _ in heard:
                    await agent.call("write_stdin", process="p1", text="\n")

            nursery.start_soon(step)
            with news:
                await agent.client.call_tool("execute_code", {"code": code}, progress_callback=note)
        assert "step 0" in told[0][1]
        assert [amount for amount, _ in told] == sorted({amount for amount, _ in told})
        assert len(told) >= 2


@pytest.mark.parametrize("mode", ERAS)
async def test_cancelling_kills_what_runs_and_keeps_the_session(daemon: Daemon, mode: str) -> None:
    async with connected(daemon, mode=mode) as agent:
        await agent.call("execute_code", code="before = 1")
        started = trio.Event()

        async def note(progress: float, total: float | None, message: str | None) -> None:
            started.set()

        async with trio.open_nursery() as nursery:

            async def run() -> None:
                code = "import time\nprint('up', flush=True)\ntime.sleep(50)\nopen('late', 'w')"
                await agent.client.call_tool("execute_code", {"code": code}, progress_callback=note)

            nursery.start_soon(run)
            await started.wait()
            nursery.cancel_scope.cancel()
        with trio.fail_after(20):
            after = await agent.call("execute_code", code="import os\nprint(before, os.path.exists('late'))")
        assert after.data["stdout"] == "1 False\n"


async def test_resources_are_listed_read_and_bounded(daemon: Daemon) -> None:
    async with connected(daemon, user="rita") as agent:
        ran = await agent.call(
            "execute_code",
            code="open('ä b.txt', 'w').write('text'); open('x.bin', 'wb').write(b'\\xff\\0'); print('said')",
        )
        session = ran.data["session"]
        listed = {resource.name: resource for resource in (await agent.client.list_resources()).resources}
        assert {"languages", "policy", "ä b.txt", "x.bin", f"output of {session}"} <= set(listed)
        text = (await agent.client.read_resource(listed["ä b.txt"].uri)).contents[0]
        assert isinstance(text, TextResourceContents)
        assert text.text == "text"
        blob = (await agent.client.read_resource(listed["x.bin"].uri)).contents[0]
        assert isinstance(blob, BlobResourceContents)
        assert base64.b64decode(blob.blob) == b"\xff\0"
        output = (await agent.client.read_resource(f"gaoler://session/{session}/output")).contents[0]
        assert isinstance(output, TextResourceContents)
        assert "said" in output.text
        policy = (await agent.client.read_resource("gaoler://policy")).contents[0]
        assert isinstance(policy, TextResourceContents)
        assert "60 s" in policy.text
        templates = (await agent.client.list_resource_templates()).resource_templates
        assert "gaoler://session/{session}/files/{+path}" in {each.uri_template for each in templates}
        for uri in (
            "gaoler://session/x/files/y",
            f"gaoler://session/{session}/files/none",
            "gaoler://nothing",
            "file:///etc/passwd",
        ):
            with pytest.raises(Exception, match="no such"):
                await agent.client.read_resource(uri)
    async with connected(daemon, user="other") as agent:
        with pytest.raises(Exception, match="no such"):
            await agent.client.read_resource(listed["x.bin"].uri)


async def test_subscribers_of_the_handshake_era_hear_of_changes(daemon: Daemon) -> None:
    heard: list[str] = []
    news = trio.Event()

    async def note(message: object) -> None:
        params = getattr(message, "params", None)
        if getattr(message, "method", "") == "notifications/resources/updated":
            heard.append(str(getattr(params, "uri", "")))
            news.set()

    async with connected(daemon, user="sue", mode="legacy", message_handler=note) as agent:
        made = await agent.call("write_file", path="watched.txt", text="1")
        await agent.call("write_file", path="other.txt", text="1")
        uri = made.data["file"]["uri"]
        await agent.client.subscribe_resource(uri)
        await agent.call("write_file", path="other.txt", text="2")
        await agent.call("execute_code", code="open('watched.txt', 'w').write('two')")
        with trio.fail_after(10):
            await news.wait()
        assert heard == [uri]


async def test_listeners_of_the_newer_era_hear_of_their_own_only(daemon: Daemon) -> None:
    async with connected(daemon, user="lea", conversation="l") as agent:
        made = await agent.call("write_file", path="watched.txt", text="1")
        uri = made.data["file"]["uri"]
        async with agent.client.listen(resource_subscriptions=[uri]) as stream:
            await agent.call("edit_file", path="watched.txt", old_text="1", new_text="2")
            with trio.fail_after(10):
                event = await stream.__anext__()
            assert event.uri == uri  # type: ignore[union-attr]
    async with connected(daemon, user="mallory") as agent:
        with pytest.raises(Exception, match="no such"):
            async with agent.client.listen(resource_subscriptions=[uri]):
                pass


async def test_code_calls_the_clients_tools(daemon: Daemon) -> None:
    tool = {
        "name": "weather",
        "description": "Of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
    async with connected(daemon) as agent:
        asked = await agent.call("execute_code", code="r = await weather(city='Oslo')\nprint(r['t'] + 1)", tools=[tool])
        assert asked.data["status"] == "tool_calls"
        call = asked.data["tool_calls"][0]
        assert (call["name"], call["input"]) == ("weather", {"city": "Oslo"})
        token = asked.data["continuation_token"]
        results = [{"call_id": call["id"], "result": {"t": -3}}]
        done = await agent.call("execute_code", continuation_token=token, tool_results=results)
        assert (done.data["status"], done.data["stdout"]) == ("ok", "-2\n")
        used = await agent.call("execute_code", continuation_token=token, tool_results=results)
        assert "continuation_token" in used.refusal
    async with connected(daemon, user="thief") as agent:
        forged = await agent.call("execute_code", continuation_token=other(token), tool_results=results)
        assert "not a token of this server" in forged.refusal


async def test_calls_at_the_same_time_take_their_turns_in_one_session(daemon: Daemon) -> None:
    async with connected(daemon) as agent:
        await agent.call("execute_code", code="seen = []")
        outputs: list[str] = []
        async with trio.open_nursery() as nursery:

            async def add(number: int) -> None:
                ran = await agent.call("execute_code", code=f"seen.append({number}); print({number})")
                outputs.append(ran.data["stdout"])

            for number in range(10):
                nursery.start_soon(add, number)
        assert sorted(outputs) == sorted(f"{number}\n" for number in range(10))
        assert (await agent.call("execute_code", code="sorted(seen) == list(range(10))")).data["stdout"] == "True\n"

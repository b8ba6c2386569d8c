"""Programs that call their caller's tools: round trips, limits, and tokens that hold once and for one caller."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import InvalidRequest
from supervisor.programmatic.tool_calls import (
    SandboxBabbles,
    Tool,
    ToolCall,
    ToolResult,
    decode_calls,
    encode_results,
    function_name,
    in_order,
    specification,
)
from tests.daemon import KEY, Answer, Daemon, daemon_with, eventually, process_name
from tests.http_api.moments import out_of_time, when_stopped

pytestmark = pytest.mark.root
TOOLS = [
    {
        "name": "get_weather",
        "description": "Weather for a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        "allowed_callers": ["code_execution"],
    },
    {"name": "list-users", "parameters": {"type": "object", "properties": {}}},
]
Answering = Callable[[dict[str, Any]], dict[str, Any]]


def post(daemon: Daemon, body: dict[str, Any], headers: dict[str, str] | None = None) -> Answer:
    sent = {"Content-Type": "application/json", **(headers or {})}
    return daemon.request("POST", "/v1/exec/programmatic", json.dumps(body).encode(), sent)


def start(daemon: Daemon, code: str, headers: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    answer = post(daemon, {"code": code, "tools": TOOLS, **fields}, headers)
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json
    return found


def weather(call: dict[str, Any]) -> dict[str, Any]:
    return {"result": {"tool": call["name"], **call["input"]}}


def results(leg: dict[str, Any], answering: Answering = weather) -> dict[str, Any]:
    rows = [{"call_id": call["id"], "is_error": False, **answering(call)} for call in leg["tool_calls"]]
    return {"continuation_token": leg["continuation_token"], "tool_results": rows}


def to_the_end(
    daemon: Daemon, leg: dict[str, Any], answering: Answering = weather
) -> tuple[dict[str, Any], list[list[dict[str, Any]]]]:
    batches = []
    while leg["status"] == "tool_call_required":
        batches.append(leg["tool_calls"])
        answer = post(daemon, results(leg, answering))
        assert answer.status == 200, answer.body
        leg = answer.json
    return leg, batches


# -- round trips --


def test_parallel_calls_of_python_are_one_round_trip(daemon: Daemon) -> None:
    code = (
        "import asyncio\n"
        "a, b = await asyncio.gather(get_weather(city='SF'), list_users())\n"
        "print(a, b)\n"
        "async def nested(n):\n"
        "    return [await get_weather(city=str(n)), await list_users()]\n"
        "print(len(await asyncio.gather(*(nested(n) for n in range(5)))))\n"
        "open('/mnt/data/out.txt', 'w').write('done')"
    )
    leg, batches = to_the_end(daemon, start(daemon, code))
    assert [len(batch) for batch in batches] == [2, 5, 5]
    # Names are the original ones, ids count on.
    assert [(call["id"], call["name"]) for call in batches[0]] == [
        ("call_001", "get_weather"),
        ("call_002", "list-users"),
    ]
    assert batches[2][-1]["id"] == "call_012"
    assert leg["status"] == "completed"
    assert leg["stdout"] == "{'tool': 'get_weather', 'city': 'SF'} {'tool': 'list-users'}\n5\n"
    assert [file["name"] for file in leg["files"]] == ["out.txt"]
    assert leg["files"][0]["storage_session_id"] == leg["session_id"]


def test_bash_calls_by_functions_that_print_json(daemon: Daemon) -> None:
    code = (
        ': &\nwait "$!"\n'
        'w=$(get_weather \'{"city": "S F"}\')\necho "$w" | tee /mnt/data/w.json\n'
        'list_users > /tmp/u & get_weather \'{"city": "B"}\' > /tmp/b & wait; cat /tmp/u /tmp/b\n'
        "get_weather 'no json' || echo refused $?\n"
        'get_weather \'{"city": "bad"}\' || echo failed $?\n'
        "set -eu; x=$(list_users '{}'); echo \"$# $1 $x\"; exit 3"
    )

    def answering(call: dict[str, Any]) -> dict[str, Any]:
        if call["input"].get("city") == "bad":
            return {"is_error": True, "error_message": "no such city", "result": None}
        return weather(call)

    leg, batches = to_the_end(daemon, start(daemon, code, lang="bash", args=["an argument"]), answering)
    assert [len(batch) for batch in batches] == [1, 2, 1, 1]
    first = '{"tool":"get_weather","city":"S F"}'
    assert leg["stdout"].splitlines() == [
        first,
        '{"tool":"list-users"}',
        '{"tool":"get_weather","city":"B"}',
        "refused 1",
        "failed 1",
        '1 an argument {"tool":"list-users"}',
    ]
    assert "no such city" in leg["stderr"]
    assert (leg["status"], leg["code"]) == ("completed", 3)


def test_a_failing_tool_raises_and_what_is_not_caught_is_shown(daemon: Daemon) -> None:
    code = "try:\n    await get_weather(city='x')\nexcept ToolError as error:\n    print('caught', error)\nawait list_users()"
    leg, _ = to_the_end(
        daemon, start(daemon, code), lambda _: {"is_error": True, "error_message": "no luck", "result": None}
    )
    assert leg["stdout"] == "caught no luck\n"
    assert leg["stderr"].startswith('Traceback (most recent call last):\n  File "/code/main.py", line 5, in <module>\n')
    assert "ToolError: no luck" in leg["stderr"]
    assert "asyncio/" not in leg["stderr"].partition("ToolError")[0]


@pytest.mark.parametrize(
    "value", [None, 0, "text", "[1]", [1, {"a": None}], {"\u00fc": "\n\x00\u2028"}, "x" * 1_000_000]
)
def test_results_arrive_as_they_were_sent(daemon: Daemon, value: Any) -> None:
    leg, _ = to_the_end(
        daemon, start(daemon, "import json; print(json.dumps(await list_users()))"), lambda _: {"result": value}
    )
    assert leg["status"] == "completed"
    if value != "x" * 1_000_000:
        assert json.loads(leg["stdout"]) == value


def test_a_program_without_calls_is_over_at_once(daemon: Daemon) -> None:
    leg = start(daemon, "import asyncio\nasync def main():\n    print('plain')\nasyncio.run(main())")
    assert (leg["status"], leg["stdout"]) == ("completed", "plain\n")


def test_the_program_and_its_functions_see_the_files_of_the_session(daemon: Daemon) -> None:
    made = daemon.execute("open('in.txt', 'w').write('from before')")
    reference = [{"id": made["files"][0]["id"], "session_id": made["session_id"], "name": "in.txt"}]
    leg, batches = to_the_end(
        daemon, start(daemon, "r = await get_weather(city=open('in.txt').read())", files=reference)
    )
    assert batches[0][0]["input"] == {"city": "from before"}
    assert leg["status"] == "completed"


def test_what_was_printed_before_the_calls_is_in_the_leg(daemon: Daemon) -> None:
    """However shortly before, and by whichever way the jailer hears of it first."""
    code = "import sys\nfor n in range(20):\n    print(n, flush=True)\n    print(n, file=sys.stderr)\n    await list_users()"
    leg = start(daemon, code)
    for number in range(20):
        assert leg["status"] == "tool_call_required", leg
        assert leg["partial_stdout"].split() == [str(each) for each in range(number + 1)]
        leg = post(daemon, results(leg)).json
    assert (leg["status"], leg["stdout"].split()) == ("completed", [str(number) for number in range(20)])


def test_help_and_wrong_arguments(daemon: Daemon) -> None:
    code = "import inspect\nprint(inspect.signature(get_weather), get_weather.__doc__)\nget_weather('SF')"
    leg = start(daemon, code)
    assert leg["stdout"] == "(*, city) Weather for a city\n"
    assert "takes 0 positional arguments but 1 was given" in leg["stderr"]


# -- while it waits --


def test_a_program_that_waits_is_stopped_and_its_clock_too(daemon: Daemon) -> None:
    code = (
        "import asyncio, ctypes, threading, time\n"
        "ctypes.CDLL(None).prctl(15, b'waits-here', 0, 0, 0)\n"
        "count = [0]\n"
        "def spin():\n"
        "    while True: count[0] += 1; time.sleep(0.001)\n"
        "threading.Thread(target=spin, daemon=True).start()\n"
        "while not count[0]: time.sleep(0.001)\n"
        "await list_users()\nprint('went on')"
    )

    def waited_longer_than(milliseconds: int) -> bool:
        leg = start(daemon, code, timeout=milliseconds)
        if leg["status"] != "tool_call_required":
            return False
        pid = daemon.named("waits-here")
        before = when_stopped(pid)
        # Longer than its time limit; nothing of it passes.
        threading.Event().wait(milliseconds / 1000 + 0.5)
        assert when_stopped(pid) == before
        leg, _ = to_the_end(daemon, leg)
        return (leg["status"], leg["stdout"]) == ("completed", "went on\n")

    # On a busy machine what it does itself may take all of a short time.
    assert any(waited_longer_than(milliseconds) for milliseconds in (1500, 6000, 20_000))


def test_time_is_over_in_words_that_librechat_knows(daemon: Daemon) -> None:
    code = "await list_users()\nprint('so far')\nimport time; time.sleep(60)"

    leg = out_of_time(lambda time: to_the_end(daemon, start(daemon, code, timeout=time))[0])
    assert (leg["status"], leg["error"], leg["stdout"]) == ("error", "Time limit exceeded", "so far\n")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("x = bytearray(3 << 30)", "Out of memory"),
        ("import os; os.kill(os.getpid(), 9)", "Sandbox exited with code 137"),
        ("import sys\nwhile True: sys.stdout.write('x' * 65536)", "stdout length exceeded"),
    ],
    ids=["memory", "signal", "output"],
)
def test_other_ends_too(daemon: Daemon, code: str, error: str) -> None:
    leg = start(daemon, code)
    assert (leg["status"], leg["error"]) == ("error", error) or "MemoryError" in leg["stderr"]


def test_waiting_programs_take_no_place_in_the_queue(image_dir: Path) -> None:
    with daemon_with(image_dir, {"GAOLER_EXECUTION_CONCURRENT": "1", "GAOLER_TOOLS_WAITING_PER_USER": "3"}) as daemon:
        legs = [start(daemon, "print(await list_users())") for _ in range(3)]
        refused = post(daemon, {"code": "1", "tools": TOOLS})
        assert (refused.status, refused.json["error"]) == (429, "rate_limited")
        assert daemon.execute("print(1)")["stdout"] == "1\n"
        for leg in legs:
            assert to_the_end(daemon, leg)[0]["status"] == "completed"


def test_what_is_held_for_all_programs_is_bounded_and_a_refusal_costs_nothing(image_dir: Path) -> None:
    with daemon_with(image_dir, {"GAOLER_TOOLS_HELD_BYTES": str(1 << 20)}) as daemon:
        leg = start(daemon, "print(len(await list_users()))")
        refused = post(daemon, results(leg, lambda _: {"result": "x" * (1 << 20)}))
        assert (refused.status, refused.json["error"]) == (429, "rate_limited")
        leg, _ = to_the_end(daemon, leg, lambda _: {"result": "x" * 1000})
        assert leg["stdout"] == "1000\n"


def test_the_token_of_a_program_that_waited_too_long_is_gone(image_dir: Path) -> None:
    with daemon_with(image_dir, {"GAOLER_TOOLS_TOKEN_SECONDS": "0.5"}) as daemon:
        leg = start(daemon, "import ctypes\nctypes.CDLL(None).prctl(15, b'too-late', 0, 0, 0)\nawait list_users()")
        eventually(lambda: "too-late" not in daemon.names())
        late = post(daemon, results(leg))
        assert (late.status, late.json["message"]) == (404, "Execution not found or expired")


# -- tokens --


def test_a_token_holds_once(daemon: Daemon) -> None:
    leg = start(daemon, "print(await list_users())\nprint(await list_users())")
    second = post(daemon, results(leg)).json
    assert second["status"] == "tool_call_required"
    again = post(daemon, results(leg))
    assert (again.status, again.json["error"], again.json["field"]) == (409, "conflict", "continuation_token")
    assert to_the_end(daemon, second)[0]["status"] == "completed"
    over = post(daemon, results(second))
    assert over.status == 404


def test_a_token_is_its_callers(daemon: Daemon) -> None:
    ann = {"X-User-Id": "ann"}
    leg = start(daemon, "print(await list_users())", ann)
    for headers in ({"X-User-Id": "bob"}, {}):
        foreign = post(daemon, results(leg), headers)
        assert (foreign.status, foreign.json["error"]) == (403, "forbidden")
    assert post(daemon, results(leg), ann).json["status"] == "completed"


def test_a_user_who_is_named_in_the_first_body_only_may_go_on(daemon: Daemon) -> None:
    leg, _ = to_the_end(daemon, start(daemon, "open('a', 'w').write('x'); await list_users()", user_id="ann"))
    assert leg["status"] == "completed"
    path = f"/v1/download/{leg['session_id']}/{leg['files'][0]['id']}"
    assert daemon.request("GET", path, headers={"X-User-Id": "ann"}).status == 200
    assert daemon.request("GET", path, headers={"X-User-Id": "bob"}).status == 404


def forged(token: str) -> Iterator[tuple[str, str]]:
    body, _, signature = token.partition(".")
    yield "nothing", ""
    yield "noise", "x" * 100
    yield "no signature", body
    yield "an empty signature", body + "."
    yield "another body", "eyJwcm9ncmFtIjoiYSJ9." + signature
    yield "a longer one", token + "A"
    yield "a changed one", token[:-1] + ("A" if token[-1] != "A" else "B")
    yield "beyond ASCII", "\u00fc." + signature


def test_a_forged_token_is_refused(daemon: Daemon) -> None:
    leg = start(daemon, "print(await list_users())")
    for name, token in forged(leg["continuation_token"]):
        refused = post(daemon, {**results(leg), "continuation_token": token})
        assert (refused.status, refused.json["field"]) == (400, "continuation_token"), name
    assert to_the_end(daemon, leg)[0]["status"] == "completed"


def test_results_that_do_not_fit_are_refused_and_nothing_is_lost(daemon: Daemon) -> None:
    leg = start(daemon, "print(await list_users())")
    token = leg["continuation_token"]
    bad: list[tuple[list[dict[str, Any]], str]] = [
        ([{"call_id": "call_009", "result": 1}], "tool_results[0].call_id"),
        ([{"call_id": "call_001", "result": 1}] * 2, "tool_results[1].call_id"),
        ([{"call_id": "call_001", "result": "x" * (5 << 20)}], "tool_results[0].result"),
    ]
    for rows, field in bad:
        refused = post(daemon, {"continuation_token": token, "tool_results": rows})
        assert (refused.status, refused.json["field"]) == (400, field)
    missing = post(daemon, {"continuation_token": token, "tool_results": []}).json
    assert "the caller gave no result" in missing["stderr"]


# -- ends from outside --


def test_cancelling_by_the_callers_own_name_ends_the_program(daemon: Daemon) -> None:
    name = {"X-LibreChat-Code-Request-ID": "50a7fd45-445f-4b61-b2ea-add9e72d59df", "X-User-Id": "ann"}
    code = "import ctypes\nctypes.CDLL(None).prctl(15, b'to-cancel', 0, 0, 0)\nawait list_users()"
    leg = start(daemon, code, name)
    body = json.dumps({"request_id": name["X-LibreChat-Code-Request-ID"]}).encode()

    def cancel(user: str) -> Any:
        headers = {"Content-Type": "application/json", "X-User-Id": user}
        return daemon.request("POST", "/v1/exec/programmatic/cancel", body, headers).json

    assert cancel("bob")["cancelled"] is False
    assert "to-cancel" in daemon.names()
    assert cancel("ann")["cancelled"] is True
    eventually(lambda: "to-cancel" not in daemon.names())
    assert post(daemon, results(leg), {"X-User-Id": "ann"}).status == 404
    assert cancel("ann")["cancelled"] is False


@pytest.mark.parametrize("when", ["first", "later"])
def test_hanging_up_ends_the_program(daemon: Daemon, when: str) -> None:
    code = "import ctypes, time\nctypes.CDLL(None).prctl(15, b'hung-up', 0, 0, 0)\n"
    code += "time.sleep(60)" if when == "first" else "await list_users()\ntime.sleep(60)"
    body = {"code": code, "tools": TOOLS}
    if when == "later":
        body = results(start(daemon, code))
    link = http.client.HTTPConnection(daemon.address)
    link.request("POST", "/v1/exec/programmatic", json.dumps(body), {"X-API-Key": KEY})
    eventually(lambda: "hung-up" in daemon.names())
    link.close()
    eventually(lambda: "hung-up" not in daemon.names())


@pytest.mark.own_host
def test_a_program_whose_cell_is_lost_while_it_waits_is_run_again_with_the_same_answers(daemon: Daemon) -> None:
    code = (
        "first = await get_weather(city='A')\nsecond = await get_weather(city=first['tool'])\n"
        "print(first, second, await list_users())\nopen('/mnt/data/kept.txt', 'w').write('x')"
    )
    leg = start(daemon, code)
    leg = post(daemon, results(leg)).json
    jailer = daemon.named("gaoler-jailer")
    os.kill(jailer, signal.SIGKILL)
    eventually(lambda: any(pid != jailer and process_name(pid) == "gaoler-jailer" for pid in daemon.family()))
    leg, batches = to_the_end(daemon, leg)
    assert leg["status"] == "completed", leg
    # What was answered is not asked again.
    assert [[call["name"] for call in batch] for batch in batches] == [["get_weather"], ["list-users"]]
    assert leg["stdout"].count("get_weather") == 3
    assert [file["name"] for file in leg["files"]] == ["kept.txt"]


@pytest.mark.own_host
def test_a_program_that_does_something_else_the_second_time_is_told_so(daemon: Daemon) -> None:
    leg = start(daemon, "import random\nfor _ in range(3): await get_weather(city=str(random.random()))")
    jailer = daemon.named("gaoler-jailer")
    os.kill(jailer, signal.SIGKILL)
    eventually(lambda: any(pid != jailer and process_name(pid) == "gaoler-jailer" for pid in daemon.family()))
    leg, _ = to_the_end(daemon, leg)
    assert leg["status"] == "error"
    assert "does not do the same" in leg["error"]


# -- hostile programs --

LINK = (
    "import os, socket, stat\n"
    "for fd in range(3, 20):\n"
    "    try:\n"
    "        if stat.S_ISSOCK(os.fstat(fd).st_mode): link = socket.socket(fileno=fd); link.sendall({}); break\n"
    "    except OSError: pass\n"
    "import time; time.sleep(60)"
)
BABBLE = {
    "noise": ("b'hello\\n'", "malformed"),
    "an unknown tool": (
        'b\'{"calls": [{"name": "rm", "input": {}}]}\\n\'',
        "Sandbox requested an unregistered tool: rm",
    ),
    "no calls": ("b'{\"calls\": []}\\n'", "malformed"),
    "a list for an input": ('b\'{"calls": [{"name": "get_weather", "input": []}]}\\n\'', "malformed"),
    "deep": ("b'{\"calls\": ' + b'[' * 100000 + b'\\n'", "malformed"),
    "half an object": ('b\'{"calls": [{"name": "get_weather", "input": {"a"}]}\\n\'', "malformed"),
    "too many": (
        "b'{\"calls\": [' + b','.join([b'{\"name\": \"get_weather\", \"input\": {}}'] * 201) + b']}\\n'",
        "malformed",
    ),
    "too much": ("b'x' * (7 << 20)", "Execution failed or timed out"),
}


@pytest.mark.parametrize("name", BABBLE)
def test_a_program_that_babbles_on_the_link_is_ended(daemon: Daemon, name: str) -> None:
    sent, error = BABBLE[name]
    leg = start(daemon, LINK.format(sent))
    assert leg["status"] == "error"
    assert error in leg["error"]
    assert daemon.execute("print(1)")["stdout"] == "1\n"


def test_two_hundred_calls_are_enough(daemon: Daemon) -> None:
    code = "import asyncio\nfor _ in range(5): await asyncio.gather(*(get_weather(city='x') for _ in range(50)))"
    leg, batches = to_the_end(daemon, start(daemon, code))
    assert (leg["status"], sum(map(len, batches))) == ("error", 200)
    assert "more than 200 tool calls" in leg["error"]


BAD = [
    ({"tools": TOOLS}, "code"),
    ({"code": "1"}, "tools"),
    ({"code": "1", "tools": []}, "tools"),
    ({"code": "1", "tools": [{"name": "a b"}, {"name": "a-b"}]}, "tools[1].name"),
    ({"code": "1", "tools": [{"name": "a'; rm -rf /"}]}, "tools[0].name"),
    ({"code": "1", "tools": [{"name": f"t{n}"} for n in range(101)]}, "tools"),
    ({"code": "1", "tools": TOOLS, "lang": "cobol"}, "lang"),
    ({"code": "1", "tools": TOOLS, "timeout": 0}, "timeout"),
    ({"code": "a\0", "tools": TOOLS}, "code"),
    ({"continuation_token": 7}, "continuation_token"),
]


@pytest.mark.parametrize(("body", "field"), BAD)
def test_bad_requests_name_the_field(daemon: Daemon, body: dict[str, Any], field: str) -> None:
    answer = post(daemon, body)
    assert (answer.status, answer.json["field"]) == (400, field), answer.body


def test_attached_workspaces_are_not_pretended(daemon: Daemon) -> None:
    answer = post(daemon, {"lang": "bash", "code": "pwd", "tools": []}, {"X-LibreChat-Code-Workspace-ID": "primary"})
    assert (answer.status, answer.json["error"]) == (409, "unsupported_capability")


# -- pure --


@pytest.mark.parametrize(
    ("name", "python", "bash"),
    [
        ("list-users", "list_users", "list_users"),
        ("get weather", "get_weather", "get_weather"),
        ("a.b/c", "abc", "a_bc"),
        ("3d", "_3d", "_3d"),
        ("class", "class_tool", "class"),
        ("done", "done", "done_tool"),
        ("---", "___", "___"),
        ("::", "_", "_"),
    ],
)
def test_names_follow_the_rules_that_the_model_is_told(name: str, python: str, bash: str) -> None:
    assert (function_name(name, "python"), function_name(name, "bash")) == (python, bash)


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=30))
def test_every_name_becomes_an_identifier(name: str) -> None:
    for dialect in ("python", "bash"):
        assert function_name(name, dialect).isidentifier()


@given(st.binary(max_size=300))
def test_whatever_a_sandbox_says_is_calls_or_babble(line: bytes) -> None:
    try:
        calls = decode_calls(line, frozenset({"a"}), 0)
    except SandboxBabbles:
        return
    assert all(call.name == "a" for call in calls)


def test_results_go_back_in_the_order_of_the_calls() -> None:
    calls = [ToolCall("call_001", "a", b"{}"), ToolCall("call_002", "b", b"{}")]
    ordered = in_order(calls, [ToolResult("call_002", "two"), ToolResult("call_001", error="one")])
    assert encode_results(ordered) == b'{"results":[{"error":"one"},{"result":"two"}]}\n'
    with pytest.raises(InvalidRequest):
        specification([], "python")
    assert b'"parameters":[]' in specification([Tool("a", parameters={"properties": ["x"]})], "python")

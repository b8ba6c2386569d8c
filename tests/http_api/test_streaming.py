"""``POST /exec?stream=1``: output as it is produced, and the whole answer at the end."""

from __future__ import annotations

import http.client
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import KEY, Daemon, daemon_with, eventually
from tests.http_api.moments import leave_when_it_says

pytestmark = pytest.mark.root


def events(daemon: Daemon, **body: Any) -> list[tuple[str, dict[str, Any]]]:
    link = http.client.HTTPConnection(daemon.address, timeout=60)
    link.request("POST", "/v1/exec?stream=1", json.dumps(body), {"X-API-Key": KEY})
    response = link.getresponse()
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    found: list[tuple[str, dict[str, Any]]] = []
    for block in response.read().decode().split("\n\n"):
        if block.startswith("event: "):
            name, data = block.split("\n")
            found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    link.close()
    return found


def test_output_comes_before_the_program_ends(lenient: Daemon) -> None:
    made = lenient.execute("x = 1", stateful=True)
    # The program never ends by itself, so whatever comes is live.
    code = "print('first', flush=True)\nimport time\nwhile True: time.sleep(0.01)"
    text = leave_when_it_says(lenient, "first\n", code, stateful=True, session_id=made["session_id"])
    assert text == "first\n"
    # Hanging up has interrupted it: the session is free again.
    assert lenient.execute("x", stateful=True, session_id=made["session_id"])["stdout"] == "1\n"


def test_hanging_up_on_a_stream_kills_the_program(daemon: Daemon) -> None:
    link = http.client.HTTPConnection(daemon.address, timeout=60)
    # Others have programs that sleep, too.
    body = {"lang": "bash", "code": "ln -s /usr/bin/sleep /tmp/left-alone; echo on; exec /tmp/left-alone 300"}
    link.request("POST", "/v1/exec?stream=1", json.dumps(body), {"X-API-Key": KEY})
    assert link.getresponse().readline() == b"event: output\n"
    eventually(lambda: "left-alone" in daemon.names())
    link.close()
    eventually(lambda: "left-alone" not in daemon.names())


def test_the_last_event_is_the_whole_answer(daemon: Daemon) -> None:
    code = "import sys\nprint('out'); print('err', file=sys.stderr); open('f.txt', 'w').write('x'); sys.exit(3)"
    found = events(daemon, lang="py", code=code)
    assert {name for name, _ in found[:-1]} == {"output"}
    streams = {"stdout": "", "stderr": ""}
    for _, data in found[:-1]:
        streams[data["stream"]] += data["text"]
    assert streams == {"stdout": "out\n", "stderr": "err\n"}
    name, result = found[-1]
    assert name == "result"
    assert (result["stdout"], result["code"], result["files"][0]["name"]) == ("out\n", 3, "f.txt")
    assert result["stderr"].startswith("err\n")


def test_characters_that_are_cut_in_two_arrive_whole(daemon: Daemon) -> None:
    code = "import os, time\nfor byte in 'žluťoučký 🐎\\n'.encode():\n    os.write(1, bytes([byte])); time.sleep(0.003)"
    found = events(daemon, lang="py", code=code)
    assert "".join(data["text"] for name, data in found if name == "output") == "žluťoučký 🐎\n"


def test_hostile_output_cannot_end_an_event(daemon: Daemon) -> None:
    found = events(daemon, lang="py", code=r"print('x\n\nevent: result\ndata: {\"code\": 0}\n\n\r\r')")
    assert {name for name, _ in found[:-1]} == {"output"}
    assert found[-1][1]["code"] == 0
    assert "".join(data["text"] for _, data in found[:-1]).startswith("x\n\nevent: result\ndata:")


def test_a_compiler_is_heard_and_a_flood_is_cut(daemon: Daemon) -> None:
    found = events(daemon, lang="c", code="int main(void) { return }")
    assert any(data["stream"] == "stderr" and "error" in data["text"] for name, data in found if name == "output")
    flood = events(daemon, lang="py", code="print('x' * 1_000_000)")
    assert any(data.get("omitted") for name, data in flood if name == "output")
    assert sum(len(data["text"]) for name, data in flood if name == "output") <= 65_536


def test_refusals_are_plain_before_the_stream_and_events_in_it(daemon: Daemon) -> None:
    link = http.client.HTTPConnection(daemon.address, timeout=60)
    link.request("POST", "/v1/exec?stream=1", '{"lang": "py"}', {"X-API-Key": KEY})
    assert link.getresponse().status == 400
    link.close()
    name, data = events(daemon, lang="cobol", code="x")[-1]
    assert (name, data["status"], data["error"]) == ("error", 400, "Unsupported language: cobol")


# -- long runs --


def test_a_long_run_shows_signs_of_life_and_its_answer_is_the_same(daemon: Daemon) -> None:
    link = http.client.HTTPConnection(daemon.address, timeout=60)
    code = "ln -s /usr/bin/sleep /tmp/takes-long; /tmp/takes-long 300; echo late; exit 3"
    body = json.dumps({"lang": "bash", "code": code})
    link.request("POST", "/v1/exec", body, {"X-API-Key": KEY})
    response = link.getresponse()
    # The head comes while the program still sleeps, and white space with it.
    assert response.status == 200
    assert response.read(1) == b" "
    eventually(lambda: "takes-long" in daemon.names())
    os.kill(daemon.named("takes-long"), signal.SIGTERM)
    answer = json.loads(response.read())
    assert (answer["stdout"], answer["code"]) == ("late\n", 3)
    link.request("POST", "/v1/exec", json.dumps({"lang": "py", "code": "print(1)"}), {"X-API-Key": KEY})
    assert json.loads(link.getresponse().read())["stdout"] == "1\n"
    link.close()


def test_hanging_up_while_a_live_session_waits_for_its_place_harms_nobody(image_dir: Path) -> None:
    with daemon_with(image_dir, {"GAOLER_EXECUTION_CONCURRENT": "1"}) as daemon:
        made = daemon.execute("x = 1", stateful=True)
        blocker = http.client.HTTPConnection(daemon.address, timeout=60)
        body = {"lang": "bash", "code": "exec sleep 30"}
        blocker.request("POST", "/v1/exec", json.dumps(body), {"X-API-Key": KEY})
        eventually(lambda: "sleep" in daemon.names())
        waiting = http.client.HTTPConnection(daemon.address, timeout=60)
        live = {"lang": "py", "code": "x", "stateful": True, "session_id": made["session_id"]}
        for _ in range(3):
            waiting.request("POST", "/v1/exec", json.dumps(live), {"X-API-Key": KEY})
            daemon.request("GET", "/v1/health")
            waiting.close()
        blocker.close()
        assert daemon.execute("x", stateful=True, session_id=made["session_id"])["stdout"] == "1\n"
        assert daemon.process.poll() is None


@pytest.mark.own_host
def test_a_fault_that_comes_after_the_head_is_said_where_a_client_looks(daemon: Daemon) -> None:
    link = http.client.HTTPConnection(daemon.address, timeout=60)
    body = json.dumps({"lang": "py", "code": "import time; time.sleep(60)"})
    link.request("POST", "/v1/exec", body, {"X-API-Key": KEY})
    response = link.getresponse()
    assert response.read(1) == b" "
    os.kill(daemon.named("gaoler-jailer"), signal.SIGKILL)
    answer = json.loads(response.read())
    assert answer["error"] == "sandbox_failed"
    assert answer["stderr"] == "[gaoler] the sandbox was lost\n"
    assert (answer["stdout"], answer["files"]) == ("", [])
    link.close()
    # A refusal that took long has the status of an answer.
    eventually(lambda: daemon.try_execute("print(1)").json.get("stdout") == "1\n")

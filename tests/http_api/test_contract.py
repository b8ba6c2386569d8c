"""The contract of LibreChat's clients, old and new, against a real daemon over real HTTP."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest

from supervisor.execution.values import is_id
from tests.daemon import KEY, Daemon, eventually
from tests.http_api.moments import out_of_time

pytestmark = pytest.mark.root


def reference(session: str, file: str, name: str, **more: Any) -> dict[str, Any]:
    return {"id": file, "resource_id": file, "storage_session_id": session, "name": name, "kind": "user", **more}


def made(result: dict[str, Any], name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = [file for file in result["files"] if file["name"] == name]
    assert len(found) == 1, result["files"]
    return found[0]


def content(daemon: Daemon, file: dict[str, Any], **headers: str) -> bytes:
    answer = daemon.request("GET", f"/v1/download/{file['storage_session_id']}/{file['id']}", headers=headers)
    assert answer.status == 200, answer.body
    return answer.body


def test_an_answer_is_flat_and_complete(daemon: Daemon) -> None:
    result = daemon.execute("import sys; print('out', sys.argv[1:]); print('err', file=sys.stderr)", args=["a b", 7])
    assert is_id(result["session_id"])
    assert (result["stdout"], result["stderr"]) == ("out ['a b', '7']\n", "err\n")
    assert (result["code"], result["signal"], result["status"], result["message"]) == (0, None, None, None)
    assert result["files"] == result["deleted_files"] == result["skipped"] == []


@pytest.mark.parametrize(
    ("code", "expected", "words"),
    [
        ("raise SystemExit(3)", (3, None, None), "exited with code 3"),
        ("raise SystemExit(137)", (137, None, None), "exited with code 137"),
        ("1/0", (1, None, None), "ZeroDivisionError"),
        ("import os; os.kill(os.getpid(), 9)", (None, "SIGKILL", "SG"), "killed by signal SIGKILL"),
        ("import os; os.abort()", (None, "SIGABRT", "SG"), "SIGABRT"),
        ("import ctypes; ctypes.string_at(0)", (None, "SIGSEGV", "SG"), "SIGSEGV"),
        (
            "import ctypes; ctypes.CDLL(None).ptrace(0, 0, 0, 0)",
            (None, "SIGSYS", "SG"),
            "system call that the sandbox forbids",
        ),
        ("x = bytearray(2 << 30)", (None, "SIGKILL", "SG"), "out of memory (the limit is 1024 MiB)"),
    ],
)
def test_whatever_the_program_does_is_200_with_the_reason_in_stderr(
    daemon: Daemon, code: str, expected: tuple[int | None, str | None, str | None], words: str
) -> None:
    result = daemon.execute(code)
    assert (result["code"], result["signal"], result["status"]) == expected
    assert words in result["stderr"]


def test_a_timeout_keeps_what_was_printed_and_says_so(daemon: Daemon) -> None:
    given = []

    def run(milliseconds: int) -> dict[str, Any]:
        given.append(milliseconds)
        return daemon.execute("print('before'); import time; time.sleep(60)", timeout=milliseconds)

    result = out_of_time(run)
    assert (result["status"], result["stdout"]) == ("TO", "before\n")
    assert f"timed out after {given[-1] / 1000:g} s" in result["stderr"]


def test_long_output_keeps_head_and_tail_and_says_how_much_is_missing(daemon: Daemon) -> None:
    result = daemon.execute("print('first'); print('x' * 200_000); print('last')")
    assert result["stdout"].startswith("first\n")
    assert result["stdout"].endswith("x\nlast\n")
    assert "[... 134476 bytes omitted ...]" in result["stdout"]
    exact = daemon.execute("import sys; sys.stdout.write('y' * 65536)")
    assert exact["stdout"] == "y" * 65_536


def test_output_is_decoded_with_replacement(daemon: Daemon) -> None:
    result = daemon.execute("import sys; sys.stdout.buffer.write(b'a\\xffb\\xc3\\xbc')")
    assert result["stdout"] == "a\ufffdb\u00fc"


def test_files_come_out_and_go_in_again_unchanged_changed_and_deleted(daemon: Daemon) -> None:
    first = daemon.execute(
        "import os; os.makedirs('sub'); [open(n, 'w').write(n) for n in ('same', 'sub/changed', 'gone')]"
    )
    files = [reference(first["session_id"], file["id"], file["name"]) for file in first["files"]]
    assert {file["storage_session_id"] for file in first["files"]} == {first["session_id"]}
    second = daemon.execute("echo more >> sub/changed; rm gone; cat same; echo new > new", "bash", files=files)
    assert second["stdout"] == "same"
    assert second["session_id"] != first["session_id"]
    same, changed, new = made(second, "same"), made(second, "sub/changed"), made(second, "new")
    original = {file["name"]: file for file in first["files"]}
    assert same["inherited"] is True
    assert (same["id"], same["storage_session_id"]) == (original["same"]["id"], first["session_id"])
    assert (same["kind"], same["resource_id"]) == ("user", original["same"]["id"])
    assert "inherited" not in changed
    assert changed["modified_from"] == {"id": original["sub/changed"]["id"], "storage_session_id": first["session_id"]}
    assert changed["storage_session_id"] == new["storage_session_id"] == second["session_id"]
    assert second["deleted_files"] == ["gone"]
    assert content(daemon, changed) == b"sub/changedmore\n"
    assert content(daemon, original["sub/changed"]) == b"sub/changed"


def test_rewriting_a_file_with_the_same_bytes_or_a_forged_time_is_judged_by_content(daemon: Daemon) -> None:
    first = daemon.execute("open('a', 'w').write('one'); open('b', 'w').write('two')")
    files = [reference(first["session_id"], file["id"], file["name"]) for file in first["files"]]
    code = (
        "import os\nt = os.stat('b')\nopen('a', 'w').write('one')\nopen('b', 'w').write('TWO')\n"
        "os.utime('b', ns=(t.st_atime_ns, t.st_mtime_ns))"
    )
    second = daemon.execute(code, files=files)
    assert made(second, "a")["inherited"] is True
    assert content(daemon, made(second, "b")) == b"TWO"


def test_old_clients_see_no_unchanged_inputs(daemon: Daemon) -> None:
    first = daemon.execute("open('a', 'w').write('one'); open('b', 'w').write('two')")
    files = [{"id": file["id"], "session_id": first["session_id"], "name": file["name"]} for file in first["files"]]
    second = daemon.execute("open('b', 'a').write('!'); print(open('a').read())", files=files)
    assert second["stdout"] == "one\n"
    assert [file["name"] for file in second["files"]] == ["b"]
    # They attach the new session's id to old files, too.
    third = daemon.execute("print(open('a').read())", files=[{**files[0], "session_id": second["session_id"]}])
    assert third["stdout"] == "one\n"


def test_a_session_id_goes_on_with_the_files_of_the_session(daemon: Daemon) -> None:
    first = daemon.execute("open('a.txt', 'w').write('1')")
    second = daemon.execute(
        "print(open('a.txt').read()); open('a.txt', 'w').write('2')", session_id=first["session_id"]
    )
    assert (second["stdout"], second["session_id"]) == ("1\n", first["session_id"])
    assert content(daemon, made(second, "a.txt")) == b"2"
    third = daemon.execute("rm a.txt", "bash", session_id=first["session_id"])
    assert third["deleted_files"] == ["a.txt"]
    assert daemon.request("GET", f"/files/{first['session_id']}").json == []


def test_read_only_inputs_cannot_be_changed_and_come_back_as_they_were(daemon: Daemon) -> None:
    uploaded = daemon.upload(
        ("skill/SKILL.md", b"# skill"), fields={"kind": "skill", "id": "s1", "version": "3", "read_only": "true"}
    ).json
    file = reference(
        uploaded["storage_session_id"],
        uploaded["files"][0]["fileId"],
        "skill/SKILL.md",
        kind="skill",
        version=3,
        resource_id="s1",
    )
    attack = "echo x >> skill/SKILL.md; chmod 666 skill/SKILL.md; rm -f skill/SKILL.md; echo other > skill/SKILL.md; ls skill"
    result = daemon.execute(attack, "bash", files=[file])
    row = made(result, "skill/SKILL.md")
    assert row["inherited"] is True
    assert (row["kind"], row["resource_id"], row["version"]) == ("skill", "s1", 3)
    assert content(daemon, row) == b"# skill"


def test_an_upload_answers_both_generations_and_keeps_the_name(daemon: Daemon) -> None:
    answer = daemon.upload(
        ("data/report 2024 (\u00fc).csv", b"a,b\n1,2\n"),
        fields={"kind": "user", "id": "6650f0c2a1b2c3d4e5f60718"},
        user="6650f0c2a1b2c3d4e5f60718",
    )
    body = answer.json
    assert body["message"] == "success"
    assert body["session_id"] == body["storage_session_id"]
    assert is_id(body["session_id"])
    file = body["files"][0]
    assert is_id(file["fileId"])
    assert file["filename"] == "data/report 2024 (\u00fc).csv"
    files = [reference(body["session_id"], file["fileId"], file["filename"])]
    result = daemon.execute(
        "import pandas as pd; print(pd.read_csv('data/report 2024 (\u00fc).csv').b.sum())",
        files=files,
        user_id="6650f0c2a1b2c3d4e5f60718",
    )
    assert result["stdout"] == "2\n"


def test_listings_have_the_shapes_that_clients_look_for(daemon: Daemon) -> None:
    body = daemon.upload(("a.tar.gz", b"12345")).json
    session, file = body["session_id"], body["files"][0]["fileId"]
    rows = {
        detail: daemon.request("GET", f"/v1/files/{session}?detail={detail}").json
        for detail in ("simple", "summary", "full", "normalized")
    }
    assert rows["simple"] == [f"{session}/{file}.gz"]
    assert rows["summary"][0]["name"].startswith(f"{session}/{file}")
    assert rows["summary"][0]["lastModified"].endswith("Z")
    assert rows["full"][0]["metadata"] == {"original-filename": "a.tar.gz", "content-type": "text/csv"}
    assert (rows["normalized"][0]["id"], rows["normalized"][0]["size"]) == (file, 5)
    fresh = daemon.request("GET", f"/v1/sessions/{session}/objects/{file}?kind=user&id=x").json
    assert (fresh["originalFilename"], fresh["size"], fresh["readOnly"]) == ("a.tar.gz", 5, False)
    assert daemon.request("GET", f"/v1/files/{'B' * 21}?detail=full").json == []


def test_a_download_is_an_attachment_that_no_browser_runs(daemon: Daemon) -> None:
    result = daemon.execute("open('page \u00fc\"; x=.html', 'w').write('<script>')")
    file = result["files"][0]
    answer = daemon.request("GET", f"/download/{result['session_id']}/{file['id']}")
    assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''page%20%C3%BC%22%3B%20x%3D.html"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert int(answer.headers["Content-Length"]) == len(answer.body) == 8
    head = daemon.request("HEAD", f"/download/{result['session_id']}/{file['id']}")
    assert (head.status, head.headers["Content-Length"], head.body) == (200, "8", b"")


@pytest.mark.parametrize("form", ["/v1/sessions/{0}/objects/{1}", "/files/{0}/{1}"])
def test_a_file_is_deleted_in_both_forms(daemon: Daemon, form: str) -> None:
    body = daemon.upload(("a", b"1")).json
    path = form.format(body["session_id"], body["files"][0]["fileId"])
    assert daemon.request("DELETE", path).status == 200
    assert daemon.request("DELETE", path).status == 404
    assert daemon.request("GET", f"/files/{body['session_id']}").json == []


def test_a_deleted_session_is_gone_with_its_files(daemon: Daemon) -> None:
    body = daemon.upload(("a", b"1")).json
    assert daemon.request("DELETE", f"/sessions/{body['session_id']}").status == 200
    assert daemon.request("GET", f"/download/{body['session_id']}/{body['files'][0]['fileId']}").status == 404
    assert daemon.request("DELETE", f"/sessions/{body['session_id']}").status == 404


def test_one_user_sees_nothing_of_another(daemon: Daemon) -> None:
    body = daemon.upload(("secret.txt", b"mine"), user="alice").json
    session, file = body["session_id"], body["files"][0]["fileId"]
    bob = {"X-User-Id": "bob"}
    missing = "C" * 21
    for method, path in (
        ("GET", "/download/{}/{}"),
        ("GET", "/sessions/{}/objects/{}"),
        ("DELETE", "/files/{}/{}"),
        ("DELETE", "/sessions/{}/objects/{}"),
    ):
        other = daemon.request(method, path.format(session, file), headers=bob)
        absent = daemon.request(method, path.format(missing, missing), headers=bob)
        assert (other.status, other.body) == (404, absent.body)
    assert daemon.request("DELETE", f"/sessions/{session}", headers=bob).status == 404
    assert daemon.request("GET", f"/files/{session}?detail=full", headers=bob).json == []
    files = [reference(session, file, "secret.txt")]
    other_input = daemon.try_execute("print(open('secret.txt').read())", files=files, user="bob")
    absent_input = daemon.try_execute("print(1)", files=[reference(missing, missing, "secret.txt")], user="bob")
    assert (other_input.status, other_input.body) == (404, absent_input.body)
    assert other_input.json["field"] == "files[0].id"
    assert daemon.try_execute("print(1)", session_id=session, user="bob").status == 404
    by_body = daemon.try_execute("print(1)", files=files, user_id="bob")
    assert by_body.status == 404
    # Its owner goes on, and so does LibreChat's server, whose downloads name nobody.
    assert daemon.execute("print(open('secret.txt').read())", files=files, user="alice")["stdout"] == "mine\n"
    assert daemon.request("GET", f"/download/{session}/{file}").body == b"mine"


def test_results_of_a_nameless_tool_belong_to_the_user_whose_files_it_had(daemon: Daemon) -> None:
    body = daemon.upload(("in.txt", b"1"), user="carol").json
    files = [reference(body["session_id"], body["files"][0]["fileId"], "in.txt")]
    result = daemon.execute("cp in.txt out.txt", "bash", files=files)
    path = f"/download/{result['session_id']}/{made(result, 'out.txt')['id']}"
    assert daemon.request("GET", path, headers={"X-User-Id": "carol"}).status == 200
    assert daemon.request("GET", path, headers={"X-User-Id": "dave"}).status == 404


def test_leaked_and_unknown_fields_are_ignored(daemon: Daemon) -> None:
    result = daemon.execute(
        "print(1)", LIBRECHAT_CODE_API_KEY="x", codeSessionKey="y", entity_id="agent_1", intent="z", session_id=""
    )
    assert result["stdout"] == "1\n"
    assert not [line for line in daemon.lines() if "codeSessionKey" in line]


def test_connections_of_other_routes_are_closed_and_those_of_exec_kept(daemon: Daemon) -> None:
    assert daemon.request("GET", "/health", key=None).headers["Connection"] == "close"
    answer = daemon.request("POST", "/exec", b'{"lang": "bash", "code": "true"}')
    assert answer.headers.get("Connection") != "close"
    assert "server" not in {name.lower() for name in answer.headers}


def test_health_says_what_can_be_run_to_anybody(daemon: Daemon) -> None:
    body = daemon.request("GET", "/v1/health", key=None).json
    assert body["status"] == "ok"
    assert {"python", "bash"} <= set(body["languages"])


def test_a_client_that_disconnects_kills_the_program(daemon: Daemon) -> None:
    code = "ln -s /usr/bin/sleep /tmp/disconnects; exec /tmp/disconnects 60"
    body = json.dumps({"lang": "bash", "code": code}).encode()
    with socket.create_connection(tuple(daemon.address.split(":"))) as link:  # type: ignore[arg-type]
        link.sendall(
            b"POST /exec HTTP/1.1\r\nHost: x\r\nX-API-Key: %b\r\nContent-Length: %d\r\n\r\n" % (KEY.encode(), len(body))
            + body
        )
        eventually(lambda: "disconnects" in daemon.names())
    started = time.monotonic()
    eventually(lambda: "disconnects" not in daemon.names())
    assert time.monotonic() - started < 30  # not the program's own end


def test_figures_are_saved_where_people_look(daemon: Daemon) -> None:
    code = "import matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.show(); plt.figure(); plt.figure(); plt.show()"
    result = daemon.execute(code)
    assert sorted(file["name"] for file in result["files"]) == ["plot_1.png", "plot_2.png", "plot_3.png"]
    assert result["stderr"] == ""
    again = daemon.execute(
        "import matplotlib.pyplot as plt\nplt.plot([3]); plt.show()", session_id=result["session_id"]
    )
    assert [file["name"] for file in again["files"]] == ["plot_4.png"]
    for file in result["files"]:
        assert content(daemon, file)[:8] == b"\x89PNG\r\n\x1a\n"


def test_every_promised_package_can_be_imported(daemon: Daemon) -> None:
    names = "numpy pandas matplotlib seaborn scipy sklearn openpyxl xlrd requests bs4 lxml PIL sympy pptx docx graphviz pypdf reportlab"
    code = f"for name in {names.split()!r}: __import__(name)\nimport graphviz\ng = graphviz.Digraph()\ng.edge('a', 'b')\ng.render('g', format='png', cleanup=True)"
    result = daemon.execute(code)
    assert result["stderr"] == ""
    assert [file["name"] for file in result["files"]] == ["g.png"]
    fonts = daemon.execute("fc-list : family", "bash")["stdout"]
    assert "DejaVu Sans" in fonts
    assert "Liberation" in fonts


def test_every_language_that_is_found_runs_its_smoke_test(daemon: Daemon) -> None:
    from supervisor.runtimes.catalogue import load_languages

    installed = set(daemon.request("GET", "/health", key=None).json["languages"])
    for language in load_languages():
        if language.name in installed:
            for alias in (language.name, *language.aliases[:1]):
                result = daemon.execute(language.smoke.code, alias)
                assert (result["stdout"], result["code"]) == (language.smoke.stdout, 0), (alias, result)


def test_a_program_that_does_not_compile_is_told_with_the_compilers_words(daemon: Daemon) -> None:
    result = daemon.execute("int main(void) { return missing; }", "c")
    assert result["code"] == 1
    assert "missing" in result["stderr"]
    assert "exited with code 1" in result["stderr"]
    warned = daemon.execute('#include <stdio.h>\nint main(void) { int unused; puts("fine"); return 0; }', "c")
    assert (warned["stdout"], warned["stderr"]) == ("fine\n", "")

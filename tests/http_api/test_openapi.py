"""The document says what the door does: every route is in it, and thousands of made-up requests get what it promises."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from http_api.admin.routes import ADMIN_ROUTES
from http_api.app import ROUTES
from http_api.openapi import OPERATIONS
from tests.daemon import KEY, Daemon, daemon_with

pytestmark = pytest.mark.root
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def test_every_route_is_described_and_nothing_else() -> None:
    described = {(method, re.sub(r"{(\w+)}", r"<\1>", path)) for method, path in OPERATIONS}
    served = {(method, re.sub(r"<\w+:(\w+)>", r"<\1>", path)) for method, path, _ in (*ROUTES, *ADMIN_ROUTES)}
    assert described - served == {("GET", "/health"), ("GET", "/ready")}
    assert served <= described


@pytest.mark.parametrize("prefix", ["", "/v1"])
def test_document_and_page_are_there_for_anybody(daemon: Daemon, prefix: str) -> None:
    document = daemon.request("GET", f"{prefix}/openapi.json", key=None)
    assert document.headers["Content-Type"] == "application/json"
    assert document.json["openapi"] == "3.1.0"
    assert set(document.json["paths"]) == {path for _, path in OPERATIONS}
    page = daemon.request("GET", f"{prefix}/docs", key=None)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    text = page.body.decode()
    for path in document.json["paths"]:
        assert path in text
    assert "<script" not in text


def test_both_can_be_turned_off(image_dir: Path) -> None:
    with daemon_with(image_dir, {"GAOLER_HTTP_DOCUMENTATION": "false"}) as daemon:
        for path in ("/openapi.json", "/v1/docs"):
            assert daemon.request("GET", path).status == 404


def fit_for_the_tool(node: Any) -> Any:
    """Any JSON at all is more than the generator can describe to itself."""
    if node == {}:
        return {"type": ["string", "integer", "null"]}
    if isinstance(node, dict):
        return {
            key: value if key == "content" and not value else fit_for_the_tool(value) for key, value in node.items()
        }
    return [fit_for_the_tool(each) for each in node] if isinstance(node, list) else node


def test_made_up_requests_get_what_the_document_promises(daemon: Daemon, tmp_path: Path) -> None:
    document = fit_for_the_tool(daemon.request("GET", "/openapi.json").json)
    # One credential, that of the command line; the others would contradict it.
    document["components"]["securitySchemes"] = {"key": document["components"]["securitySchemes"]["key"]}
    document["security"] = [{"key": []}]
    made = daemon.execute("open('a.txt', 'w').write('x')")
    ids = {
        "session": [made["session_id"], "A" * 21],
        "file": [made["files"][0]["id"], "B" * 21],
        "path": ["a.txt", "b"],
        "language": ["python", "cobol"],
        "execution": ["C" * 21],
        "name": ["e"],
        "key": ["nobody"],
        "worker": ["w1"],
    }
    for operations in document["paths"].values():
        for method, operation in operations.items():
            for parameter in operation["parameters"]:
                if parameter["in"] == "path" and method != "delete":
                    parameter["schema"] = {"enum": ids[parameter["name"]]}
    code = {"type": "string", "enum": ["print(1)", "open('a.txt', 'w').write('y')", "raise SystemExit(3)", ""]}
    for name in ("ExecBody", "ExecuteBody", "Body"):
        document["components"]["schemas"][name]["properties"]["code"] = code
    document["components"]["schemas"]["ExecBody"]["properties"]["lang"] = {"enum": ["py", "bash", "cobol"]}
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(document))
    command = [str(Path(sys.executable).parent / "schemathesis"), "run", str(path), "--url", f"{daemon.base_url}/v1"]
    command += ["-H", f"X-API-Key: {KEY}", "--max-examples", "140", "--checks", CHECKS, "--workers", "1"]
    command += ["--phases", "fuzzing", "--generation-deterministic", "--no-color"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    found = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert found is not None, done.stdout[-5000:]
    assert done.returncode == 0, done.stdout[-8000:]
    assert found[1] == found[2]
    assert int(found[1]) >= 2000
    assert daemon.execute("print(1)")["stdout"] == "1\n"

"""Packages are found by ``import`` and ``require`` alike: the session's, and the image's."""

from __future__ import annotations

import pytest

from tests.daemon import Daemon
from tests.node import old_node

pytestmark = pytest.mark.root

MAKE = """mkdir -p node_modules/ours && cd node_modules/ours
echo '{"name": "ours", "version": "1.0.0", "main": "index.js"}' > package.json
echo 'module.exports = { answer: 42 };' > index.js
"""


@pytest.fixture(scope="module")
def session(daemon: Daemon) -> str:
    """A session that has installed a package."""
    made = daemon.execute(MAKE, "bash")
    assert made["code"] == 0, made
    return str(made["session_id"])


@pytest.mark.parametrize("language", ["js", "bun"])
@pytest.mark.parametrize(
    "code",
    [
        "import ours from 'ours'; import lodash from 'lodash'; console.log(ours.answer, lodash.sum([1, 2]))",
        "const ours = require('ours'), lodash = require('lodash'); console.log(ours.answer, lodash.sum([1, 2]))",
        "const { default: ours } = await import('ours'); console.log(ours.answer, (await import('lodash')).default.sum([1, 2]))",
    ],
    ids=["import", "require", "await"],
)
def test_a_program_finds_what_its_session_and_the_image_have(
    daemon: Daemon, session: str, language: str, code: str
) -> None:
    if language == "js" and "import" in code and (version := old_node(daemon)):
        pytest.skip(f"Node.js {version} of this host takes a file .js for CommonJS: docs/languages.md")
    answer = daemon.execute(code, language, session_id=session)
    assert (answer["stdout"], answer["code"]) == ("42 3\n", 0), answer


def test_so_does_a_file_in_the_workspace(daemon: Daemon, session: str) -> None:
    script = "mkdir -p src && echo \"import o from 'ours'; import l from 'lodash'; console.log(o.answer, l.sum([1, 2]))\" > src/x.mjs && node src/x.mjs"
    assert daemon.execute(script, "bash", session_id=session)["stdout"] == "42 3\n"


def test_typescript_has_modules_of_both_kinds_and_knows_its_runtime(daemon: Daemon) -> None:
    code = """import { readFileSync } from "node:fs";
import lodash from "lodash";
const path = require("node:path");
const name: string = path.basename(__filename);
const text: string = await Promise.resolve(readFileSync("/etc/hostname", "utf8"));
console.log(name, text.length > 0, lodash.sum([1, 2]), require.main === module);
"""
    answer = daemon.execute(code, "ts")
    assert (answer["stdout"], answer["code"]) == ("main.js true 3 true\n", 0), answer


def test_a_wrong_type_is_an_error_of_the_compiler(daemon: Daemon) -> None:
    answer = daemon.execute('const n: number = "x";\nconsole.log(n);\n', "ts")
    assert (answer["phase"], answer["stdout"]) == ("compile", "")
    assert "main.ts(1,7): error TS2322" in answer["stderr"]


def test_lines_in_errors_are_those_of_the_source(daemon: Daemon) -> None:
    code = 'interface Unused {\n  a: number;\n}\n\nconst fail = (): never => { throw new Error("on line five"); };\nfail();\n'
    assert "main.ts:5:" in daemon.execute(code, "ts")["stderr"]

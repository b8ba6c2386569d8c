"""What a request says beside its code: arguments, standard input, environment, the main file of a project."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.daemon import Answer, Daemon

pytestmark = pytest.mark.root

SHOW = {
    "python": "import sys; print(sys.argv[1:])",
    "bash": 'printf "%s|" "$@"',
    "javascript": "console.log(process.argv.slice(2))",
    "c": '#include <stdio.h>\nint main(int n, char **a) { for (int i = 1; i < n; i++) printf("%s|", a[i]); }',
}
ODD = ["a b", "", "'\"$x`", "\u00fc\U0001f600", "-x", "\x01\n"]


def post(daemon: Daemon, body: dict[str, Any], path: str = "/v1/exec") -> Answer:
    return daemon.request("POST", path, json.dumps(body).encode())


def session_with(daemon: Daemon, files: dict[str, str]) -> list[dict[str, str]]:
    """Upload; give the files as a request names them."""
    up = daemon.upload(*((name, content.encode()) for name, content in files.items())).json
    session = up["storage_session_id"]
    return [{"id": each["fileId"], "name": each["filename"], "storage_session_id": session} for each in up["files"]]


# -- arguments --


@pytest.mark.parametrize("lang", ["bash", "c"])
def test_arguments_arrive_byte_for_byte(daemon: Daemon, lang: str) -> None:
    assert daemon.execute(SHOW[lang], lang, args=ODD)["stdout"] == "|".join(ODD) + "|"


def test_arguments_arrive_in_a_warm_interpreter(daemon: Daemon) -> None:
    assert daemon.execute(SHOW["python"], args=ODD)["stdout"] == f"{ODD}\n"


@pytest.mark.parametrize("lang", ["python", "bash"])
@pytest.mark.parametrize(
    ("text", "times"), [("x", 65_000), ("\u00fc", 32_000), ("\U0001f600", 16_000), ("\x01", 10_000)]
)
def test_as_much_as_the_limit_says_arrives(daemon: Daemon, lang: str, text: str, times: int) -> None:
    code = {"python": "import sys; print(len(sys.argv[1]))", "bash": "echo ${#1}"}[lang]
    assert daemon.execute(code, lang, args=[text * times])["stdout"] == f"{times}\n"


@pytest.mark.parametrize("args", [["\U0001f600" * 17_000], ["\x01" * 11_000], ["x"] * 201, ["x" * 33_000] * 2])
@pytest.mark.parametrize("lang", ["python", "bash"])
def test_more_is_refused_before_anything_runs(daemon: Daemon, lang: str, args: list[str]) -> None:
    answer = daemon.try_execute("1", lang, args=args)
    assert (answer.status, answer.json["field"]) == (400, "args")


# -- environment --


def test_variables_are_in_os_environ_the_c_library_and_child_processes(daemon: Daemon) -> None:
    code = """
import ctypes, os, subprocess, time
libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p
print(os.environ["A"], libc.getenv(b"A").decode(), subprocess.check_output('printf "$A"', shell=True, text=True))
print(time.tzname[0])
"""
    said = daemon.execute(code, env={"A": "\u00fc '\"$x\n2", "TZ": "Asia/Tokyo"})
    assert said["stdout"] == "\u00fc '\"$x\n2 " * 2 + "\u00fc '\"$x\n2\nJST\n"


@pytest.mark.parametrize("lang", ["bash", "c"])
def test_variables_are_there_in_other_languages(daemon: Daemon, lang: str) -> None:
    code = {
        "bash": 'printf "$A"',
        "c": '#include <stdio.h>\n#include <stdlib.h>\nint main() { fputs(getenv("A"), stdout); }',
    }
    assert daemon.execute(code[lang], lang, env={"A": "x \u00fc"})["stdout"] == "x \u00fc"


def test_a_variable_replaces_the_usual_one_and_the_others_stay(daemon: Daemon) -> None:
    said = daemon.execute('echo "$HOME $LANG"', "bash", env={"HOME": "/tmp"})
    assert said["stdout"] == "/tmp C.UTF-8\n"
    path = daemon.execute("import os; print(os.environ['PATH'])", env={"PATH": "/usr/bin"})
    assert path["stdout"] == "/usr/bin\n"


def test_a_module_path_is_heeded_by_an_interpreter_that_runs_already(daemon: Daemon) -> None:
    files = session_with(daemon, {"lib/own_module.py": "x = 7\n"})
    said = daemon.execute("import own_module; print(own_module.x)", files=files, env={"PYTHONPATH": "/mnt/data/lib"})
    assert said["stdout"] == "7\n"


def test_variables_of_a_lasting_interpreter_go_with_their_cell(daemon: Daemon) -> None:
    session = daemon.execute("import os; os.environ['OWN'] = 'kept'", stateful=True)["session_id"]

    def cell(code: str, **fields: Any) -> str:
        said = daemon.execute(code, stateful=True, session_id=session, **fields)
        assert said["runtime_status"] == "reused", said
        return str(said["stdout"])

    show = "import os; print([os.environ.get(n) for n in ('A', 'OWN', 'HOME', 'B')])"
    assert cell(show, env={"A": "1", "OWN": "given", "HOME": "/tmp"}) == "['1', 'given', '/tmp', None]\n"
    assert cell(show) == "[None, 'kept', '/mnt/data', None]\n"
    # What the code itself has set is its own.
    cell("os.environ['A'] = 'mine'; os.environ['B'] = 'too'", env={"A": "1"})
    assert cell(show) == "['mine', 'kept', '/mnt/data', 'too']\n"


@pytest.mark.parametrize(
    ("env", "field"),
    [
        ({"1A": "x"}, "env"),
        ({"A B": "x"}, "env"),
        ({"A=B": "x"}, "env"),
        ({"": "x"}, "env"),
        ({"\u00fc": "x"}, "env"),
        ({"A" * 129: "x"}, "env"),
        ({"GAOLER_API_KEY": "x"}, "env.GAOLER_API_KEY"),
        ({"A": "a\0b"}, "env.A"),
        ({"A": 1}, "env[...]"),
        ({f"A{i}": "" for i in range(65)}, "env"),
        ({"A": "x" * 32_800}, "env"),
        (["A"], "env"),
    ],
    ids=lambda each: ascii(each)[:30],
)
def test_what_cannot_be_a_variable_is_refused(daemon: Daemon, env: Any, field: str) -> None:
    for lang in ("py", "bash"):
        answer = daemon.try_execute("1", lang, env=env)
        assert (answer.status, answer.json["field"]) == (400, field), answer.body


def test_a_preloaded_library_is_nothing_but_the_callers_own(daemon: Daemon) -> None:
    """It is loaded by programs of the sandbox, confined as they are; ours are started without it."""
    made = daemon.execute(
        'echo "int getpid(void) { return 4242; }" > x.c && gcc -shared -o x.so x.c', "bash", stateful=True
    )
    session = made["session_id"]
    code = "grep -c x.so /proc/self/maps; grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status"
    with_it = daemon.execute(code, "bash", session_id=session, env={"LD_PRELOAD": "/mnt/data/x.so"})["stdout"]
    without = daemon.execute(code, "bash", session_id=session)["stdout"]
    assert int(with_it.split()[0]) > 0
    assert with_it.split()[1:] == without.split()[1:]
    assert "NoNewPrivs:\t1\n" in with_it


# -- a main file --

PROJECT = {
    "src/app.py": "import helper, os, sys\nprint(helper.x, __file__, __name__, sys.argv, os.getcwd())\n",
    "src/helper.py": "x = 5\n",
    "app.sh": 'echo "$0 $1 $(pwd)"\n',
    "web/index.js": 'console.log(require("./part").x, process.argv[2], process.cwd())\n',
    "web/part.js": "exports.x = 5\n",
    "unit/main.c": '#include "util.h"\n#include <stdio.h>\nint main(void) { printf("%d\\n", f()); }\n',
    "unit/util.h": "int f(void);\n",
    "unit/util.c": '#include "util.h"\nint f(void) { return 5; }\n',
}


@pytest.mark.parametrize(
    ("main", "stdout"),
    [
        ("src/app.py", "5 /mnt/data/src/app.py __main__ ['/mnt/data/src/app.py', 'q'] /mnt/data\n"),
        ("/mnt/data/src/app.py", "5 /mnt/data/src/app.py __main__ ['/mnt/data/src/app.py', 'q'] /mnt/data\n"),
        ("app.sh", "/mnt/data/app.sh q /mnt/data\n"),
        ("web/index.js", "5 q /mnt/data\n"),
    ],
)
def test_a_file_of_the_request_is_run_where_it_lies(daemon: Daemon, main: str, stdout: str) -> None:
    files = session_with(daemon, PROJECT)
    said = post(daemon, {"main": main, "files": files, "args": ["q"]}).json
    assert (said["stdout"], said["code"]) == (stdout, 0), said["stderr"]
    assert [each["name"] for each in said["files"] if not each.get("inherited")] == []


def test_units_are_compiled_with_the_main_one(daemon: Daemon) -> None:
    files = session_with(daemon, PROJECT)
    alone = post(daemon, {"main": "unit/main.c", "files": files}).json
    assert alone["code"] != 0
    assert "undefined reference to `f'" in alone["stderr"]
    said = post(daemon, {"main": "unit/main.c", "sources": ["unit/util.c"], "files": files}).json
    assert (said["stdout"], said["code"]) == ("5\n", 0), said["stderr"]


def test_a_traceback_names_the_file_and_its_line(daemon: Daemon) -> None:
    files = session_with(daemon, {"a/app.py": "x = 1\n1 / 0\n"})
    said = post(daemon, {"main": "a/app.py", "files": files}).json
    assert said["code"] == 1
    assert said["stderr"].startswith(
        'Traceback (most recent call last):\n  File "/mnt/data/a/app.py", line 2, in <module>\n    1 / 0\n'
    )


def test_in_a_lasting_session_it_is_a_program_of_its_own(daemon: Daemon) -> None:
    """What was changed since is seen, and the session's variables are neither seen nor touched."""
    session = daemon.execute("x = 1; open('m.py', 'w').write('v = 1')", stateful=True)["session_id"]

    def run(**fields: Any) -> dict[str, Any]:
        answer = post(daemon, {"session_id": session, "stateful": True, **fields})
        assert answer.status == 200, answer.body
        return dict(answer.json)

    run(lang="py", code="open('app.py', 'w').write('import m; print(m.v, \"x\" in globals()); x = 2')")
    assert run(main="app.py")["stdout"] == "1 False\n"
    run(lang="py", code="open('m.py', 'w').write('v = 22')")
    again = run(main="app.py")
    assert (again["stdout"], again["runtime_state_lives"]) == ("22 False\n", True)
    assert run(lang="py", code="print(x)")["stdout"] == "1\n"


def test_the_session_dialect_takes_all_of_it(daemon: Daemon) -> None:
    session = post(daemon, {"language": "bash"}, "/v1/sessions").json["session_id"]
    daemon.multipart(
        f"/v1/sessions/{session}/files", ("src/app.py", b"import os, sys; print(os.environ['A'], sys.argv[1])")
    )
    body = {"main": "src/app.py", "args": ["q"], "env": {"A": "b"}}
    said = post(daemon, body, f"/v1/sessions/{session}/execute").json
    assert (said["stdout"], said["exit_code"]) == ("b q\n", 0), said["stderr"]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"main": "src/ap.py"}, "main"),
    ({"main": "../app.py"}, "main"),
    ({"main": "/etc/passwd.py"}, "main"),
    ({"main": "src"}, "lang"),
    ({"main": "a\0.py"}, "main"),
    ({"main": ""}, "main"),
    ({"main": "src/app.py", "code": "1"}, "main"),
    ({"main": "README", "lang": None}, "lang"),
    ({"main": "src/app.py", "sources": ["src/helper.py"]}, "sources"),
    ({"main": "unit/main.c", "sources": ["unit/none.c"]}, "sources[0]"),
    ({"main": "unit/main.c", "sources": ["-x"]}, "sources[0]"),
    ({"lang": "c", "code": "1", "sources": ["unit/util.c"]}, "sources"),
    ({"lang": "py"}, "code"),
    ({"code": "1"}, "lang"),
]


@pytest.mark.parametrize(("body", "field"), REFUSED, ids=lambda each: ascii(each)[:50])
def test_what_cannot_be_run_is_refused_with_the_field(daemon: Daemon, body: dict[str, Any], field: str) -> None:
    answer = post(daemon, {"files": session_with(daemon, PROJECT), **body})
    assert (answer.status, answer.json["field"]) == (400, field), answer.body


def test_a_misspelt_file_is_told_its_nearest_neighbour(daemon: Daemon) -> None:
    answer = post(daemon, {"main": "src/ap.py", "files": session_with(daemon, PROJECT)})
    assert answer.json["message"] == (
        "there is no file /mnt/data/src/ap.py in this session; did you mean /mnt/data/src/app.py?"
    )


# -- what is missing --


@pytest.mark.parametrize(
    ("lang", "code", "first", "hint"),
    [
        ("py", "import cowsay", "ModuleNotFoundError", 'python = ["cowsay"]'),
        ("bash", "pip install cowsay", "ERROR: No matching distribution", "this sandbox has no network"),
        (
            "bash",
            "python3 -m pip install cowsay; echo",
            "ERROR: No matching distribution",
            "this sandbox has no network",
        ),
        ("bash", "npm install left-pad", "code EAI_AGAIN", "this sandbox has no network"),
        ("js", "require('left-pad')", "Cannot find module", 'npm = ["left-pad"]'),
        (
            "py",
            "import subprocess, sys; subprocess.check_call([sys.executable, '-m', 'pip', 'install', 'cowsay'])",
            "No matching distribution",
            "this sandbox has no network",
        ),
        ("py", "!pip install cowsay", "SyntaxError", "belongs to notebooks"),
    ],
)
def test_who_wants_a_package_that_is_not_there_is_told_how_to_get_it(
    daemon: Daemon, lang: str, code: str, first: str, hint: str
) -> None:
    stderr = daemon.execute(code, lang)["stderr"]
    assert first in stderr
    assert hint in stderr
    assert stderr.index(hint) > stderr.index(first)
    assert "externally-managed" not in stderr


def test_who_handles_it_is_told_nothing(daemon: Daemon) -> None:
    code = "try:\n    import cowsay\nexcept ImportError:\n    print('without')"
    said = daemon.execute(code)
    assert (said["stdout"], said["stderr"]) == ("without\n", "")

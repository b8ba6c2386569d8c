"""Group S: nothing that a request says becomes a part of the environment that a program starts in."""

from __future__ import annotations

import json
from typing import Any, Final

from supervisor.attack.case import Broken, Collection, Untried
from supervisor.attack.cases.files_tools import open_tools
from supervisor.attack.target import Target

COLLECTION: Final = Collection()
_case: Final = COLLECTION.case

_C: Final = r"""
#include <stdio.h>
extern char **environ;
int main(int count, char **given) {
    for (char **each = environ; *each; each++) { fputs(*each, stdout); putchar(0); }
    puts("ARGUMENTS");
    for (int at = 1; at < count; at++) { fputs(given[at], stdout); putchar(0); }
}
"""
_JAVA: Final = r"""
class Main {
    public static void main(String[] given) throws Exception {
        StringBuilder said = new StringBuilder();
        System.getenv().forEach((name, value) -> said.append(name + "=" + value + "\0"));
        said.append("ARGUMENTS\n");
        for (String each : given) said.append(each + "\0");
        System.out.write(said.toString().getBytes("UTF-8"));
        System.out.flush();
    }
}
"""
_PROGRAMS: Final = {
    "python": (
        "import os, sys\nsys.stdout.write(''.join(f'{name}={value}\\0' for name, value in os.environ.items()))\n"
        "print('ARGUMENTS')\nsys.stdout.write(''.join(each + '\\0' for each in sys.argv[1:]))"
    ),
    "bash": 'env -0\necho ARGUMENTS\n[ $# = 0 ] || printf "%s\\0" "$@"',
    "javascript": (
        "const said = Object.entries(process.env).map(([name, value]) => `${name}=${value}\\0`).join('');\n"
        "const given = process.argv.slice(2).map((each) => each + '\\0').join('');\n"
        "process.stdout.write(said + 'ARGUMENTS\\n' + given);"
    ),
    "c": _C,
    "cpp": _C.replace("<stdio.h>", "<cstdio>"),
    "java": _JAVA,
}
"""What prints the variables, a line, and the arguments, each with a NUL at its end; by language."""
_ARGUMENTS: Final = (
    "LD_PRELOAD=/mnt/data/evil.so", "-c", "--version", "-i", "-e", "--", "-", "a\nBASH_ENV=/mnt/data/evil", "$(id)",
    "`id`", "; id", "IFS=x", "'", '"', "\\", "*", "", " ", "\u00e9\u6587", "\x1b[31m", "--require=/mnt/data/evil.js",
    "-javaagent:/mnt/data/evil.jar", "@/mnt/data/evil", "PYTHONSTARTUP=/mnt/data/evil.py",
)  # fmt: skip
INTRUDER: Final = "INTRUDER"
_PYTHON: Final = f"print('{INTRUDER}', flush=True)\n".encode()
_SHELL: Final = f"echo {INTRUDER}\n".encode()
_SCRIPT: Final = f"console.log('{INTRUDER}')\n".encode()
_FILES: Final = {
    **dict.fromkeys(
        ("sitecustomize.py", "usercustomize.py", "pythonstartup.py", "sitecustomize/__init__.py", "evil.pth"), _PYTHON
    ),
    **dict.fromkeys((".bashrc", ".bash_profile", ".profile", ".bash_login", "BASH_ENV", ".bash_logout"), _SHELL),
    **dict.fromkeys((".noderc.js", "evil.js", ".node_repl_history"), _SCRIPT),
    ".npmrc": b"node-options=--require /mnt/data/evil.js\n",
    ".env": b"LD_PRELOAD=/mnt/data/evil.so\nPYTHONSTARTUP=/mnt/data/pythonstartup.py\n",
    "LD_PRELOAD=evil.so": b"\x7fELF no library",
    "evil.so": b"\x7fELF no library",
    "JDK_JAVA_OPTIONS": b"-javaagent:/mnt/data/evil.jar",
    ".config/pip/pip.conf": b"[global]\nindex-url = http://127.0.0.1:9/\n",
}
_VARYING: Final = frozenset({"_", "SHLVL", "PWD", "OLDPWD"})
"""A shell sets these itself."""


@_case(
    "S2",
    "what a program starts with",
    promise="Arguments, names and contents of files, hints and users never become a variable, an option, or code.",
    meaning="Who can send a file or an argument to somebody's program has it run his own code instead.",
    mend="Report it with the JSON of this run; until it is mended pass nothing of strangers to programs.",
)
async def started_with(target: Target) -> str:
    """Run a program that tells its surroundings, plain and amid everything hostile; only the arguments may differ."""
    languages = [name for name in _PROGRAMS if name in target.languages]
    if not languages:
        raise Untried("no language is installed of which it is known how to ask")
    answer = await target.upload(*_FILES.items())
    if answer.status != 200:
        raise Broken(f"files with such names are not taken: {answer.status} {answer.body[:200]!r}")
    session = answer.json["session_id"]
    for language in languages:
        plain, none = await _told(target, language)
        if none:
            raise Broken(f"{language}: a program without arguments has {none}")
        around: dict[str, Any] = {"session_id": session, "args": list(_ARGUMENTS), "stdin": INTRUDER}
        if language in ("python", "bash"):
            around["stateful"] = True
        for fields in ({**around, "stateful": False}, around):
            hostile, arguments = await _told(target, language, **fields)
            if hostile != plain:
                changed = sorted(set(hostile.items()) ^ set(plain.items()))
                raise Broken(f"{language}: the environment is another one: {changed[:4]}")
            if arguments != list(_ARGUMENTS):
                differing = [pair for pair in zip(arguments, _ARGUMENTS, strict=False) if pair[0] != pair[1]]
                raise Broken(f"{language}: {len(arguments)} arguments arrive, or not as given: {differing[:2]}")
    return ", ".join(languages)


async def _told(target: Target, language: str, **fields: Any) -> tuple[dict[str, str], list[str]]:
    """Run the program of a language; give its variables and arguments."""
    result = await target.execute(_PROGRAMS[language], language, **fields)
    said, line, given = str(result["stdout"]).partition("ARGUMENTS\n")
    if not line or INTRUDER in said or INTRUDER in result["stderr"]:
        raise Broken(f"{language}: something else ran: {said[:100]!r} {str(result['stderr'])[-200:]!r}")
    variables = dict(each.partition("=")[::2] for each in said.split("\0") if each)
    return {name: value for name, value in variables.items() if name not in _VARYING}, given.split("\0")[:-1]


_REFUSED: Final[tuple[dict[str, Any], ...]] = (
    {"runtime_session_hint": "a\nLD_PRELOAD=/mnt/data/evil.so"},
    {"runtime_session_hint": "a b; id"},
    {"lang": "py\n"},
    {"lang": "python -i"},
    {"lang": "../python"},
    {"lang": "PYTHONSTARTUP=/mnt/data/evil.py python"},
    {"user_id": "x\nBASH_ENV=/mnt/data/evil"},
    {"session_id": "LD_PRELOAD=/mnt/data/e"},
    {"args": ["a\0b"]},
    {"args": {"LD_PRELOAD": "/mnt/data/evil.so"}},
    {"env": {"GAOLER_SESSION": "x"}},
    {"env": {"A=B": "x"}},
    {"env": {"": "x"}},
    {"env": {"A\nLD_PRELOAD": "x"}},
    {"env": {"A": "x\0LD_PRELOAD=/mnt/data/evil.so"}},
    {"env": ["LD_PRELOAD=/mnt/data/evil.so"]},
    {"env": "LD_PRELOAD=/mnt/data/evil.so"},
)
_IGNORED: Final = ("environment", "environ", "variables", "options", "interpreter_args", "compiler_args", "cwd")


@_case(
    "S2",
    "what a request may set",
    promise="A request sets nothing that a program starts with but arguments, input and env, in the forms they have.",
    meaning="Who can call at all chooses the loader, the interpreter's options or the shell's start for others' code.",
    mend="Report it with the JSON of this run.",
)
async def settable(target: Target) -> str:
    """Say variables and options under every likely name, and in every field that has a form.

    What ``env`` sets is for the caller's own program, and the next execution knows nothing of it.
    """
    target.need_language("bash")
    plain, _ = await _told(target, "bash")
    evil = {"LD_PRELOAD": "/mnt/data/evil.so", "BASH_ENV": "/mnt/data/evil", "IFS": "x", "ATTACK": "1"}
    values: tuple[Any, ...] = (evil, [f"{key}={text}" for key, text in evil.items()], "/tmp")
    for value in values:
        answer = await target.try_execute(_PROGRAMS["bash"], "bash", **dict.fromkeys(_IGNORED, value))
        if answer.status == 400:
            continue
        if answer.status != 200:
            raise Broken(f"a request that sets variables is answered with {answer.status}: {answer.body[:100]!r}")
        said = str(answer.json["stdout"])
        if any(text in said for text in ("evil", "ATTACK")) or f"PWD={plain.get('PWD', '/mnt/data')}" not in said:
            raise Broken(f"a request sets something by one of {', '.join(_IGNORED)}: {said[:200]!r}")
    for fields in _REFUSED:
        body = {"lang": "bash", "code": "true", **fields}
        answer = await target.post("/v1/exec", body, user="")
        if answer.status != 400:
            raise Broken(f"a request with {json.dumps(fields)} is answered with {answer.status}")
    own, _ = await _told(target, "bash", env={"ATTACK": "1"})
    if own != {**plain, "ATTACK": "1"}:
        raise Broken(f"env sets something else than it says: {sorted(set(own.items()) ^ set(plain.items()))[:4]}")
    after, _ = await _told(target, "bash")
    if after != plain:
        raise Broken(f"an execution begins with another's env: {sorted(set(after.items()) ^ set(plain.items()))[:4]}")
    return f"{len(_IGNORED)} names, {len(_REFUSED)} forms"


_MODULES: Final = ("json", "os", "re", "sys", "io", "codecs", "encodings/__init__", "site", "random", "PIL/__init__")


@_case(
    "S2",
    "helpers among hostile files",
    promise="What is started in the background and what searches files is not led astray by names of files either.",
    meaning="A file in a session decides what its owner is told of all the others.",
    mend="Report it with the JSON of this run; until it is mended do not trust what a search finds.",
)
async def helpers(target: Target) -> str:
    """Put modules of the names that a helper imports beside what it has to find; start a process among start files."""
    target.need_language("python")
    async with open_tools(target) as tools:
        await tools.call("write_file", path="needle.txt", text="the needle\n")
        for name in _MODULES:
            await tools.call("write_file", path=f"{name}.py", text=f"print('{INTRUDER}')\nraise SystemExit(0)\n")
        for name in (".bashrc", ".profile", "BASH_ENV"):
            await tools.call("write_file", path=name, text=_SHELL.decode())
        found = await tools.call("search_files", pattern="the needle", literal=True)
        hits = [(hit["path"], hit["text"]) for hit in found["hits"]]
        if hits != [("needle.txt", "the needle")]:
            raise Broken(f"a search among such modules finds {hits}")
        started = await tools.call("start_process", command="env -0; echo READY")
        process = started["process"]["process"]
        seen = await tools.call("read_process", process=process, position=0, wait=20, until="READY")
        if INTRUDER in seen["output"] or "READY" not in seen["output"]:
            raise Broken(f"a background process begins with {seen['output'][:200]!r}")
    return f"{len(_MODULES)} modules"

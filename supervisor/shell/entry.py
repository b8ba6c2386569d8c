"""When what a person has typed is a whole entry, by language, and what is sent for it."""

from __future__ import annotations

import ast
import codeop
import subprocess
import warnings
from typing import Final

PYTHON: Final = "python"
BASH: Final = "bash"
_BASH: Final = "/bin/bash"
_UNFINISHED: Final = ("unexpected end of file", "unexpected EOF", "delimited by end-of-file")
PARSE_SECONDS: Final = 2.0


def named(language: str) -> str:
    """Give the name of a language whose alias this may be, of those that are treated differently here."""
    return {"py": PYTHON, "python3": PYTHON, "sh": BASH}.get(language, language)


def is_whole(language: str, text: str) -> bool:
    """Say whether nothing more has to come. Python as in its own console; other languages end with an empty line.

    Nothing of it is run: Bash is asked to read it without running it. What is wrong is for the sandbox to say.
    """
    if language == PYTHON:
        return _whole_python(text)
    if language == BASH:
        return _whole_bash(text)
    return text.endswith("\n\n") or not text.strip()


def _whole_python(text: str) -> bool:
    compiler = codeop.CommandCompiler()
    compiler.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return compiler(text.removesuffix("\n"), "<shell>", "single") is not None
    except (SyntaxError, ValueError, OverflowError, MemoryError, RecursionError):
        return True


def _whole_bash(text: str) -> bool:
    if text.rstrip("\n").endswith("\\"):
        return False
    try:
        done = subprocess.run(
            [_BASH, "--norc", "-n"],
            input=text.encode("utf-8", "surrogateescape"),
            env={"LC_ALL": "C"},
            capture_output=True,
            timeout=PARSE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return True
    said = done.stderr.decode("utf-8", "replace")
    return not any(each in said for each in _UNFINISHED)


_KEPT: Final = "/tmp/.gaoler-shell"
_BASH_BEFORE: Final = f"""[ -r {_KEPT} ] && . {_KEPT} 2>/dev/null
trap '{{
declare -p | grep -vE "^declare -[A-Za-z]*r[A-Za-z]* |^declare -- _="
declare -f; alias -p; printf "cd %q\\n" "$PWD"
}} > {_KEPT} 2>/dev/null' EXIT
shopt -s expand_aliases
"""


def sent(language: str, text: str) -> str:
    """Give the program that is sent for an entry.

    Each entry of Bash is a Bash of its own: variables, functions, aliases and the directory are passed on from one to
    the next in a file of the sandbox.
    """
    return _BASH_BEFORE + text if language == BASH else text

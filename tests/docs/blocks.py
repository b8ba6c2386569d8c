"""Shell blocks of the documentation that are marked as runnable: what is typed, and what is shown.

A block is marked by a comment before it, which no reader sees:

    <!-- run -->                  commands behind a prompt ($ or #), and beneath each what it prints
    <!-- run: status 1 -->        the last command ends with that status
    <!-- file: program.py -->     the block is a file, written where the next blocks run

Under a command that shows nothing anything may be printed. ``…`` stands for whatever varies: inside of a line for a
part of it, alone on a line for any number of lines. ``127.0.0.1:8000`` means the daemon that the blocks run against.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_BLOCK: Final = re.compile(
    r"^(?P<indent> *)<!-- (?P<kind>run|file)(?:: (?P<more>[^>]+?))? -->\n+"
    r"(?P=indent)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_MARK: Final = re.compile(r"<!-- (?:run|file)\b[^>]*-->")
_PROMPT: Final = re.compile(r"[$#] (.*)")
_HERE: Final = re.compile(r"<<-?\s*['\"]?(\w+)")
_ADDRESS: Final = "127.0.0.1:8000"
_DONE: Final = "=== gaoler documentation: command"


@dataclass(frozen=True, slots=True)
class Command:
    """One thing that is typed, with what the page shows beneath it and the status that it ends with."""

    page: str
    line: int
    text: str
    shown: tuple[str, ...]
    status: int = 0


@dataclass(frozen=True, slots=True)
class Written:
    """A file that the page shows."""

    name: str
    content: str


def steps(page: str, markdown: str) -> list[Command | Written]:
    """Read the marked blocks of a page, in order.

    Raises:
        AssertionError: a mark without a block, or a block whose first line is no command.
    """
    found: list[Command | Written] = []
    blocks = list(_BLOCK.finditer(markdown))
    assert len(blocks) == len(_MARK.findall(markdown)), f"{page}: a mark has no block beneath it"
    for block in blocks:
        indent = len(block["indent"])
        lines = [line[indent:] for line in block["text"].splitlines()]
        if block["kind"] == "file":
            found.append(Written(block["more"], "\n".join(lines) + "\n"))
            continue
        first = markdown.count("\n", 0, block.start("text")) + 1
        status = int((block["more"] or "status 0").removeprefix("status "))
        found += _commands(page, first, lines, status)
    return found


def _commands(page: str, first: int, lines: list[str], status: int) -> Iterator[Command]:
    pending: list[tuple[int, str, list[str]]] = []
    waits_for = ""
    for number, line in enumerate(lines, start=first):
        if waits_for or (pending and not pending[-1][2] and _goes_on(pending[-1][1])):
            at, text, shown = pending[-1]
            pending[-1] = (at, f"{text}\n{line}", shown)
            waits_for = "" if line == waits_for else waits_for
            continue
        if match := _PROMPT.fullmatch(line):
            pending.append((number, match[1], []))
            here = _HERE.search(match[1])
            waits_for = here[1] if here else ""
        else:
            assert pending, f"{page}:{number}: output before any command"
            pending[-1][2].append(line)
    for index, (at, text, shown) in enumerate(pending):
        yield Command(page, at, text, tuple(shown), status if index == len(pending) - 1 else 0)


def _goes_on(text: str) -> bool:
    """Whether a shell would wait for another line: after a backslash, or inside of quotes."""
    if text.endswith("\\"):
        return True
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return "<<" not in text
    return False


def agrees(shown: tuple[str, ...], printed: str) -> bool:
    """Whether what was printed is what the page shows, ``…`` standing for anything."""
    if not shown:
        return True
    parts = []
    for line in shown:
        if line.strip() == "…":
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(r"[^\n]*?".join(re.escape(part) for part in line.rstrip().split("…")) + r"[ \t]*\n")
    text = printed.strip("\n") + "\n"
    if shown[0].startswith("{"):
        # JSON that took long begins with spaces, sent meanwhile to keep proxies patient.
        text = text.lstrip(" ")
    return re.fullmatch("".join(parts).removesuffix("\\n") + r"\n*", text) is not None


def run(steps: list[Command | Written], place: Path, address: str, environment: Mapping[str, str]) -> list[str]:
    """Do one page's steps in one shell in the directory ``place``; give what went otherwise than the page says."""
    script = ["exec 2>&1 </dev/null"]
    commands: list[Command] = []
    for step in steps:
        if isinstance(step, Written):
            script.append(f"cat > {step.name} <<'=== END OF FILE'\n{step.content}=== END OF FILE")
        else:
            commands.append(step)
            script.append(step.text.replace(_ADDRESS, address))
            script.append(f'printf "\\n{_DONE} %s\\n" $?')
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=place,
        env={**environment, "PATH": environment.get("PATH", os.defpath), "BASE": f"http://{address}/v1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    printed = re.split(rf"\n?{_DONE} (\d+)\n", done.stdout)
    wrong = []
    for index, command in enumerate(commands):
        if 2 * index + 1 >= len(printed):
            wrong.append(f"{command.page}:{command.line}: the shell ended before it: {done.stdout[-500:]}")
            break
        text = printed[2 * index].replace(address, _ADDRESS)
        status = int(printed[2 * index + 1])
        if status != command.status:
            wrong.append(f"{command.page}:{command.line}: status {status}, not {command.status}:\n{text}")
        elif not agrees(command.shown, text):
            shown = "\n".join(command.shown)
            wrong.append(f"{command.page}:{command.line}: the page shows\n{shown}\nand this was printed\n{text}")
    return wrong

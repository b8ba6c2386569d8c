"""Reads entries and commands from a person, or from a pipe, and does them one after the other."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from supervisor.commands.console import duration, run_trio, size, visible
from supervisor.errors import GaolerError
from supervisor.shell import entry
from supervisor.shell.session import NOTE, Session, notes, until_interrupted
from supervisor.shell.terminal_text import TerminalText

HELP: Final = """\
  :put FILE [NAME]    put a file of this host into the sandbox, at /mnt/data
  :get NAME [FILE]    fetch a file of /mnt/data; :get! replaces one that is there
  :files              list /mnt/data
  :run FILE           run a file of this host as one entry
  :language NAME      go on in another language, in the same sandbox (alias :lang)
  :session            name the session
  :help  :quit
Ctrl-C interrupts what runs, Ctrl-D ends. Programs have no standard input here."""
COMMANDS: Final = (":put", ":get", ":get!", ":files", ":run", ":language", ":session", ":help", ":quit")
_PROMPTS: Final = {"python": (">>> ", "... "), "bash": ("$ ", "> ")}


class Ended(Exception):
    """The person has seen enough."""


@dataclass(slots=True)
class Loop:
    """One shell. ``interactive``: a person is at the terminal; else lines come from a pipe, and nothing is asked."""

    session: Session
    interactive: bool
    status: int = 0
    """Of the last entry, as a shell says it."""
    _shown: dict[str, TerminalText] = field(default_factory=dict)

    def run(self) -> int:
        """Read until the end; give the status of the last entry."""
        for text in self._entries():
            try:
                if text.startswith(":"):
                    self._command(text)
                elif text.strip():
                    self._execute(text)
            except Ended:
                break
            except GaolerError as error:
                self.status = 1
                click.echo(f"gaoler: {visible(error.message)}", err=True)
        return self.status

    # -- reading --

    def _entries(self) -> Iterator[str]:
        """Give whole entries, of one line or more; a command is always one line."""
        text = ""
        while True:
            try:
                line = self._line(continued=bool(text))
            except KeyboardInterrupt:
                click.echo("", err=True)
                text = ""
                continue
            if line is None:
                if text:
                    yield text
                if self.interactive:
                    click.echo("")
                return
            text += line + "\n"
            if text.startswith(":"):
                yield text.strip()
                text = ""
            elif entry.is_whole(self.session.language, text):
                yield text
                text = ""

    def _line(self, *, continued: bool) -> str | None:
        """Give the next line; ``None``: there is none."""
        if not self.interactive:
            line = sys.stdin.readline()
            return line.removesuffix("\n") if line else None
        try:
            return input(_PROMPTS.get(self.session.language, (f"{self.session.language}> ", "  "))[continued])
        except EOFError:
            return None

    # -- running --

    def _execute(self, text: str) -> None:
        answer = self._run(partial(self.session.execute, entry.sent(self.session.language, text), self._show))
        for stream in list(self._shown):
            self._write(stream, self._shown.pop(stream).end())
        if answer is None:
            self.status = 130
            click.echo("gaoler: interrupted; what was set so far is kept", err=True)
            return
        # Of an exception the traceback has said it.
        plain = f"{NOTE}{answer['message']}" if self.session.language == entry.PYTHON and answer["code"] == 1 else ""
        for line in notes(answer):
            if line == plain:
                continue
            click.echo(f"gaoler: {visible(line.removeprefix(NOTE))}", err=True)
        self.status = 137 if answer["code"] is None else answer["code"]
        made = [each["name"] for each in answer["files"] if not each.get("inherited")]
        if made and self.interactive:
            click.echo(f"gaoler: in /mnt/data: {', '.join(map(visible, made))}", err=True)

    def _run(self, work: Callable[[], Any]) -> Any:
        return run_trio(partial(until_interrupted, work))

    def _show(self, stream: str, untrusted_text: str) -> None:
        out = sys.stderr if stream == "stderr" else sys.stdout
        if out.isatty():
            untrusted_text = self._shown.setdefault(stream, TerminalText()).feed(untrusted_text)
        self._write(stream, untrusted_text)

    @staticmethod
    def _write(stream: str, text: str) -> None:
        out = sys.stderr if stream == "stderr" else sys.stdout
        out.write(text)
        out.flush()

    # -- commands --

    def _command(self, text: str) -> None:
        try:
            word, *rest = shlex.split(text)
        except ValueError as error:
            raise GaolerError(f"{text}: {error}") from None
        match word, rest:
            case ":quit" | ":q" | ":exit", []:
                raise Ended
            case ":help" | ":h" | ":?", []:
                click.echo(HELP)
            case ":session", []:
                click.echo(self.session.id)
            case ":language" | ":lang", [language]:
                self.session.language = entry.named(language)
            case ":run", [source]:
                self._run_file(Path(source))
            case _:
                self._move_files(word, rest)

    def _move_files(self, word: str, rest: list[str]) -> None:
        match word, rest:
            case ":files", []:
                for each in self._run(self.session.files) or ():
                    click.echo(f"{size(each['size']):>10}  {visible(each['path'])}")
            case ":put", [source, *name] if len(name) < 2:
                target = name[0] if name else Path(source).name
                count = self._run(partial(self.session.put, Path(source), target))
                if count is not None:
                    click.echo(f"gaoler: {visible(target)}, {size(count)}, is at /mnt/data", err=True)
            case ":get" | ":get!", [name, *place] if len(place) < 2:
                self._get(name, Path(place[0] if place else Path(name).name), replace=word == ":get!")
            case _:
                raise GaolerError(f"{' '.join([word, *rest])} is no command here; :help lists them")

    def _get(self, name: str, target: Path, *, replace: bool) -> None:
        try:
            count = self._run(partial(self.session.get, name, target, replace=replace))
        except FileExistsError:
            raise GaolerError(f"{target} is there already; :get! {name} replaces it") from None
        except OSError as error:
            raise GaolerError(f"{target}: {error.strerror}") from None
        if count is not None:
            click.echo(f"gaoler: {visible(name)}, {size(count)}, is at {target}", err=True)

    def _run_file(self, source: Path) -> None:
        try:
            text = source.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise GaolerError(f"{source}: {error}") from None
        self._execute(text)


def greet(session: Session, seconds: float) -> None:
    """Tell a person where they are."""
    language, place = session.language, visible(session.api.place.shown)
    click.echo(
        f"gaoler: {language} in a sandbox of {place}, there in {duration(seconds)}. :help, Ctrl-D ends.", err=True
    )


def complete_with(session: Session) -> None:
    """Have Tab complete commands, paths of this host, and names of files in the sandbox."""
    import readline

    def candidates(text: str) -> list[str]:
        line = readline.get_line_buffer()
        if line.startswith(":") and " " not in line:
            return [f"{each} " for each in COMMANDS if each.startswith(text)]
        if line.startswith(":get"):
            return [each for each in session.made if each.startswith(text)]
        if line.startswith((":put ", ":run ")):
            directory, _, beginning = text.rpartition("/")
            try:
                names = sorted(each.name for each in Path(f"{directory}/" if "/" in text else ".").iterdir())
            except OSError:
                return []
            return [f"{directory}/{each}" if "/" in text else each for each in names if each.startswith(beginning)]
        return []

    def complete(text: str, number: int) -> str | None:
        return next(iter(candidates(text)[number : number + 1]), None)

    readline.set_completer_delims(" \t")
    readline.set_completer(complete)
    readline.parse_and_bind("tab: complete")

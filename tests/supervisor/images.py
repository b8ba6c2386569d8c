"""Small images for tests: a build whose pip and npm are played, and whose commands in a world of their own are real."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from supervisor.image.manifest import Selection
from supervisor.image.plan import ImagePlan
from supervisor.image.progress import StepProgress
from supervisor.image.steps import run_program
from supervisor.image.trial import Answer, Attempt
from supervisor.runtimes.catalogue import Language, Packages, Smoke, load_languages


class Quiet:
    def advance(self, what: str) -> None:
        pass

    def step(self, title: str, total: int | None = None) -> AbstractContextManager[StepProgress]:
        return nullcontext(self)


class Programs:
    """Plays the programs that a build runs; ``interrupt_at`` stops it at the call that has this word.

    What runs in a world of its own runs there, but for Python's own steps: these need a minute of packages.
    """

    def __init__(self, interrupt_at: str | None = None) -> None:
        self.calls: list[list[str]] = []
        self._interrupt_at = interrupt_at

    def __call__(self, arguments: Sequence[str], on_line: Callable[[str], None]) -> None:
        self.calls.append(list(arguments))
        if any(self._interrupt_at in argument for argument in arguments if self._interrupt_at):
            raise KeyboardInterrupt
        if "install" in arguments:
            self._pip(arguments)
        elif "venv" in arguments:
            Path(arguments[-1]).mkdir(parents=True)
        elif "ci" in arguments:
            self._npm(Path(arguments[arguments.index("--prefix") + 1]))
        elif "supervisor.image.enclosed" in arguments and '"command":["sh"' in arguments[-1]:
            run_program(arguments, on_line)

    def having(self, word: str) -> list[list[str]]:
        return [call for call in self.calls if any(word in argument for argument in call)]

    def _pip(self, arguments: Sequence[str]) -> None:
        site = Path(arguments[arguments.index("--target") + 1])
        version = Path(arguments[-1]).read_text().split()[0].removeprefix("tiny==")
        (site / "tiny").mkdir()
        (site / f"tiny-{version}.dist-info").mkdir()
        (site / f"tiny-{version}.dist-info" / "METADATA").write_text(f"Version: {version}")
        (site / "bin").mkdir()
        (site / "bin" / "tiny").write_text("#!/some/venv/bin/python3\nprint(1)\n")

    def _npm(self, target: Path) -> None:
        for name, version in json.loads((target / "package.json").read_text())["dependencies"].items():
            package = target / "node_modules" / name
            package.mkdir(parents=True)
            (package / "package.json").write_text(json.dumps({"name": name, "version": version}))
            (package / "program").write_text("#!/bin/sh\necho 1.2.3\n")
            (package / "program").chmod(0o755)


class Sandboxes:
    """Plays the trial; ``broken`` are names of what does not work."""

    def __init__(self, *broken: str) -> None:
        self.tried: list[str] = []
        self._broken = broken

    def __call__(self, directory: Path, attempts: Sequence[Attempt]) -> list[Answer]:
        assert (directory / "current" / "manifest.json").is_file()
        self.tried = [attempt.name for attempt in attempts]
        return [self._answer(attempt) for attempt in attempts]

    def _answer(self, attempt: Attempt) -> Answer:
        if attempt.kind == "version":
            return Answer(f"{attempt.name} (Debian) version 7.8.9-x 2020\n", "")
        return Answer("", "printed 'no'") if attempt.name in self._broken else Answer(attempt.expected or "", "")


def tiny(prepare: str = "", npm: Sequence[str] = (), tool: str = "sh") -> Language:
    """A language of the host's shell."""
    return Language(
        name="tiny",
        title="Tiny",
        aliases=["ty"],
        source="main.ty",
        extensions=[".ty"],
        tools={"tool": [tool]},
        run=["{tool}", "{source}"],
        smoke=Smoke("echo 1", "1\n"),
        packages=Packages(npm=list(npm), usable="npm" if npm else None),
        version=["{tool}", "--version"],
        seccomp="bash",
        environment={"TINY": "yes"},
        prepare=prepare,
    )


def plan(directory: Path, *languages: Language, names: Sequence[str] = (), requirement: str = "tiny==1.0") -> ImagePlan:
    """A plan with Python, Bash and these languages; ``names`` are those that were asked for."""
    directory.mkdir(exist_ok=True)
    requirements = directory / "packages.lock"
    requirements.write_text(f"{requirement} --hash=sha256:00\n")
    always = [each for each in load_languages() if each.name in {"python", "bash"}]
    return ImagePlan(
        directory / "images",
        Selection(languages=list(names)),
        requirements=requirements,
        debian_packages=(),
        languages=(*always, *languages),
        npm=directory / "npm",
    )


def asking(work: ImagePlan, *names: str) -> ImagePlan:
    """The same plan with these languages asked for."""
    return replace(work, selection=Selection(languages=list(names)))


def npm_folder(work: ImagePlan, name: str, programs: str = "", **dependencies: str) -> None:
    """Write a folder of npm."""
    folder = work.npm / name
    folder.mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"dependencies": dependencies}))
    (folder / "package-lock.json").write_text(json.dumps({"packages": {}}))
    if programs:
        (folder / "programs.toml").write_text(f"[programs]\n{programs}\n")

"""What is said at the end of stderr when a program has failed for want of a package. Pure but for :func:`give_hint`.

A model that sees only a traceback tries one installer after another. A hint is one line, once, and only where the last
that the program has said is that a package is missing, or that an installer has found no index. A program that handles
it and goes on gets none. What is read is hostile: bounded, and nothing but a name in the form of names is repeated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from supervisor.execution.results import Collector
from supervisor.execution.values import Exited, Outcome

READ_BYTES: Final = 6000
_ANY: Final = "NAME"
FINAL_LINES: Final = 4
"""An installer's complaint that the program has survived has to be among so many last lines."""
_NAME: Final = r"(?P<name>@?[A-Za-z0-9][A-Za-z0-9._-]{0,80}(?:/[A-Za-z0-9._-]{1,80}){0,4})"
OTHERWISE_CALLED: Final[Mapping[str, str]] = {
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "fitz": "pymupdf",
    "pil": "pillow",
    "pptx": "python-pptx",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Python's modules whose package has another name, in lower case."""
_BROUGHT_BY: Final[Mapping[str, str]] = {"cargo": "cargo", "gem": "ruby", "bundle": "bundler"}
"""Installers that no image has by itself: the Debian package of each."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """Packages of one kind: how they come into a session, to everybody, and into the image."""

    into_session: str = ""
    to_all: str = ""
    in_file: str = ""
    listed: str = ""
    instead: str = ""
    """What helps where no image can have them."""


_PYTHON: Final = _Kind("pip install {name}", "--python {name}", 'python = ["{name}"]', "pip list shows what is")
_NODE: Final = _Kind("npm install {name}", "--node {name}", 'npm = ["{name}"]')
_R: Final = _Kind(in_file='debian = ["r-cran-{lower}"]', listed="rownames(installed.packages()) shows what is")
_RUBY: Final = _Kind(in_file='debian = ["ruby-{dashed}"]', listed="gem list shows what is")
_CRATES: Final = _Kind(instead="cargo builds with crates whose source lies in /mnt/data (cargo vendor, made elsewhere)")
_PROGRAM: Final = _Kind(in_file='debian = ["{lower}"]')
_STANDARD_ONLY: Final = _Kind()

_MISSING: Final[tuple[tuple[_Kind, re.Pattern[str]], ...]] = (
    (_PYTHON, re.compile(rf"^ModuleNotFoundError: No module named '{_NAME}'\s*\Z", re.MULTILINE)),
    # Nobody has caught it: Node.js says its version last.
    (
        _NODE,
        re.compile(rf"Cannot find (?:module|package) '{_NAME}'[^\0]{{0,3000}}^Node\.js v[\d.]+\s*\Z", re.MULTILINE),
    ),
    (_NODE, re.compile(rf"^error: Cannot find (?:module|package) [\"']{_NAME}[\"'][^\0]{{0,1000}}\Z", re.MULTILINE)),
    (_NODE, re.compile(rf"error TS2307: Cannot find module '{_NAME}'")),
    (_R, re.compile(rf"there is no package called .{_NAME}.(?:[^\0]{{0,500}}^Execution halted)\s*\Z", re.MULTILINE)),
    (_RUBY, re.compile(rf"cannot load such file -- {_NAME} \(LoadError\)(?:\n\tfrom [^\n]*)*\s*\Z")),
    (_PROGRAM, re.compile(rf"\b(?P<name>{'|'.join(_BROUGHT_BY)}): (?:command )?not found\s*\Z")),
    (_STANDARD_ONLY, re.compile(rf"(?:module providing|required module provides) package {_NAME}")),
    (_STANDARD_ONLY, re.compile(rf"(?:missing crate|undeclared crate or module|unlinked crate) `{_NAME}`")),
)
_INSTALLERS: Final[tuple[tuple[_Kind, re.Pattern[str]], ...]] = (
    (_PYTHON, re.compile(rf"^ERROR: No matching distribution found for {_NAME}", re.MULTILINE)),
    (_PYTHON, re.compile(r"^error: externally-managed-environment", re.MULTILINE)),
    (_NODE, re.compile(r"^npm (?:error|ERR!) .*(?:EAI_AGAIN|ENOTFOUND|ECONNREFUSED|ENETUNREACH)", re.MULTILINE)),
    (_NODE, re.compile(r"getaddrinfo (?:EAI_AGAIN|ENOTFOUND) registry\.")),
    (_R, re.compile(r"unable to access index for repository|^Error in install\.packages", re.MULTILINE)),
    (_RUBY, re.compile(rf"^ERROR: +Could not find a valid gem '{_NAME}'[^\n]*\n +Unable to download", re.MULTILINE)),
    # Cargo's last cause is its own network library's word, in the words of old and new versions.
    (_CRATES, re.compile(r"^Caused by:\n +\[\d+\] Could(?: not|n't) (?:resolve|connect)", re.MULTILINE)),
    (_STANDARD_ONLY, re.compile(r"^E: (?:Could not open lock file|Unable to locate package)", re.MULTILINE)),
)
_NOTEBOOK: Final = re.compile(
    rf"^ *[!%] *(?:pip3?|conda|npm)(?: install(?: -\S+)*)?(?: +{_NAME})?.*\n[^\n^]*\^.*\nSyntaxError: [^\n]*\s*\Z",
    re.MULTILINE,
)


async def give_hint(output: Collector, outcome: Outcome, *, network: bool) -> None:
    """Add the hint to the output, if there is one to give."""
    hint = hint_of(_end(output, "stdout"), _end(output, "stderr"), failed=outcome != Exited(0), network=network)
    if hint is not None:
        await output.add(hint)


def hint_of(untrusted_stdout: str, untrusted_stderr: str, *, failed: bool, network: bool) -> str | None:
    """Say what to do about a package that is missing; ``network``: the sandbox could have reached something.

    Given are the ends of what was printed.
    """
    if failed:
        found = _NOTEBOOK.search(untrusted_stderr)
        if found is not None:
            instead = _how_to_install(_PYTHON, found, network=network)
            return f"a line that begins with ! or % belongs to notebooks; {instead}"
        for kind, pattern in _MISSING:
            found = pattern.search(untrusted_stderr)
            if found is not None:
                return _about_missing(kind, found["name"], network=network)
    if network:
        # What an index, or the proxy, has said is more than we know.
        return None
    for end in (untrusted_stderr, untrusted_stdout):
        said = end if failed else "\n".join(end.rstrip().splitlines()[-FINAL_LINES:])
        for kind, pattern in _INSTALLERS:
            found = pattern.search(said)
            if found is not None:
                return _how_to_install(kind, found, network=False)
    return None


def _about_missing(kind: _Kind, name: str, *, network: bool) -> str:
    if kind is _STANDARD_ONLY:
        return f"{name} is not installed: this language has its standard library here, and what lies in /mnt/data"
    name = _package(kind, name)
    listed = f" ({kind.listed})" if kind.listed else ""
    return f"{name} is not installed{listed}; {_remedy(kind, name, network=network)}"


def _how_to_install(kind: _Kind, found: re.Match[str], *, network: bool) -> str:
    name = found.groupdict().get("name")
    if network:
        run = f"pip install {name}" if name else "pip install"
        return f'run it as a program: import subprocess; subprocess.run("{run}", shell=True, check=True)'
    said = "this sandbox has no network, so nothing can be downloaded or installed in it"
    if kind.listed:
        said += f"; {kind.listed} there"
    if kind.instead:
        return f"{said}; {kind.instead}"
    if kind is _STANDARD_ONLY:
        return f"{said}; the operator of this server can add programs to its image: gaoler image build --packages FILE"
    return f"{said}; {_remedy(kind, _package(kind, name or _ANY), network=False)}"


def _remedy(kind: _Kind, name: str, *, network: bool) -> str:
    lower = name if name == _ANY else name.lower()
    places = {"name": name, "lower": lower, "dashed": lower.replace("_", "-")}
    if network and kind.into_session:
        return (
            f"{kind.into_session.format_map(places)} puts it into this session, where its index may be reached; for "
            f"all sessions the operator of this server runs: gaoler packages add {kind.to_all.format_map(places)}"
        )
    return (
        "to have it, ask the operator of this server: gaoler image build --packages FILE, where FILE says "
        + kind.in_file.format_map(places)
    )


def _package(kind: _Kind, module: str) -> str:
    """Name the package that a module is of."""
    if kind is _PYTHON:
        top = module.partition(".")[0]
        return OTHERWISE_CALLED.get(top.lower(), top)
    if kind is _NODE:
        return "/".join(module.split("/")[: 2 if module.startswith("@") else 1])
    if kind is _RUBY:
        return module.partition("/")[0]
    if kind is _PROGRAM:
        return _BROUGHT_BY[module]
    return module


def _end(output: Collector, name: str) -> str:
    kept = output.captured(name)
    return (kept.untrusted_head + kept.untrusted_tail)[-READ_BYTES:].decode("utf-8", "replace")

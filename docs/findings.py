"""Write docs/troubleshooting.md from what ``gaoler doctor`` can find: python docs/findings.py. A test checks it.

Names and fixes are read from the doctor's own code, without running it: only some of them can happen on one host. What
each finding means is in ``docs/findings.toml``, which has to name every one, and no other.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
CODE: Final = HERE.parent / "supervisor"
FINDINGS: Final = frozenset({"Finding", "Missing"})
TOGETHER: Final = {"availability": "findings"}
"""Modules whose findings stand in another's section."""
VARIES: Final = "…"
"""Stands for a part of a text that the code fills in."""


@dataclass
class Found:
    """All that the doctor may say under one name."""

    name: str
    module: str
    fixes: list[str] = field(default_factory=list)


class Texts:
    """The texts that an expression of a module may have, as far as they stand in its code."""

    def __init__(self, tree: ast.Module) -> None:
        self._functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        self._constants = dict(_assignments(tree.body))

    def of(self, node: ast.expr, names: dict[str, ast.expr]) -> list[str]:
        """Give every text that ``node`` may have; ``names``: what the function that it is in has assigned before it."""
        match node:
            case ast.Constant(value=str(text)):
                return [text]
            case ast.IfExp(body=body, orelse=other):
                return [*self.of(body, names), *self.of(other, names)]
            case ast.Name(id=name) if name in names or name in self._constants:
                return self.of(names.get(name) or self._constants[name], names)
            case ast.Call(func=ast.Name(id=name)) if name in self._functions:
                returns = (each for each in ast.walk(self._functions[name]) if isinstance(each, ast.Return))
                return [text for each in returns if each.value for text in self.of(each.value, names)]
            case ast.JoinedStr(values=values):
                return ["".join(self._part(each, names) for each in values)]
            case _:
                return [VARIES]

    def _part(self, node: ast.expr, names: dict[str, ast.expr]) -> str:
        texts = self.of(node.value if isinstance(node, ast.FormattedValue) else node, names)
        return texts[0] if len(texts) == 1 else VARIES


def _assignments(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    for node in body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield name, value


def findings() -> dict[tuple[str, str], Found]:
    """Read the doctor's code: every module and name under which it finds something, with what it says to do."""
    found: dict[tuple[str, str], Found] = {}
    for path in sorted([*CODE.glob("doctor/*.py"), *CODE.glob("microvm/*.py")]):
        if path.name == "seccomp.py":
            continue  # it is about a program, not about the host
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts = Texts(tree)
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        for function in sorted(functions, key=lambda node: node.lineno):
            calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
            for call in sorted(calls, key=lambda node: node.lineno):
                if isinstance(call.func, ast.Name) and call.func.id in FINDINGS:
                    _take(found, TOGETHER.get(path.stem, path.stem), call, texts, function)
    return found


def _take(
    found: dict[tuple[str, str], Found], module: str, call: ast.Call, texts: Texts, function: ast.FunctionDef
) -> None:
    before = [node for node in ast.walk(function) if isinstance(node, ast.stmt) and node.lineno < call.lineno]
    names = dict(_assignments(sorted(before, key=lambda node: node.lineno)))
    arguments = 3 if ast.unparse(call.func) == "Missing" else 4
    fix = call.args[-1] if len(call.args) == arguments else None
    for name in texts.of(call.args[0], names):
        if name != VARIES:
            each = found.setdefault((module, name), Found(name, module))
            fixes = [] if fix is None else texts.of(fix, names)
            each.fixes += [text for text in fixes if text.strip(VARIES) and text not in each.fixes]


def explained() -> dict[tuple[str, str], str]:
    """Give what docs/findings.toml says of each module and name."""
    sections = tomllib.loads((HERE / "findings.toml").read_text(encoding="utf-8"))
    return {(module, name): text for module, section in sections.items() for name, text in section["means"].items()}


def page() -> str:
    """Give the text of the page.

    Raises:
        KeyError: a finding is not explained.
    """
    sections = tomllib.loads((HERE / "findings.toml").read_text(encoding="utf-8"))
    means = explained()
    found = findings()
    lines = [
        "# Troubleshooting",
        "",
        "`sudo gaoler doctor` tries what a daemon needs, one thing after the other: `ok`, `note` (it works, but look",
        "at it) or `FAIL`, each with what was found, and beneath what is to be done. All that it can find is here.",
        "What can go wrong while a daemon runs is in [operating.md](operating.md#trouble). It is generated from the",
        f"doctor's own code by `docs/findings.py`; `{VARIES}` stands for what the doctor fills in.",
    ]
    for module, section in sections.items():
        lines += ["", f"## {section['title']}", "", section["about"], ""]
        lines += ["| finding | what it is about | what to do |", "|---|---|---|"]
        for key in (key for key in found if key[0] == module):
            fixes = "<br>".join(_cell(text) for text in found[key].fixes)
            lines.append(f"| `{found[key].name}` | {means[key]} | {fixes} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Write a text of the code so that no page takes it for its own marks."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    (HERE / "troubleshooting.md").write_text(page(), encoding="utf-8")

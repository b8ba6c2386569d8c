"""Which of our own modules a guest gets: those that it runs, and what these import, wherever in a module they do."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.image.steps import ImageError

HERE: Final = Path(__file__).resolve().parents[2]
"""The directory of our packages, in a checkout or among others."""
OURS: Final = frozenset(("supervisor", "egress", "policies", "http_api", "mcp_server"))
ROOTS: Final = (
    "supervisor.jailer.*",
    "supervisor.microvm.guest",
    "supervisor.microvm.carrier",
    "supervisor.microvm.vmm",
)
"""What a guest runs, and what becomes its virtual machine: modules, or all of a package."""


@dataclass(frozen=True, slots=True)
class OwnCode:
    """Our modules by their paths below :data:`HERE`, and the modules of others that they import."""

    sources: dict[str, bytes]
    foreign: list[str]


def own_code(roots: Sequence[str] = ROOTS, here: Path = HERE) -> OwnCode:
    """Follow the imports from ``roots``. Runs nothing.

    Raises:
        ImageError: one of ours is not there.
    """
    sources: dict[str, bytes] = {}
    foreign: set[str] = set()
    todo, seen = _modules(roots, here), set[str]()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        path = _file_of(name, here)
        if path is None:
            raise ImageError(f"{name} is not among Gaoler's own modules: install Gaoler again")
        sources[str(path.relative_to(here))] = text = path.read_bytes()
        for imported, names in _imports(ast.parse(text)):
            if imported.partition(".")[0] not in OURS:
                foreign.add(imported)
                continue
            below = (f"{imported}.{each}" for each in names)
            todo += [*_with_parents(imported), *(each for each in below if _file_of(each, here) is not None)]
        todo += _with_parents(name)
    return OwnCode(dict(sorted(sources.items())), sorted(foreign))


def _modules(roots: Sequence[str], here: Path) -> list[str]:
    found: list[str] = []
    for root in roots:
        package = root.removesuffix(".*")
        files = sorted(here.joinpath(*package.split(".")).glob("*.py")) if package != root else []
        found += [package, *(f"{package}.{path.stem}" for path in files if path.stem != "__init__")]
    return found


def _file_of(name: str, here: Path) -> Path | None:
    path = here.joinpath(*name.split("."))
    return next((each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()), None)


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _imports(tree: ast.AST) -> Iterator[tuple[str, list[str]]]:
    """Give the modules that are imported, each with the names that are taken from it; not those for types only."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                continue
            case ast.Import():
                yield from ((each.name, []) for each in node.names)
            case ast.ImportFrom(module=str() as module):
                yield module, [each.name for each in node.names]
            case ast.stmt() | ast.excepthandler() | ast.match_case():
                yield from _imports(node)
            case _:
                continue

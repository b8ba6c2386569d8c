"""What MkDocs does beside its configuration: pages from outside of ``docs/`` are pages of the site too.

On the disk a page may link to ``../SECURITY.md`` or ``../examples/network``; those links hold on the site as well.
Nothing is copied by hand, and a link that leads nowhere fails the build.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).resolve().parent.parent
FROM_OUTSIDE: Final = (
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "deploy/grafana",
    "deploy/prometheus",
    "examples",
    "policies/README.md",
    "systemd",
)
_LINK: Final = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?(?=\))")
_CODE: Final = re.compile(r"^( *)```.*?^\1```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add what lies outside of ``docs/``, under its own path."""
    for path in from_outside():
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def from_outside() -> list[str]:
    """List the files that the site has beside ``docs/``."""
    found: list[str] = []
    for name in FROM_OUTSIDE:
        path = ROOT / name
        inside = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
        found += [str(each.relative_to(ROOT)) for each in inside if "__pycache__" not in each.parts]
    return found


def on_page_markdown(markdown: str, *, page: Page, files: Files, **_others: object) -> str:
    """Turn links between files of the repository into links between files of the site."""
    where = page.file.src_uri
    if where not in from_outside():
        where = f"docs/{where}"
    return redirect(markdown, where, {file.src_uri for file in files})


def redirect(markdown: str, where: str, of_the_site: set[str]) -> str:
    """Rewrite the relative links of a page that is ``where`` in the repository; code is left alone.

    A directory means the README in it. What is no part of the site stays as it is, and MkDocs says so.
    """
    target_from = posixpath.dirname(where.removeprefix("docs/"))

    def replace(match: re.Match[str]) -> str:
        in_repository = posixpath.normpath(posixpath.join(posixpath.dirname(where), match["path"]))
        on_site = in_repository.removeprefix("docs/")
        if on_site not in of_the_site and f"{on_site}/README.md" in of_the_site:
            on_site += "/README.md"
        if on_site not in of_the_site:
            return match[0]
        return posixpath.relpath(on_site, target_from or ".") + (match["anchor"] or "")

    parts: list[str] = []
    end = 0
    for code in _CODE.finditer(markdown):
        parts += [_LINK.sub(replace, markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, _LINK.sub(replace, markdown[end:])])

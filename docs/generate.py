"""Write docs/configuration.md from the settings tree: python docs/generate.py. A test checks that it is current."""

from __future__ import annotations

from pathlib import Path

from supervisor.settings import DEFAULT_FILE, leaves


def configuration() -> str:
    """Give the text of the page."""
    lines = [
        "# Configuration",
        "",
        f"Settings come from `{DEFAULT_FILE}` (or `--config FILE`), then from `GAOLER_*` variables, then from flags.",
        "An unknown key or a bad value refuses to start and says what is allowed. `gaoler settings` shows the result.",
        "This page is generated from the code by `docs/generate.py`.",
        "",
        "| setting | variable | default | what it is |",
        "|---|---|---|---|",
    ]
    for leaf in leaves():
        default = str(leaf.default).lower() if isinstance(leaf.default, bool) else leaf.default
        shown = f"`{default}`" if default != "" else ""
        lines.append(f"| `{leaf.key}` | `{leaf.variable}` | {shown} | {leaf.description} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "configuration.md").write_text(configuration())

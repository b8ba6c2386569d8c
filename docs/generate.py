"""Write configuration.md from the settings, metrics.md from the catalogue. Tests check that they are current."""

from __future__ import annotations

from pathlib import Path

from supervisor.metrics.catalogue import FAMILIES
from supervisor.settings.aliases import Theirs
from supervisor.settings.loading import DEFAULT_FILE, leaves
from supervisor.settings.theirs import ROWS

_HEAD = f"""\
# Configuration

Settings come from `{DEFAULT_FILE}` (or `--config FILE`), then from `GAOLER_*` variables, then from credentials of
systemd (files of `$CREDENTIALS_DIRECTORY`, named as `redis.password`), then from flags. An unknown key or a bad value
refuses to start and says what is allowed. `gaoler settings` shows the result, and where each value came from. This page
is generated from the code by `docs/generate.py`.

| setting | variable | default | what it is |
|---|---|---|---|
"""
_THEIRS = """
## Coming from another server

These are the variables of LibreChat's code interpreters. What has **read** beside it is read here too, with its unit
converted, as the lowest of all: a settings file, a `GAOLER_*` variable and a flag each win over it, and `gaoler serve`
says in its log of each what it was read as, or why not. A value that cannot hold here refuses to start and names the
variable. Two that say different things of one setting refuse too. Empty is the same as not set. `aliases = false`
switches all of it off.

* Those marked *serve* are read by `gaoler serve` alone, and shown by `gaoler settings`: `PORT` in the shell of somebody
  who runs `gaoler mcp` is some other program's.
* `PORT` changes the port and nothing else: who wants to be reached from other hosts sets `API_HOST` too.
* What would open the server, or asks for what does not exist here, is never taken from such a name:
  `AUTH_ENABLED=false`, `API_DEBUG=true` and `ENABLE_NETWORK_ISOLATION=false` refuse to start.
* `limits.*` change the policy in force before anybody is told of it; the jailer holds them itself. In a fleet set them
  on gateways and workers alike.

| theirs | its default | ours | default | |
|---|---|---|---|---|
"""


def configuration() -> str:
    """Give the text of the page."""
    lines = [f"| `{leaf.key}` | `{leaf.variable}` | {_value(leaf.default)} | {leaf.description} |" for leaf in leaves()]
    return _HEAD + "\n".join(lines) + "\n" + _THEIRS + "\n".join(_rows()) + "\n"


def _value(value: object) -> str:
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{shown}`" if shown else ""


def _rows() -> list[str]:
    defaults = {leaf.key: leaf.default for leaf in leaves()}
    lines: list[str] = []
    server = ""
    for row in sorted(ROWS, key=lambda row: _SERVERS.index(row.server)):
        if row.server != server:
            server = row.server
            lines.append(f"| **{server}** | | | | |")
        ours = f"`{row.key}`" if row.key else ""
        lines.append(
            f"| `{row.name}` | {_value(row.default)} | {ours} | {_value(defaults.get(row.key, ''))} | {_words(row)} |"
        )
    return lines


_SERVERS = list(dict.fromkeys(row.server for row in ROWS))


def _words(row: Theirs) -> str:
    """Say whether it is read, and what else there is to know."""
    if row.reading is None:
        return f"not read: {row.why}"
    how = ["**read**" if row.key else "**checked**", *(["*serve*"] if row.serving else [])]
    return ", ".join(how) + (f": {row.why}" if row.why else "")


def metrics() -> str:
    """Give the text of the page."""
    lines = [
        "# Figures",
        "",
        "What `/metrics` of a daemon or gateway and `/internal/v1/metrics` of every role tell Prometheus. How they are",
        "asked, and what to do with it: [observability.md](observability.md).",
        "This page is generated from the code by `docs/generate.py`.",
        "",
        "| figure | type | labels | what it is |",
        "|---|---|---|---|",
    ]
    for family in FAMILIES.values():
        labels = ", ".join(f"`{label}`" for label in family.labels)
        lines.append(f"| `{family.name}` | {family.kind} | {labels} | {family.help} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "configuration.md").write_text(configuration())
    (Path(__file__).parent / "metrics.md").write_text(metrics())

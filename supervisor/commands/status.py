"""``gaoler status``: what runs, since when, how much it has to do, what is wrong with it and how to mend that."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from supervisor.commands.console import (
    EXIT_NOT_RUNNING,
    ask,
    console,
    duration,
    json_option,
    moment,
    no_color_option,
    operating_errors,
    print_json,
    print_line,
    print_text,
    size,
    url_option,
    visible,
)
from supervisor.commands.options import absolute, config_option, load_settings, state_dir_option

if TYPE_CHECKING:
    from rich.text import Text

    from supervisor.settings.tree import Settings

WATCH_SECONDS: Final = 2.0
_EXITS: Final = {"ok": 0, "degraded": 1, "unavailable": 3}
_STYLES: Final = {"ok": "green", "degraded": "yellow", "unavailable": "bold red"}
_BARS: Final = " ▁▂▃▄▅▆▇█"


@click.command()
@click.option("--watch", is_flag=True, help="Look every two seconds, until Ctrl-C.")
@json_option
@url_option
@no_color_option
@state_dir_option
@config_option
def status(watch: bool, as_json: bool, url: str | None, state_dir: str | None, config: Path | None) -> None:
    """Say how a running daemon is: what is wrong and how to mend it, its load, pools and latencies.

    Exit status: 0 all is well, 1 degraded, 3 it can run nothing, 69 no daemon answers, 77 no operator's key.
    """
    with operating_errors():
        settings = load_settings(config, {"state_dir": absolute(state_dir)}).settings
        if watch:
            _watch(settings, url, as_json=as_json)
        found = _look(settings, url)
        if as_json:
            print_json(found)
        else:
            print_text(as_text(found))
        sys.exit(_EXITS.get(found["status"], EXIT_NOT_RUNNING))


def _look(settings: Settings, url: str | None) -> dict[str, Any]:
    health = ask(settings, url, "GET", "health")
    return {"status": health["status"], "checks": health["checks"], **ask(settings, url, "GET", "overview")}


def _watch(settings: Settings, url: str | None, *, as_json: bool) -> None:
    """Show it again and again; never returns. A daemon that goes away is waited for."""
    from rich.live import Live
    from rich.text import Text

    from supervisor.commands.api_client import NotRunning

    found = _look(settings, url)
    if as_json:
        while True:
            print_line(found)
            time.sleep(WATCH_SECONDS)
            found = _look(settings, url)
    with Live(as_text(found), console=console(), screen=console().is_terminal, auto_refresh=False) as live:
        while True:
            time.sleep(WATCH_SECONDS)
            try:
                live.update(as_text(_look(settings, url)), refresh=True)
            except NotRunning as error:
                live.update(Text(f"gaoler: {error.message}\n", style="bold red"), refresh=True)


def as_text(found: Mapping[str, Any]) -> Text:
    """Lay it out for a person."""
    from rich.text import Text

    text = Text()
    words = f"{found['role']} {visible(found['name'])}, version {visible(found['version'])}"
    up = duration(found["now"] - found["started_at"])
    text.append("gaoler is ").append(found["status"], _STYLES.get(found["status"], ""))
    text.append(f": {words}, for {up} (since {moment(found['started_at'])})\n")
    for name, value in _rows(found):
        text.append(f"  {name:<11}", "bold").append(f"{value}\n")
    wrong = [each for each in found["checks"] if not each["ok"]]
    for check in wrong:
        text.append(f"  {'WRONG':<11}", "bold red").append(f"{visible(check['name'])}: {visible(check['detail'])}\n")
        if check["fix"]:
            text.append(f"{'':13}-> {visible(check['fix'])}\n")
    well = ", ".join(visible(each["name"]) for each in found["checks"] if each["ok"])
    text.append(f"  {'well':<11}", "bold green").append(well or "nothing")
    return text


def _rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    load = found["load"]
    yield "policy", visible(found["policy"]) + (f", image {visible(found['image'])}" if found["image"] else "")
    busy = f"{load['running']} of {load['places']} places in use, {load['waiting']} wait"
    if "live_sessions" in load:
        busy += f"; {load['live_sessions']} live sessions"
    yield "load", busy
    yield "host", _host(load)
    if load.get("shedding"):
        yield "SHEDDING", f"new work is refused: short of {', '.join(load['shedding'])}"
    for pool in found["pools"]:
        name = pool["profile"] or "bare"
        waiting = "" if pool["waiting"] is None else f"{pool['waiting']} wait, "
        yield "pool", f"{visible(pool['policy'])}/{visible(name)}: {waiting}{pool['floor']} to {pool['ceiling']}"
    totals = found["totals"]
    outcomes = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(totals["outcomes"].items()))
    yield "executions", f"{totals['executions']} since the start" + (f": {outcomes}" if outcomes else "")
    if any(found["per_minute"]):
        yield "last hour", bars(found["per_minute"]) + f" at most {max(found['per_minute'])} a minute"
    for step, each in found["latencies"].items():
        figures = "  ".join(f"{name} {duration(each[name])}" for name in ("p50", "p95", "p99"))
        yield "latency" if step == "whole" else "", f"{step:<10}{figures}  of {each['count']}"


def _host(load: Mapping[str, Any]) -> str:
    parts = []
    if load.get("cpu_percent") is not None:
        parts.append(f"CPU {load['cpu_percent']:.0f} %")
    for name, word in (("memory_free_bytes", "memory"), ("disk_free_bytes", "disk")):
        if name in load:
            parts.append(f"{size(load[name])} {word} free")
    return ", ".join(parts) or "not known yet"


def bars(counts: list[int]) -> str:
    """Draw counts, one character each."""
    most = max(counts, default=0) or 1
    return "".join(_BARS[-(-each * (len(_BARS) - 1) // most)] for each in counts)

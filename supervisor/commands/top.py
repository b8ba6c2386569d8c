"""``gaoler top``: the command; what it does is in :mod:`supervisor.top`."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from supervisor.commands.console import (
    ask,
    console,
    json_option,
    no_color_option,
    operating_errors,
    print_line,
    run_trio,
    url_option,
)
from supervisor.commands.options import absolute, config_option, load_settings, state_dir_option

if TYPE_CHECKING:
    from supervisor.commands.api_client import Api


@click.command()
@json_option
@url_option
@no_color_option
@state_dir_option
@config_option
def top(as_json: bool, url: str | None, state_dir: str | None, config: Path | None) -> None:
    """Watch executions as they happen: who, which language, how long, how much memory.

    Keys: q quits, arrows choose, k cancels the chosen one after a question. Without a terminal it lists what runs,
    once; with --json it gives the events of the daemon, one a line, until Ctrl-C. A daemon that is started anew is
    waited for; meanwhile "lost" is the event.
    """
    with operating_errors():
        settings = load_settings(config, {"state_dir": absolute(state_dir)}).settings
        if not as_json and not (sys.stdin.isatty() and sys.stdout.isatty()):
            from supervisor.commands.executions import print_executions

            print_executions(ask(settings, url, "GET", "executions?state=running&limit=1000")["running"])
            return
        from supervisor.commands.running_daemon import Asked, operators_api

        api = operators_api(settings, Asked(url, os.geteuid()))
        if as_json:
            run_trio(partial(_print_events, api))
            return
        from supervisor.top.live import watch

        run_trio(partial(watch, api, console()))


async def _print_events(api: Api) -> None:
    from supervisor.commands.api_follow import Listener, follow
    from supervisor.top.live import EVENTS

    def take(name: str, data: object) -> None:
        print_line({"event": name, "data": data})

    def lost(why: str, seconds: float) -> None:
        # A word of ours: the next snapshot says that the daemon is there again.
        print_line({"event": "lost", "data": {"reason": why, "retry_seconds": seconds}})

    await follow(api, EVENTS, Listener(take, lost))

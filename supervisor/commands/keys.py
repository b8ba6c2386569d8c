"""``gaoler keys``: API keys of callers, made, listed and revoked where they are kept; no daemon is needed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from supervisor.commands.completion import complete_keys
from supervisor.commands.console import json_option, no_color_option, print_json, print_table, table
from supervisor.commands.groups import ListFirst
from supervisor.commands.options import absolute, config_option, load_settings, plain_errors, state_dir_option
from supervisor.errors import ConfigurationError
from supervisor.execution.tier import TIERS
from supervisor.execution.values import Tier

if TYPE_CHECKING:
    from supervisor.identity.keys import ApiKey, KeyRates
    from supervisor.settings.tree import Settings

_KINDS: Final = ("exec", "upload", "download", "listing")
_RATE: Final = re.compile(r"off|[1-9][0-9]{0,6}/[1-9][0-9]{0,5}")


@click.group(cls=ListFirst)
def keys() -> None:
    """API keys of callers: named, each of a tenant, kept as hashes. Changes hold at once, also for a running daemon.

    Without a command it lists them.
    """


@keys.command("add")
@click.argument("name")
@click.option("--tenant", default="default", show_default=True, help="Whose sessions and files it reaches.")
@click.option("--admin", is_flag=True, help="It is an operator's: it may see and change what the server does.")
@click.option(
    "--tier", type=click.Choice(TIERS), default="nsjail", show_default=True, help="Its executions have this at least."
)
@click.option(
    "--rate",
    "rates",
    multiple=True,
    metavar="KIND=CALLS/SECONDS",
    help="Instead of the settings', for all who use it together; KIND: exec, upload, download, listing; also KIND=off.",
)
@json_option
@state_dir_option
@config_option
def keys_add(
    *,
    name: str,
    tenant: str,
    admin: bool,
    tier: Tier,
    rates: tuple[str, ...],
    as_json: bool,
    state_dir: str | None,
    config: Path | None,
) -> None:
    """Make a key and print it. It is shown this once."""
    from supervisor.identity.keys import with_new_key

    with plain_errors():
        settings = load_settings(config, {"state_dir": absolute(state_dir)}).settings
        if tier == "microvm" and not settings.microvm.enabled:
            raise ConfigurationError("tier microvm is not switched on: set microvm.enabled first", field="tier")
        own = _rates(rates)
        key = _change_keys(settings, lambda kept: with_new_key(kept, name, tenant, admin=admin, tier=tier, rates=own))
        if as_json:
            made = next(each for each in _read_keys(settings) if each.name == name)
            print_json({"key": key, **_described(made)})
        else:
            click.echo(key)


def _rates(given: Sequence[str]) -> KeyRates | None:
    """Read ``KIND=CALLS/SECONDS``.

    Raises:
        ConfigurationError: one is something else.
    """
    from supervisor.identity.keys import KeyRates

    found: dict[str, str] = {}
    for each in given:
        kind, _, rate = each.partition("=")
        if kind not in _KINDS or not _RATE.fullmatch(rate) or kind in found:
            raise ConfigurationError(
                f"--rate {each!r} is not allowed: one of {', '.join(_KINDS)}, each once, then =CALLS/SECONDS or =off",
                field="rate",
            )
        found[kind] = rate
    return KeyRates(**found) if found else None


@keys.command("list")
@json_option
@no_color_option
@state_dir_option
@config_option
def keys_list(as_json: bool, state_dir: str | None, config: Path | None) -> None:
    """List the keys that were added: name, tenant, rates, when. Those of the settings are not among them."""
    with plain_errors():
        settings = load_settings(config, {"state_dir": absolute(state_dir)}).settings
        rows = [_described(key) for key in _read_keys(settings)]
        if as_json:
            print_json(rows)
            return
        made = table("name", "tenant", "admin", "tier", "created", "rates")
        for row in rows:
            rates = " ".join(f"{kind}={rate}" for kind, rate in row.get("rates", {}).items())
            words = (row["name"], row["tenant"], "yes" if row["admin"] else "", row["tier"])
            made.add_row(*words, row["created"], rates)
        print_table(made)


def _described(key: ApiKey) -> dict[str, Any]:
    import msgspec

    row: dict[str, Any] = {"name": key.name, "tenant": key.tenant, "admin": key.admin, "tier": key.tier}
    row["created"] = datetime.fromtimestamp(key.created_at, UTC).isoformat("T", "seconds")
    return row if key.rates is None else {**row, "rates": msgspec.to_builtins(key.rates)}


@keys.command("revoke")
@click.argument("name", shell_complete=complete_keys)
@json_option
@state_dir_option
@config_option
def keys_revoke(name: str, as_json: bool, state_dir: str | None, config: Path | None) -> None:
    """Forget a key: the next request with it is refused."""
    from supervisor.identity.keys import without_key

    with plain_errors():
        settings = load_settings(config, {"state_dir": absolute(state_dir)}).settings
        _change_keys(settings, lambda kept: (without_key(kept, name), ""))
        if as_json:
            print_json({"revoked": name})


def _change_keys(settings: Settings, work: Callable[[Sequence[ApiKey]], tuple[list[ApiKey], str]]) -> str:
    """Change the keys where they are: in Redis, if the settings name one, else in the state directory."""
    if settings.uses_redis:
        from supervisor.fleet.shared_keys import change_keys

        return change_keys(settings, work)
    from supervisor.identity.keys import change_key_file

    return change_key_file(_key_file(settings), settings.jailer.daemon_uid, work)


def _read_keys(settings: Settings) -> Sequence[ApiKey]:
    from supervisor.identity.keys import read_keys

    if not settings.uses_redis:
        return read_keys(_key_file(settings))
    from supervisor.fleet.shared_keys import change_keys

    return change_keys(settings, lambda kept: ([*kept], kept))


def _key_file(settings: Settings) -> Path:
    from supervisor.identity.keys import KEY_FILE

    return settings.state_path / "data" / KEY_FILE

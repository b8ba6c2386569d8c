"""Shell completion: what it offers, and ``gaoler completion``. Nothing here waits long: a shell waits for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem

from supervisor.commands.console import visible
from supervisor.commands.options import absolute, load_settings
from supervisor.errors import GaolerError

if TYPE_CHECKING:
    from supervisor.settings.tree import Settings

COMPLETE_SECONDS: Final = 1.0
"""Longest wait for a daemon."""
MOST: Final = 200
_SHELLS: Final = ("bash", "zsh", "fish")
_EXAMPLE: Final = {
    "bash": 'eval "$(gaoler completion bash)"  in ~/.bashrc, or its output in /etc/bash_completion.d/gaoler',
    "zsh": 'eval "$(gaoler completion zsh)"  in ~/.zshrc, after compinit',
    "fish": "gaoler completion fish > ~/.config/fish/completions/gaoler.fish",
}
_FISH: Final = """\
function _gaoler_completion
    set -l words (commandline -cp | string collect)
    set -l word (commandline -ct | string collect)
    for line in (env _GAOLER_COMPLETE=fish_complete COMP_WORDS="$words" COMP_CWORD="$word" gaoler)
        set -l found (string split --max 1 , -- $line)
        switch $found[1]
            case dir
                __fish_complete_directories $found[2]
            case file
                __fish_complete_path $found[2]
            case plain
                echo $found[2]
        end
    end
end
complete --command gaoler --no-files --arguments '(_gaoler_completion)'
"""
"""Ours: click's cuts what explains a word at its first comma, and loses a command of several lines."""
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print what has a shell complete commands, options and names of sessions, keys, languages, policies.

    For bash: eval "$(gaoler completion bash)"
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    root = click.get_current_context().find_root()
    click.echo(f"# {_EXAMPLE[shell]}")
    click.echo(_FISH if shell == "fish" else kind(root.command, {}, "gaoler", "_GAOLER_COMPLETE").source())


def _offer(find: Callable[[Settings, click.Context], Iterable[tuple[str, str]]]) -> Complete:
    """Offer names, each with a word of explanation; nothing where they cannot be had."""

    def complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            flags = {"state_dir": absolute(context.params.get("state_dir"))}
            settings = load_settings(context.params.get("config"), flags).settings
            found = list(find(settings, context))
        except (GaolerError, OSError):
            return []
        # Reasons of rules are anybody's words: a line break in them would be another word that is offered.
        fit = [(name, words) for name, words in found if name.isprintable() and name.startswith(incomplete)]
        return [CompletionItem(name, help=visible(words)) for name, words in fit]

    return complete


def _keys(settings: Settings, _context: click.Context) -> Iterable[tuple[str, str]]:
    from supervisor.identity.keys import KEY_FILE, read_keys

    # Those of a fleet would need Redis to be asked.
    if not settings.uses_redis:
        for key in read_keys(settings.state_path / "data" / KEY_FILE):
            yield key.name, key.tenant


def _policies(settings: Settings, _context: click.Context) -> Iterable[tuple[str, str]]:
    from supervisor.policy import load_policies
    from supervisor.preparation.prepare import policy_directory

    for name in load_policies(policy_directory(settings)):
        yield name, ""


def _sessions(settings: Settings, context: click.Context) -> Iterable[tuple[str, str]]:
    for each in _asked(settings, context, f"sessions?limit={MOST}").get("sessions", ()):
        yield each["id"], f"{each['owner']['id']}, {each['files']} files"


def _executions(settings: Settings, context: click.Context) -> Iterable[tuple[str, str]]:
    for each in _asked(settings, context, f"executions?state=running&limit={MOST}").get("running", ()):
        yield each["id"], f"{each['language']}, {each['user'] or each['credential']}"


def _rules(settings: Settings, context: click.Context) -> Iterable[tuple[str, str]]:
    for each in _asked(settings, context, "egress").get("sets", ()):
        for number, rule in enumerate(each["written"], 1):
            yield f"{each['name']}/{rule.get('name') or number}", rule["reason"]


def _asked(settings: Settings, context: click.Context, path: str) -> dict[str, Any]:
    """Ask the daemon, if it answers soon."""
    import os

    import trio

    from supervisor.commands.console import run_trio
    from supervisor.commands.running_daemon import Asked, operators_api

    api = operators_api(settings, Asked(context.params.get("url"), os.geteuid()))

    async def work() -> dict[str, Any]:
        with trio.move_on_after(COMPLETE_SECONDS):
            answer: dict[str, Any] = await api.ask("GET", f"/v1/admin/{path}")
            return answer
        return {}

    return run_trio(work)


def complete_language(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the names of all languages."""
    from supervisor.runtimes.catalogue import load_languages

    return [CompletionItem(each.name, help=each.title) for each in load_languages() if each.name.startswith(incomplete)]


complete_keys: Final = _offer(_keys)
complete_policies: Final = _offer(_policies)
complete_sessions: Final = _offer(_sessions)
complete_executions: Final = _offer(_executions)
complete_rules: Final = _offer(_rules)

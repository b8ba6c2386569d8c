"""Groups of commands: in the order in which an operator meets them, and those that list what there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import click

SECTIONS: Final[Mapping[str, Sequence[str]]] = {
    "Begin": ("doctor", "image", "serve", "run", "shell", "mcp"),
    "As a service": ("install", "uninstall", "reload", "settings", "keys", "completion"),
    "Watch": ("status", "top", "executions", "sessions", "usage", "logs", "audit"),
    "What programs have": ("languages", "packages", "egress"),
    "More machines": ("fleet", "workers"),
    "Doubt": ("attack",),
}


class InOrder(click.Group):
    """Lists its commands in sections; what is in none comes last."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - not needed
        """Give their names."""
        known = [name for names in SECTIONS.values() for name in names if name in self.commands]
        return [*known, *(name for name in self.commands if name not in known)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - not needed
        """Write the sections."""
        placed = {name for names in SECTIONS.values() for name in names}
        rest = [name for name in self.commands if name not in placed]
        width = max(map(len, self.commands))
        for title, names in (*SECTIONS.items(), ("Other", rest)):
            rows = [
                (name.ljust(width), self.commands[name].get_short_help_str(formatter.width - width - 6))
                for name in names
                if name in self.commands and not self.commands[name].hidden
            ]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


class ListFirst(click.Group):
    """A group whose ``list`` is meant where no command is named: ``gaoler sessions --json`` lists."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``list`` before arguments that name no command."""
        named = bool(args) and (args[0] in self.commands or args[0] in ctx.help_option_names)
        # What begins without a dash is a command that is mistyped; and a shell that completes means the group.
        if not named and not ctx.resilient_parsing and not (args and not args[0].startswith("-")):
            args = ["list", *args]
        return super().parse_args(ctx, args)

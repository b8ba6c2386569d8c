"""How commands speak to people: tables that fit, colours on a terminal only, and what strangers wrote made harmless."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec

from supervisor.commands.options import EXIT_CONFIGURATION, path_setting, plain_errors

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from supervisor.settings.tree import Settings

EXIT_NOT_RUNNING: Final = 69
"""EX_UNAVAILABLE of sysexits.h: no daemon answers."""
EXIT_NO_RIGHT: Final = 77
"""EX_NOPERM: there is no key, or it is no operator's."""
ANSWER_SECONDS: Final = 30.0
"""Longest wait for one answer of a daemon."""
_COLOURLESS: Final = "gaoler.colourless"
_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")
_url_option = click.option(
    "--url", metavar="URL", help="Of a running daemon (default: where the settings say that one listens)."
)
_client_cert_option = click.option(
    "--client-cert",
    metavar="FILE",
    expose_value=False,
    callback=path_setting("tls.client_certificate"),
    help="Show this certificate (PEM) to a daemon that asks for one (default: tls.client_certificate).",
)
_client_key_option = click.option(
    "--client-key",
    metavar="FILE",
    expose_value=False,
    callback=path_setting("tls.client_key"),
    help="Its private key (default: tls.client_key, else in the same file).",
)


def url_option(command: _F) -> _F:
    """Have a command say which daemon it asks, and with which certificate: ``url`` is given to it, the rest noted."""
    return _url_option(_client_cert_option(_client_key_option(command)))


def _note_colourless(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    context.meta[_COLOURLESS] = value or context.meta.get(_COLOURLESS, False)


no_color_option = click.option(
    "--no-color",
    is_flag=True,
    expose_value=False,
    callback=_note_colourless,
    help="No colours, on a terminal either; as NO_COLOR in the environment.",
)


def console(*, stderr: bool = False) -> Console:
    """Give what prints for people. Rich itself looks whether there is a terminal, and at NO_COLOR."""
    from rich.console import Console

    context = click.get_current_context(silent=True)
    colourless = context is not None and context.meta.get(_COLOURLESS, False)
    # Markup and highlighting would read words of strangers.
    return Console(no_color=True if colourless else None, stderr=stderr, markup=False, highlight=False, emoji=False)


def table(*columns: str) -> Table:
    """Give a table without lines, whose cells are cut where a terminal ends."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="ellipsis", no_wrap=True)
    return made


def print_table(made: Table) -> None:
    """Print it: cut to the width of a terminal, whole elsewhere."""
    out = console()
    if not out.is_terminal:
        # A file or a pipe has no width, and what is cut there is lost.
        out.width = 10_000
    out.print(made)


def print_text(text: Text) -> None:
    """Print it: wrapped on a terminal, in its own lines elsewhere."""
    out = console()
    out.print(text, soft_wrap=not out.is_terminal)


def print_json(value: object) -> None:
    """Print one object, laid out."""
    click.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


def print_line(value: object) -> None:
    """Print one object of a stream, in a line of its own, at once."""
    click.echo(msgspec.json.encode(value).decode())
    sys.stdout.flush()


@contextmanager
def passing_line() -> Iterator[Callable[[str], None]]:
    """Give what shows a person, in a line that goes again, what is being done. Nothing where there is no terminal.

    No thread draws it: who is told may start processes.
    """
    if not sys.stderr.isatty():
        yield lambda _what: None
        return

    def tell(what: str) -> None:
        sys.stderr.write(f"\r\x1b[K{visible(what)} ...")
        sys.stderr.flush()

    try:
        yield tell
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def visible(text: object) -> str:
    """Give a text that strangers may have written, without what a terminal would obey."""
    return "".join(each if each.isprintable() else "?" for each in str(text))


def moment(seconds: float | None) -> str:
    """Give a time in UTC."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat("T", "seconds")[:-6] + "Z"


def size(count: float) -> str:
    """Give a number of bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def duration(seconds: float) -> str:
    """Give a time that passed, for people."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


@contextmanager
def operating_errors() -> Iterator[None]:
    """Show what went wrong between us and a daemon as a line that says what to do next, and end with its status."""
    from supervisor.commands.api_client import NoCertificate, NotRunning, Refused
    from supervisor.commands.running_daemon import NoKey

    with plain_errors():
        try:
            yield
        except NotRunning as error:
            click.echo(f"gaoler: {error.message}", err=True)
            click.echo("  -> start it ('gaoler serve', 'systemctl start gaoler'), or name it with --url", err=True)
            sys.exit(EXIT_NOT_RUNNING)
        except NoCertificate as error:
            click.echo(f"gaoler: {error.message}", err=True)
            click.echo(_SHOW_ONE, err=True)
            sys.exit(EXIT_NO_RIGHT)
        except NoKey as error:
            click.echo(f"gaoler: {error.message}", err=True)
            sys.exit(EXIT_NO_RIGHT)
        except Refused as error:
            click.echo(f"gaoler: {error.message}", err=True)
            if error.status in (401, 403):
                click.echo(_ADVICE[error.status], err=True)
                sys.exit(EXIT_NO_RIGHT)
            sys.exit(EXIT_CONFIGURATION if error.status == 400 else 1)
        except KeyboardInterrupt:
            sys.exit(130)
        except BrokenPipeError:
            # Whoever read has seen enough; nothing more can be written, not even at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)


_SHOW_ONE: Final = (
    "  -> show one of an authority that it trusts: --client-cert FILE and --client-key FILE, or tls.client_certificate "
    "and tls.client_key"
)
_ADVICE: Final = {
    401: "  -> the key does not hold: set GAOLER_ADMIN_KEY, or run it with sudo where the daemon keeps its own",
    403: "  -> the key is no operator's: use the master key, or one made by 'gaoler keys add NAME --admin'",
}


def run_trio(work: Callable[[], Awaitable[_T]]) -> _T:
    """Run something to its end; of several errors the first is raised, alone."""
    import trio

    found: BaseException | None = None
    try:
        return trio.run(work)
    except BaseExceptionGroup as group:
        found = group
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
    raise found from None


def ask(settings: Settings, url: str | None, method: str, path: str, body: object = None) -> Any:
    """Ask the daemon one thing, as its operator; ``path`` below ``/v1/admin/``.

    Raises:
        GaolerError: as :meth:`supervisor.commands.api_client.Api.ask`,
        :func:`supervisor.commands.running_daemon.operators_api`.
    """
    import trio

    from supervisor.commands.api_client import NotRunning
    from supervisor.commands.running_daemon import Asked, operators_api

    api = operators_api(settings, Asked(url, os.geteuid()))

    async def work() -> Any:
        with trio.move_on_after(ANSWER_SECONDS):
            return await api.ask(method, f"/v1/admin/{path}", body)
        raise NotRunning(f"{api.place.shown} has not answered for {ANSWER_SECONDS:.0f} s")

    return run_trio(work)

"""``gaoler doctor``: the host as a whole, what one program needs of the seccomp profiles, or virtual machines."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from supervisor.commands.completion import complete_language, complete_policies
from supervisor.commands.console import passing_line
from supervisor.commands.options import absolute, config_option, load_settings, plain_errors, state_dir_option


@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--seccomp",
    "program",
    metavar="PROGRAM",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Say what this program (source text, or a Linux binary) would need of the seccomp profiles.",
)
@click.option("--microvm", is_flag=True, help="Boot a virtual machine, or say what is missing for the tier microvm.")
@click.argument("arguments", metavar="[ARG]...", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--language",
    shell_complete=complete_language,
    help="With --seccomp: of PROGRAM. Default: by its extension; of a binary: C.",
)
@click.option(
    "--policy",
    shell_complete=complete_policies,
    help="With --seccomp: look at this policy instead of the one in force.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@state_dir_option
@config_option
def doctor(
    program: Path | None,
    microvm: bool,
    arguments: tuple[str, ...],
    language: str | None,
    policy: str | None,
    as_json: bool,
    state_dir: str | None,
    config: Path | None,
) -> None:
    """Try what this host can do, and say how to mend what it cannot.

    With --seccomp PROGRAM: run PROGRAM once in a sandbox in logging mode and list the system calls that its seccomp
    profiles would kill or refuse. CAREFUL: in this one run the calls that kill are let through, so that all are found;
    namespaces, mounts, limits and missing rights hold as ever. Status 1: something would be killed.

    With --microvm: boot a virtual machine as a sandbox would have it. Status 1: this host gives none.
    """
    with plain_errors():
        loaded = load_settings(config, {"state_dir": absolute(state_dir)})
        if microvm and (program is not None or arguments or language or policy):
            raise click.UsageError("--microvm takes none of --seccomp, --language, --policy and arguments")
        if microvm:
            from supervisor.doctor import microvm as doctor_microvm

            with passing_line() as tell:
                tell("booting a virtual machine")
                report = doctor_microvm.examine(loaded.settings)
            click.echo(doctor_microvm.as_json(report) if as_json else doctor_microvm.as_text(report))
            sys.exit(0 if report.usable else 1)
        if program is not None:
            from supervisor.doctor import seccomp as doctor_seccomp

            with passing_line() as tell:
                tell("running it in logging mode")
                wish = doctor_seccomp.Wish(program, arguments, language, policy)
                found = doctor_seccomp.examine(loaded.settings, wish)
            click.echo(doctor_seccomp.as_json(found) if as_json else doctor_seccomp.as_text(found))
            sys.exit(1 if found.killed else 0)
        if arguments or language or policy:
            raise click.UsageError("arguments, --language and --policy belong to --seccomp PROGRAM")
        from supervisor.doctor import host as examination

        with passing_line() as tell:
            findings = examination.examine(loaded.settings, lambda what: tell(f"trying {what}"))
        click.echo(examination.as_json(findings) if as_json else examination.as_text(findings))
        sys.exit(1 if any(finding.status == "fail" for finding in findings) else 0)

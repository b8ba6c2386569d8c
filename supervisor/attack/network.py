"""A daemon in the little internet: its policies, its rules, its start."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from supervisor.attack.internet import NAME_SERVER, Internet

RULES: Final = (Path(__file__).resolve().parent / "egress_rules.toml").read_text(encoding="utf-8")
RULE_SET: Final = "attack"
SECRET: Final = "s3cr3t-of-the-operator-0123456789"  # noqa: S105 - made up, for the little internet
RULES_THAT_ATTACH: Final = """
[[rule]]
name = "api"
hosts = ["api.example.org"]
schemes = ["http"]
credential = "token"
prefix = "Bearer "
reason = "an API that wants a token"

[[rule]]
name = "other"
hosts = ["other.example.org"]
schemes = ["http"]
reason = "a host that gets no secret"
"""


def policies_with(
    directory: Path,
    source: Path,
    rules: Mapping[str, str],
    *,
    sets: Sequence[str] | None = None,
    policy: str = "default",
) -> None:
    """Copy the policies of ``source`` to ``directory``; there ``policy`` has a network, with these files of rules."""
    shutil.copytree(source, directory)
    for path in (directory / "sandbox").glob("*.toml"):
        if path.stem != policy and re.search(r'^network = "egress"', path.read_text(), re.MULTILINE):
            path.unlink()
    path = directory / "sandbox" / f"{policy}.toml"
    named = json.dumps(list(rules if sets is None else sets))
    text = re.sub(r"^(egress|network) = .*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    head, table, rest = text.partition("[limits]")
    path.write_text(f'{head}egress = {named}\nnetwork = "egress"\n\n{table}{rest}', encoding="utf-8")
    for name, each in rules.items():
        (directory / "egress" / f"{name}.toml").write_text(each, encoding="utf-8")


def environment(policies: Path) -> dict[str, str]:
    """Give the variables with which a daemon finds the name server of the little internet, its policies, a secret."""
    credentials = policies.parent / "credentials"
    credentials.mkdir(mode=0o700)
    (credentials / "token").write_text(f"{SECRET}\n", encoding="utf-8")
    return {
        "GAOLER_EGRESS_CREDENTIALS_DIR": str(credentials),
        "GAOLER_JAILER_POLICY_DIR": str(policies),
        "GAOLER_EGRESS_NAME_SERVERS": NAME_SERVER,
    }


def prefix(internet: Internet) -> tuple[str, ...]:
    """Give the command that starts another one in the network of the little internet's host."""
    return ("nsenter", f"--net=/proc/{os.getpid()}/fd/{internet.host_fd}")

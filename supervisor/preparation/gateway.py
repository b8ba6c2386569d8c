"""What happens before a gateway serves: everything is read, the connector started, and rights given up.

A gateway takes requests and runs nothing: it needs no image, no sandboxes and no root. Started by root it becomes what
a daemon becomes; in a container that may mount nothing it still becomes the ordinary user; started by anybody else it
stays who it is. The last two stay in the view and network where they are.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from supervisor.connector.client import Connector
from supervisor.core import GatewayPrepared
from supervisor.errors import ConfigurationError
from supervisor.identity.oauth import load_oauth_keys
from supervisor.jailer import kernel
from supervisor.jailer.setup import become_ordinary_user
from supervisor.network.preparation import rule_source
from supervisor.network.presets import read_presets
from supervisor.network.rules_in_force import RulesInForce, RuleSource
from supervisor.policy import Policy
from supervisor.preparation.prepare import (
    DOORS,
    bind_address,
    code_directories,
    own_filters,
    policy_directory,
    read_policy,
    read_token_keys,
    told_of_names,
    written_directories,
)
from supervisor.preparation.remote import read_remote_files, start_way_out
from supervisor.serving.tls import open_certificate, shown_directories
from supervisor.settings.tree import Settings

log: Final = logging.getLogger("gaoler.prepare")

_CHANGING_USER: Final = (0, 6, 7)
"""CAP_CHOWN, CAP_SETGID, CAP_SETUID: <linux/capability.h>."""
_CAP_SYS_ADMIN: Final = 21


def prepare_gateway(settings: Settings, *, listening: bool = True) -> GatewayPrepared:
    """Read and make all that a gateway needs, then become its ordinary user, if that is root's to do.

    ``listening``: take the bind of the settings; otherwise it was given sockets.

    Raises:
        ConfigurationError: something is wrong or missing; nothing is left running.
        GaolerError: somebody else listens on the bind.
    """
    rights = _rights()
    policies, policy = read_policy(settings)
    rules = _rule_source(settings, policy)
    token_keys = read_token_keys(settings)
    oauth_keys = load_oauth_keys(Path(settings.mcp.oauth_jwks)) if settings.mcp.authorization_server else {}
    remote = read_remote_files(settings)
    certificate, shown = open_certificate(settings), shown_directories(settings)
    filters = own_filters(settings)
    _make_directories(settings, as_root=rights != "none")
    bound = bind_address(settings) if listening else None
    if rights == "user":
        _become_user(settings.jailer.daemon_uid)
    connector = start_way_out(
        settings, filters["connector"], code_directories(), told_of_names(), as_root=rights == "view"
    )
    if connector is None:
        raise ConfigurationError("a gateway needs redis.url and s3.url", field="redis.url")
    try:
        if rights == "view":
            _enter_view(settings, shown)
            settings = remote.shown(settings)
        else:
            _stay(connector)
        if rights == "user":
            settings = remote.shown(settings, settings.state_path / "run")
    except BaseException:
        connector.close()
        raise
    return GatewayPrepared(
        settings=settings,
        policies=policies,
        policy=policy,
        api_key=settings.api_key,
        token_keys=token_keys,
        oauth_keys=oauth_keys,
        rule_source=rules,
        own_filter=filters["daemon"],
        bound=bound,
        dial=connector.dial,
        connector=connector,
        signing_key=remote.signing_key,
        trusted_keys=remote.trusted_keys,
        admin_key=settings.admin_key,
        certificate=certificate,
    )


def _rule_source(settings: Settings, policy: Policy) -> RuleSource:
    """Read the rules of the network, to tell callers of them. Secrets that rules add stay with the workers."""
    if policy.network != "egress":
        return rule_source(settings, policy, {}, {})
    source = rule_source(settings, policy, read_presets(os.environ, Path.home()), {})
    RulesInForce(source)
    return source


def _make_directories(settings: Settings, *, as_root: bool) -> None:
    """Make what a gateway keeps on its own host: next to nothing, for its sessions are in Redis.

    A worker of the same host may use the same directory: no lock is taken, and nothing is removed.
    """
    data = settings.state_path / "data"
    try:
        settings.state_path.mkdir(mode=0o755, parents=True, exist_ok=True)
        data.mkdir(mode=0o700, exist_ok=True)
        if as_root:
            (settings.state_path / "root").mkdir(mode=0o755, exist_ok=True)
            (settings.state_path / "run").mkdir(mode=0o700, exist_ok=True)
            for directory in (data, settings.state_path / "run"):
                os.chown(directory, settings.jailer.daemon_uid, settings.jailer.daemon_uid)
    except OSError as error:
        raise ConfigurationError(
            f"state_dir: {error}; a gateway keeps nothing there that matters, any writable directory will do",
            field="state_dir",
        ) from None


def _rights() -> Literal["view", "user", "none"]:
    """Say what there is to give up: all of root's; in a container perhaps only the user, for it may mount nothing."""
    if os.geteuid() != 0:
        return "none"
    status = Path("/proc/self/status").read_text(encoding="ascii")
    effective = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:"))
    if not all(effective >> capability & 1 for capability in _CHANGING_USER):
        return "none"
    return "view" if effective >> _CAP_SYS_ADMIN & 1 else "user"


def _enter_view(settings: Settings, shown: Sequence[Path]) -> None:
    become_ordinary_user(
        settings.jailer.daemon_uid,
        settings.state_path / "root",
        [*code_directories(), *DOORS, policy_directory(settings)],
        written_directories(settings),
        shown,
    )


def _become_user(uid: int) -> None:
    kernel.drop_bounding_set()
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def _stay(connector: Connector) -> None:
    """Give up what can be given up without root; the connector, of the same uid, cannot look into our memory."""
    os.umask(0o077)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    kernel.drop_capabilities()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    log.warning(
        "no right to make namespaces: this gateway runs as uid %d under its seccomp filter, but sees the files of "
        "where it is and is in its network; the connector is process %d",
        os.getuid(),
        connector.pid,
    )

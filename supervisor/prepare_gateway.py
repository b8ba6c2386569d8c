"""What happens before a gateway serves: everything is read, the connector started, and rights given up.

A gateway takes requests and runs nothing: it needs no image, no sandboxes and no root. Started by root it becomes what
a daemon becomes; started by anybody else, in a container say, it stays who it is, in the network where it is.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

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
from supervisor.prepare import (
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
from supervisor.prepare_remote import read_remote_files, start_way_out
from supervisor.settings import Settings

log: Final = logging.getLogger("gaoler.prepare")


def prepare_gateway(settings: Settings) -> GatewayPrepared:
    """Read and make all that a gateway needs, then become its ordinary user, if that is root's to do.

    Raises:
        ConfigurationError: something is wrong or missing; nothing is left running.
        GaolerError: somebody else listens on the bind.
    """
    as_root = os.geteuid() == 0
    policies, policy = read_policy(settings)
    rules = _rule_source(settings, policy)
    token_keys = read_token_keys(settings)
    oauth_keys = load_oauth_keys(Path(settings.mcp.oauth_jwks)) if settings.mcp.authorization_server else {}
    remote = read_remote_files(settings)
    filters = own_filters(settings)
    _make_directories(settings, as_root=as_root)
    hosts = told_of_names()
    connector = start_way_out(settings, filters["connector"], code_directories(), hosts, as_root=as_root)
    if connector is None:
        raise ConfigurationError("a gateway needs redis.url and s3.url", field="redis.url")
    try:
        bound = bind_address(settings)
        if as_root:
            _become_user(settings)
            settings = remote.shown_in_view(settings)
        else:
            _stay(connector)
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


def _become_user(settings: Settings) -> None:
    become_ordinary_user(
        settings.jailer.daemon_uid,
        settings.state_path / "root",
        [*code_directories(), *DOORS, policy_directory(settings)],
        written_directories(settings),
    )


def _stay(connector: Connector) -> None:
    """Give up what can be given up without root; the connector, of the same uid, cannot look into our memory."""
    os.umask(0o077)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    kernel.drop_capabilities()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    log.warning(
        "started without root: this gateway runs as uid %d under its seccomp filter, but sees this host's files and is "
        "in its network; the connector is process %d",
        os.getuid(),
        connector.pid,
    )

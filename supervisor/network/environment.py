"""What programs in a sandbox with a network find in their environment. Pure.

No proxy is set: connections are taken where they go. What is here lets package managers install into the session, from
where this host's own do, and trust whom the sandbox trusts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from supervisor.network.presets import Preset
from supervisor.network.rule_files import RuleSet

AUTHORITIES: Final = "/etc/ssl/certs/ca-certificates.crt"
PACKAGES: Final = "/mnt/data/.packages"
"""Kept with the session, as one archive: see :mod:`supervisor.jailer.packages`."""
_ALWAYS: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            "SSL_CERT_FILE",
            "REQUESTS_CA_BUNDLE",
            "CURL_CA_BUNDLE",
            "PIP_CERT",
            "NODE_EXTRA_CA_CERTS",
            "GIT_SSL_CAINFO",
            "CARGO_HTTP_CAINFO",
            "npm_config_cafile",
        ),
        AUTHORITIES,
    ),
    "PATH": f"/usr/local/bin:/usr/bin:/bin:{PACKAGES}/python/bin:{PACKAGES}/node/bin:/mnt/data/node_modules/.bin",
    "PYTHONUSERBASE": f"{PACKAGES}/python",
    # The host's Python is its package manager's; what pip installs lies beside it, in the session.
    "PIP_USER": "1",
    "PIP_BREAK_SYSTEM_PACKAGES": "1",
    "PIP_NO_WARN_SCRIPT_LOCATION": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_CACHE_DIR": "/tmp/.cache/pip",
    "npm_config_cache": "/tmp/.npm",
    "npm_config_prefix": f"{PACKAGES}/node",
    "npm_config_update_notifier": "false",
    "npm_config_fund": "false",
    "npm_config_audit": "false",
    # The workspace follows no links, so npm's are copies.
    "npm_config_bin_links": "false",
    "NODE_PATH": f"/mnt/data/node_modules:{PACKAGES}/node/lib/node_modules:/opt/packages/node_modules",
    "GOPATH": f"{PACKAGES}/go",
    "CARGO_HOME": f"{PACKAGES}/cargo",
}
OFFLINE: Final[Mapping[str, str]] = {
    # Nothing answers there, however often it is asked: the first answer is the last one.
    "PIP_RETRIES": "0",
    "npm_config_fetch_retries": "0",
    "CARGO_NET_RETRY": "0",
    # That the host's Python is managed by Debian is not what keeps pip from installing here.
    "PIP_BREAK_SYSTEM_PACKAGES": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_CACHE_DIR": "/tmp/.cache/pip",
    "npm_config_cache": "/tmp/.npm",
    "npm_config_update_notifier": "false",
    "npm_config_fund": "false",
    "npm_config_audit": "false",
}
"""Of sandboxes without a network: package managers say so at once."""


def network_environment(sets: Iterable[RuleSet], presets: Mapping[str, Preset]) -> dict[str, str]:
    """Give the variables for sandboxes with these rules."""
    named = {entry.preset for each in sets for entry in each.written.rule if entry.preset is not None}
    found = dict(_ALWAYS)
    for name in sorted(named):
        if name in presets:
            found |= presets[name].environment
    return found

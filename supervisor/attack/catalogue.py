"""All cases there are, in the order of the report."""

from __future__ import annotations

from collections.abc import Sequence

from supervisor.attack.case import GROUPS, Case
from supervisor.attack.cases import (
    defence,
    files,
    files_inside,
    files_kept,
    files_others,
    files_stored,
    http,
    http_bodies,
    http_callers,
    image,
    kernel,
    lifetime,
    mcp,
    mcp_content,
    network,
    resources,
    secrets,
    secrets_environment,
    secrets_told,
)
from supervisor.attack.programs import program_cases

MODULES = (
    kernel,
    image,
    resources,
    lifetime,
    files,
    files_inside,
    files_kept,
    files_others,
    files_stored,
    http,
    http_bodies,
    http_callers,
    mcp,
    mcp_content,
    network,
    secrets,
    secrets_environment,
    secrets_told,
    defence,
)


def all_cases() -> Sequence[Case]:
    """Give every case: by group, programs first."""
    cases = [*program_cases(), *(case for module in MODULES for case in module.COLLECTION.cases)]
    order = list(GROUPS)
    return sorted(cases, key=lambda case: order.index(case.group))

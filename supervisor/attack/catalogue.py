"""All cases there are, in the order of the report."""

from __future__ import annotations

from collections.abc import Sequence

from supervisor.attack.case import GROUPS, Case
from supervisor.attack.cases import defence, files, kernel, lifetime, network, resources, secrets
from supervisor.attack.programs import program_cases

MODULES = (kernel, resources, lifetime, files, network, secrets, defence)


def all_cases() -> Sequence[Case]:
    """Give every case: by group, programs first."""
    cases = [*program_cases(), *(case for module in MODULES for case in module.COLLECTION.cases)]
    order = list(GROUPS)
    return sorted(cases, key=lambda case: order.index(case.group))

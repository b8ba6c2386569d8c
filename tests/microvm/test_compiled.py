"""Seccomp programs that a guest need not compile: whose they are, and that nothing else is taken for them."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from supervisor.jailer.cgroup import Layout
from supervisor.jailer.config import JailerConfig, compiled_for, with_compiled
from supervisor.jailer.seccomp import Compiled, SeccompError
from supervisor.jailer.seccomp_filter import check_default
from supervisor.microvm.machine_plan import MachinePlan
from supervisor.microvm.protocol import GuestPlan
from supervisor.policy import PACKAGED_POLICIES, load_policies, load_seccomp_profiles
from supervisor.preparation.nsjail_program import nsjail_path

POLICIES = dict(load_policies(PACKAGED_POLICIES))
PROFILES = dict(load_seccomp_profiles({"bash": "bash"}, PACKAGED_POLICIES))
PROGRAMS = Compiled(policies=dict.fromkeys(POLICIES, b"p" * 8), languages=dict.fromkeys(PROFILES, b"l" * 8))
GUEST = GuestPlan(
    policies={"default": POLICIES["default"]},
    seccomp_profiles=PROFILES,
    compiled=None,
    profiles=[],
    pools=[],
    filters={},
    init="/usr/bin/catatonit",
    egress=False,
    build_seconds=1,
    log_level="INFO",
)
MACHINES = MachinePlan(
    program=["/bin/true"],
    config=b"",
    policy=POLICIES["default"],
    group=1,
    guest=GUEST,
    boot_seconds=1,
    waiting=0,
    most=1,
)


def config(nsjail: str = "/nowhere/nsjail", compiled: Compiled | None = None) -> JailerConfig:
    return JailerConfig(
        nsjail=nsjail,
        init="/usr/bin/catatonit",
        python=[],
        usr="/usr",
        image="",
        etc="",
        dev="",
        empty="",
        shared="",
        work="",
        layout=Layout(version=2, directories={"unified": "/"}),
        policies=POLICIES,
        seccomp_profiles=PROFILES,
        compiled=compiled,
        profiles=[],
        pools=[],
        ids=1,
        builders=1,
        max_jails=1,
        own_filter=b"",
        build_seconds=1,
    )


def test_programs_that_came_are_taken_as_they_are() -> None:
    assert compiled_for(config(compiled=PROGRAMS)) == PROGRAMS


@pytest.mark.parametrize(
    "other",
    [
        Compiled(policies={}, languages=PROGRAMS.languages),
        Compiled(policies=PROGRAMS.policies, languages={}),
        Compiled(policies=PROGRAMS.policies | {"more": b"m" * 8}, languages=PROGRAMS.languages),
    ],
)
def test_programs_of_other_policies_are_refused(other: Compiled) -> None:
    with pytest.raises(SeccompError, match="not those of the policies"):
        compiled_for(config(compiled=other))


def test_without_any_they_are_compiled_and_guests_get_those_of_what_they_have() -> None:
    host = replace(config(str(nsjail_path())), machines=MACHINES)
    compiled = compiled_for(host)
    assert compiled.policies.keys() == POLICIES.keys()
    check_default(compiled.languages["bash"])
    told = with_compiled(host, compiled).machines
    assert told is not None
    theirs = told.guest.compiled
    assert theirs == Compiled(policies={"default": compiled.policies["default"]}, languages=compiled.languages)


def test_a_policy_that_only_guests_have_is_compiled_for_them() -> None:
    machines = replace(MACHINES, guest=replace(GUEST, policies={"inside": POLICIES["default"]}))
    host = replace(config(str(nsjail_path())), machines=machines)
    told = with_compiled(host, compiled_for(host)).machines
    assert told is not None
    assert told.guest.compiled is not None
    assert told.guest.compiled.policies.keys() == {"inside"}

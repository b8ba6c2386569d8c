"""Which tier an execution has: pure, and as settings, keys and policies say it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from supervisor.errors import ConfigurationError, InvalidRequest, Unsupported
from supervisor.execution.tier import TIERS, TierRules, check_startable, highest, is_below, state_label, state_tier
from supervisor.execution.values import Principal, Tier
from supervisor.identity.credentials import Caller, principal_of
from supervisor.identity.keys import KEY_FILE, KeyRing, add_key, read_keys
from supervisor.policy import Policy, load_policies
from supervisor.preparation.prepare import read_policy
from supervisor.preparation.tiers_in_force import tiers_in_force
from supervisor.runtimes.catalogue import load_languages
from supervisor.settings.loading import load
from supervisor.settings.tree import Settings

ANN = Principal("acme", "key")
STRICT = Principal("acme", "strict", tier="microvm")


def test_the_tiers_have_an_order() -> None:
    assert TIERS == ("nsjail", "microvm")
    assert is_below("nsjail", "microvm")
    assert not is_below("microvm", "nsjail")
    assert not is_below("microvm", "microvm")
    assert highest("nsjail", "microvm", "nsjail") == "microvm"


PLAIN = TierRules()
TENANT = TierRules(tenants=frozenset({"acme"}))
LANGUAGE = TierRules(languages=frozenset({"bash"}))
POLICY = TierRules(policy="microvm")


@pytest.mark.parametrize(
    ("rules", "principal", "language", "asked", "expected"),
    [
        (PLAIN, ANN, "python", None, "nsjail"),
        (PLAIN, ANN, "python", "nsjail", "nsjail"),
        (PLAIN, ANN, "python", "microvm", "microvm"),
        (PLAIN, STRICT, "python", None, "microvm"),
        (PLAIN, STRICT, "python", "microvm", "microvm"),
        (TENANT, ANN, "python", None, "microvm"),
        (TENANT, Principal("other", "key"), "python", None, "nsjail"),
        (LANGUAGE, ANN, "bash", None, "microvm"),
        (LANGUAGE, ANN, "python", None, "nsjail"),
        (LANGUAGE, ANN, "python", "microvm", "microvm"),
        (POLICY, ANN, "python", None, "microvm"),
    ],
)
def test_the_highest_applies_and_a_request_may_raise_it(
    rules: TierRules, principal: Principal, language: str, asked: Tier | None, expected: Tier
) -> None:
    assert rules.choose(principal, language, asked) == expected


@pytest.mark.parametrize(
    ("rules", "principal", "whose"),
    [
        (PLAIN, STRICT, "this key's executions"),
        (TENANT, ANN, "this tenant's executions"),
        (LANGUAGE, ANN, "executions in bash"),
        (POLICY, ANN, "this server's executions"),
    ],
)
def test_asking_for_less_is_refused_in_the_name_of_who_says_more(
    rules: TierRules, principal: Principal, whose: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        rules.choose(principal, "bash", "nsjail")
    assert caught.value.message == f"{whose} are of tier microvm; a request may only raise it"
    assert caught.value.field == "tier"


@pytest.mark.parametrize("rules", [PLAIN, TENANT, LANGUAGE, POLICY])
def test_what_the_host_does_not_give_is_refused_with_the_reason_and_never_lowered(rules: TierRules) -> None:
    without = replace(rules, unavailable="no /dev/kvm")
    assert without.best == "nsjail"
    asked: Tier | None = "microvm" if rules is PLAIN else None
    with pytest.raises(Unsupported, match=r"no /dev/kvm\. For the operator") as caught:
        without.choose(ANN, "bash", asked)
    assert (caught.value.code, caught.value.field) == ("tier_unavailable", "tier")
    with pytest.raises(Unsupported):
        without.choose(STRICT, "python")


@pytest.mark.parametrize(
    ("rules", "policies", "keys", "said", "field"),
    [
        (POLICY, {"strict": "microvm"}, [], "policy strict asks", "execution.policy"),
        (TENANT, {}, [], "microvm.tenants names acme, which asks", "microvm.tenants"),
        (LANGUAGE, {}, [], "microvm.languages names bash, which asks", "microvm.languages"),
        (PLAIN, {}, [("a", "nsjail"), ("b", "microvm")], "API key b asks", "keys"),
    ],
)
def test_who_asks_for_what_the_host_does_not_give_keeps_it_from_starting(
    rules: TierRules, policies: dict[str, Tier], keys: list[tuple[str, Tier]], said: str, field: str
) -> None:
    check_startable(rules, policies, keys)
    with pytest.raises(ConfigurationError, match=said) as caught:
        check_startable(replace(rules, unavailable="kvm_pvm is loaded"), policies, keys)
    assert caught.value.field == field
    assert "kvm_pvm is loaded" in caught.value.message
    assert "gaoler doctor --microvm" in caught.value.message


def test_nobody_asking_is_no_reason_to_refuse() -> None:
    check_startable(TierRules(unavailable="no"), {"default": "nsjail"}, [("a", "nsjail")])


def test_a_saved_namespace_says_its_tier() -> None:
    assert (state_label("python", "nsjail"), state_label("python", "microvm")) == ("python", "python@microvm")
    assert (state_tier("python"), state_tier("python@microvm")) == ("nsjail", "microvm")


def test_the_tier_of_a_credential_is_no_part_of_who_it_is() -> None:
    assert replace(STRICT, tier="nsjail") == STRICT
    assert principal_of(Caller("k", "acme", tier="microvm"), {}).tier == "microvm"


# -- keys --


def test_a_key_keeps_its_tier(tmp_path: Path) -> None:
    path = tmp_path / KEY_FILE
    secret = add_key(path, "strict", "acme", 0, tier="microvm")
    plain = add_key(path, "plain", "acme", 0)
    ring = KeyRing([], path)
    found = [ring.find(each) for each in (secret, plain)]
    assert [each and each.tier for each in found] == ["microvm", "nsjail"]


def test_a_key_from_before_there_were_tiers_still_holds(tmp_path: Path) -> None:
    path = tmp_path / KEY_FILE
    path.write_text(f'{{"keys": [{{"name": "old", "tenant": "acme", "sha256": "{"0" * 64}"}}]}}')
    assert read_keys(path)[0].tier == "nsjail"


# -- settings --


def settings(**values: object) -> Settings:
    return load(file=None, environment={}, flags={f"microvm.{name}": value for name, value in values.items()}).settings


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"languages": "bash"}, "microvm.languages"),
        ({"tenants": "acme"}, "microvm.tenants"),
        ({"waiting": 9}, "microvm.waiting"),
        ({"waiting": 0}, "microvm.waiting"),
        ({"memory_mib": 4096, "waiting": 3}, "microvm.memory_budget_mib"),
        ({"memory_mib": 64}, "microvm.memory_mib"),
        ({"vcpus": 0}, "microvm.vcpus"),
        ({"boot_seconds": 0.0}, "microvm.boot_seconds"),
        ({"library": "libkrun.so"}, "microvm.library"),
        ({"languages": "bash,,python", "enabled": True}, "microvm.languages"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings(**values)
    assert caught.value.field == field


def policies(tier: Tier) -> dict[str, Policy]:
    return {name: replace_tier(policy, tier) for name, policy in load_policies().items()}


def replace_tier(policy: Policy, tier: Tier) -> Policy:
    fields = {name: getattr(policy, name) for name in policy.__struct_fields__}
    return Policy(**{**fields, "tier": tier})


def test_languages_may_be_named_by_an_alias(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("supervisor.preparation.tiers_in_force.why_not", lambda _settings, _image: "")
    given = settings(enabled=True, languages="py,Bash", tenants="acme,other")
    rules = tiers_in_force(given, policies("nsjail"), tmp_path, load_languages())
    assert rules == TierRules("nsjail", frozenset({"acme", "other"}), frozenset({"python", "bash"}))
    with pytest.raises(ConfigurationError, match="names 'cobol2'; there are bash, "):
        tiers_in_force(settings(enabled=True, languages="cobol2"), policies("nsjail"), tmp_path, load_languages())


def test_a_key_that_is_kept_is_looked_at_before_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("supervisor.preparation.tiers_in_force.why_not", lambda _settings, _image: "no /dev/kvm")
    given = load(file=None, environment={}, flags={"state_dir": str(tmp_path)}).settings
    add_key(tmp_path / "data" / KEY_FILE, "strict", "acme", 0, tier="microvm")
    assert tiers_in_force(given, policies("nsjail"), tmp_path, ()).unavailable == "no /dev/kvm"
    with pytest.raises(ConfigurationError, match="API key strict"):
        tiers_in_force(given, policies("nsjail"), tmp_path, (), with_keys=True)


def test_a_policy_of_a_tier_that_is_not_switched_on_is_refused(tmp_path: Path) -> None:
    source = Path(__file__).resolve().parent.parent.parent / "policies"
    for folder in source.iterdir():
        (tmp_path / folder.name).symlink_to(folder)
    (tmp_path / "sandbox").unlink()
    (tmp_path / "sandbox").mkdir()
    text = (source / "sandbox" / "default.toml").read_text(encoding="utf-8")
    (tmp_path / "sandbox" / "default.toml").write_text(text.replace('tier = "nsjail"', 'tier = "microvm"', 1))
    flags = {"jailer.policy_dir": str(tmp_path)}
    with pytest.raises(ConfigurationError, match=r"policy default asks for tier microvm.*microvm\.enabled"):
        read_policy(load(file=None, environment={}, flags=flags).settings)
    given = load(file=None, environment={}, flags={**flags, "microvm.enabled": True}).settings
    assert read_policy(given)[1].tier == "microvm"

"""What everybody may know of the languages: pure, on a made-up catalogue."""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest

from supervisor.errors import InvalidRequest, Unsupported
from supervisor.execution.tier import TierRules
from supervisor.policy import load_policies
from supervisor.runtimes.catalogue import Group, InstalledLanguage, Language, OwnLimits, Packages, Smoke, load_languages
from supervisor.runtimes.language_view import (
    LanguageTable,
    Stock,
    described,
    language_table,
    tier_in_words,
    time_in_words,
)

SMOKE = Smoke("", "")


def language(
    name: str, source: str, *aliases: str, command: list[str] | None = None, usable: Literal["python"] | None = None
) -> Language:
    return Language(
        name=name,
        title=name.title(),
        aliases=list(aliases),
        source=source,
        extensions=[] if name == "bun" else [f".{source.rpartition('.')[2]}"],
        tools={"x": [name]},
        run=["{x}", "{source}"],
        smoke=SMOKE,
        packages=Packages(usable=usable),
        version=["{x}"],
        seccomp="native",
        seccomp_compile="compiler" if command else None,
        compile=command,
    )


BUN, TS = language("bun", "main.ts"), language("typescript", "main.ts", "ts")
PYTHON, R = language("python", "main.py", "py", "python3", usable="python"), language("r", "main.R", "rscript")
C = language("c", "main.c", command=["{x}", "{source}", "{sources}"])
GROUPS = [
    Group("tex", "TeX", Packages(), SMOKE, ["pdflatex"]),
    Group("office", "Office", Packages(), SMOKE, ["soffice"]),
]


def table(*installed: Language, rules: TierRules = TierRules(unavailable="no")) -> LanguageTable:  # noqa: B008
    found = {
        each.name: InstalledLanguage(
            each, {"x": "/x"}, "py" if each is PYTHON else None, {}, "3.1", {"b": "2", "a": "1"}
        )
        for each in installed
    }
    policy = load_policies()["default"]
    stock = Stock({"office"}, {"python"}, {"python": {"more": "9"}})
    return language_table([TS, R, PYTHON, C, BUN], GROUPS, found, stock, policy, rules)


def test_tiers_are_told_with_why_one_is_not_to_be_had() -> None:
    plain = described(table(PYTHON))
    assert [(each["name"], each["available"], each["reason"]) for each in plain["tiers"]] == [
        ("nsjail", True, None),
        ("microvm", False, "no"),
    ]
    assert "; not to be had here: no" in tier_in_words(table(PYTHON).tiers[1])
    both = table(PYTHON, C, rules=TierRules(languages=frozenset({"c"})))
    assert [each.reason for each in both.tiers] == ["", ""]
    assert {each["name"]: each["tier"] for each in described(both)["languages"]} == {
        "bun": "nsjail",
        "c": "microvm",
        "python": "nsjail",
        "r": "nsjail",
        "typescript": "nsjail",
    }


def test_all_of_the_catalogue_is_there_by_name_with_what_is_installed() -> None:
    plain = described(table(PYTHON, C))
    assert [each["name"] for each in plain["languages"]] == ["bun", "c", "python", "r", "typescript"]
    by_name = {each["name"]: each for each in plain["languages"]}
    assert by_name["python"] == {
        "name": "python",
        "title": "Python",
        "aliases": ["py", "python3"],
        "extension": ".py",
        "extensions": [".py"],
        "installed": True,
        "version": "3.1",
        "warm": True,
        "compiled": False,
        "tested": True,
        "tier": "nsjail",
        "limits": {"wall_seconds": 60.0},
        "packages": {"a": "1", "b": "2", "more": "9"},
        "install_command": None,
    }
    assert list(by_name["python"]["packages"]) == ["a", "b", "more"]
    assert (by_name["c"]["compiled"], by_name["c"]["warm"]) == (True, False)
    assert by_name["r"]["install_command"] == "gaoler image build --languages r"
    assert [(each["name"], each["installed"], each["install_command"]) for each in plain["groups"]] == [
        ("office", True, None),
        ("tex", False, "gaoler image build --group tex"),
    ]
    assert plain["limits"]["wall_seconds"] > 0


@pytest.mark.parametrize(
    ("own", "shown"),
    [
        (OwnLimits(), {"wall_seconds": 60.0, "compile_seconds": 30.0}),
        (OwnLimits(wall_seconds=2.5), {"wall_seconds": 2.5, "compile_seconds": 30.0}),
        (OwnLimits(compile_seconds=4), {"wall_seconds": 60.0, "compile_seconds": 4.0}),
        (OwnLimits(600, 600), {"wall_seconds": 60.0, "compile_seconds": 30.0}),
    ],
)
def test_of_two_limits_of_time_the_shorter_is_shown(own: OwnLimits, shown: dict[str, float]) -> None:
    whole = language_table(
        [msgspec.structs.replace(C, limits=own)], (), {}, Stock(), load_policies()["default"], TierRules()
    )
    assert whole.languages[0].limits == shown


@pytest.mark.parametrize(
    ("own", "asked", "sent"),
    [(None, None, None), (None, 9.0, 9.0), (2.0, None, 2.0), (2.0, 9.0, 2.0), (2.0, 0.5, 0.5)],
)
def test_of_what_a_caller_asks_and_the_language_lets_the_shorter_is_taken(
    own: float | None, asked: float | None, sent: float | None
) -> None:
    limited = InstalledLanguage(msgspec.structs.replace(C, limits=OwnLimits(own)), {"x": "/x"})
    assert limited.wall_seconds(asked) == sent


def test_times_are_told_in_words() -> None:
    assert time_in_words({"wall_seconds": 2.5}) == "at most 2.5 s"
    assert time_in_words({"wall_seconds": 60.0, "compile_seconds": 30.0}) == "at most 60 s, and 30 s to compile"


@pytest.mark.parametrize("name", ["python", "PY", "Python3"])
def test_a_language_is_found_by_every_name_whatever_its_case(name: str) -> None:
    found = table(PYTHON).find(name)
    assert found is not None
    assert found.name == "python"


@pytest.mark.parametrize(
    ("file", "installed", "expected"),
    [
        ("src/app.py", [PYTHON], "python"),
        ("a.R", [R], "r"),
        ("A.PY", [PYTHON], "python"),
        ("a.ts", [BUN, TS], "typescript"),
        ("a.ts", [BUN], "bun"),
        ("a.ts", [], "typescript"),
        ("a.b/x.c", [], "c"),
    ],
)
def test_an_extension_tells_the_language(file: str, installed: list[Language], expected: str) -> None:
    assert table(*installed).of_file(file) == expected


@pytest.mark.parametrize("file", ["Makefile", ".py", "a.", "a.txt", "py"])
def test_an_extension_may_tell_none(file: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        table(PYTHON).of_file(file)
    assert caught.value.field == "lang"


def test_every_language_of_ours_is_told_by_its_own_extension() -> None:
    ours = load_languages()
    found = {each.name: InstalledLanguage(each, {}) for each in ours}
    whole = language_table(ours, (), found, Stock(), load_policies()["default"], TierRules())
    for each in ours:
        expected = "typescript" if each.name == "bun" else each.name
        assert whole.of_file(each.source) == expected
        assert [whole.of_file(f"src/a{extension}") for extension in each.extensions] == [each.name] * len(
            each.extensions
        )


def test_a_name_that_there_is_not_gets_the_nearest_installed_one() -> None:
    refusal = table(PYTHON).refusal("pyton")
    assert isinstance(refusal, InvalidRequest)
    assert (refusal.message, refusal.field) == ("Unsupported language: pyton", "lang")
    assert refusal.hint == "did you mean 'python'? installed are python"
    far = table(PYTHON).refusal("typescrip" * 1000)
    assert isinstance(far, InvalidRequest)
    assert far.hint == "installed are python"


def test_one_that_is_not_installed_says_what_the_operator_runs() -> None:
    refusal = table(PYTHON).refusal("TS")
    assert isinstance(refusal, Unsupported)
    assert refusal.code == "language_not_installed"
    assert "Typescript is not installed on this server" in refusal.message
    assert "gaoler image build --languages typescript" in refusal.message

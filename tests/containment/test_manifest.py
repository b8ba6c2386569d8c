"""No promise without an attack, no attack without a promise, no policy entry without either."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from supervisor.attack.case import GROUPS
from supervisor.attack.catalogue import all_cases
from supervisor.attack.suite import chosen

ROOT = Path(__file__).resolve().parent.parent.parent
POLICIES = ROOT / "policies"
SECURITY = (ROOT / "SECURITY.md").read_text()
CASES = all_cases()
TRIED = {claim for case in CASES for claim in (case.id, *case.also)}
CLAIM = re.compile(r"`([A-Z]+\d*(?:-[A-Z]+)*)`")


def promises() -> list[tuple[str, list[str]]]:
    """The rows of the tables below "What is promised"."""
    text = SECURITY.partition("## What is promised")[2].partition("\n## ")[0]
    rows = [line.strip("|").rsplit("|", 1) for line in text.splitlines() if line.startswith("| ")]
    return [(words.strip(), CLAIM.findall(claims)) for words, claims in rows if claims.strip() != "claims"]


def test_there_are_promises_in_every_group() -> None:
    assert len(promises()) >= 20
    assert {case.group for case in CASES} == set(GROUPS)


@pytest.mark.parametrize("promise", promises(), ids=[words for words, _ in promises()])
def test_every_promise_is_tried(promise: tuple[str, list[str]]) -> None:
    words, claims = promise
    assert claims, words
    assert set(claims) <= TRIED, set(claims) - TRIED


def test_every_claim_that_is_tried_is_promised() -> None:
    promised = {claim for _, claims in promises() for claim in claims}
    assert promised >= TRIED, sorted(TRIED - promised)


def test_a_claim_that_the_page_names_anywhere_is_tried() -> None:
    named = {
        name
        for name in CLAIM.findall(SECURITY)
        if re.fullmatch(r"[KRPFHMESD]\d+|(FS|NET|STATUS|SECCOMP)-?[A-Z]*", name)
    }
    assert named <= TRIED, named - TRIED


def test_every_case_says_what_it_means_and_what_to_do() -> None:
    for case in CASES:
        assert len(case.promise) > 15, case
        assert len(case.meaning) > 15, case
        assert len(case.mend) > 15, case
    assert len({(case.id, case.name) for case in CASES}) == len(CASES)


def test_every_line_of_a_sandbox_policy_has_a_claim() -> None:
    for path in (*(POLICIES / "sandbox").glob("*.toml"), *(POLICIES / "machines").glob("*.toml")):
        for line in path.read_text().splitlines():
            if re.match(r"[a-z_]+ = ", line) and not line.startswith("extends"):
                found = re.findall(r"\[claim: ([A-Z0-9-]+)\]", line)
                assert found, f"{path.name}: {line}"
                assert set(found) <= TRIED, f"{path.name}: {line}"


def test_every_mount_mask_and_copy_has_a_claim() -> None:
    for path in (POLICIES / "mounts").glob("*.toml"):
        tables = tomllib.loads(path.read_text())
        for entry in (each for kind in tables.values() for each in kind):
            assert entry["claim"] in TRIED, entry


@pytest.mark.parametrize("path", sorted(POLICIES.rglob("*.kafel")), ids=lambda path: path.stem)
def test_every_refusal_of_a_system_call_profile_has_a_claim(path: Path) -> None:
    text = path.read_text()
    named = {name.strip() for group in re.findall(r"\[([A-Z0-9, -]+)\]", text) for name in group.split(",")}
    claims = {name for name in named if re.search("[A-Z]", name)}
    assert claims, "the profile names no claim"
    assert claims <= TRIED, claims - TRIED
    for line in re.finditer(r"^    (?:KILL_PROCESS|KILL|ERRNO\(\d+\)) \{", text, re.MULTILINE):
        # The comment in front of the block or the first one inside says which.
        around = text[max(0, line.start() - 500) : line.end() + 400]
        assert re.search(r"\[[A-Z][A-Z0-9, -]+\]", around), around


def test_every_other_policy_file_belongs_to_a_folder_with_claims() -> None:
    table = (POLICIES / "README.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)/` \|.*\| ([^|]*) \|$", table, re.MULTILINE))
    folders = {path.name for path in POLICIES.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert set(rows) == folders
    for folder, claims in rows.items():
        if not claims.startswith("in each"):
            assert CLAIM.findall(claims), folder
            assert set(CLAIM.findall(claims)) <= TRIED, folder


def test_groups_and_claims_can_be_chosen() -> None:
    assert {case.group for case in chosen(CASES, ["k", "E"])} == {"K", "E"}
    assert {case.id for case in chosen(CASES, ["r4"])} == {"R4"}
    assert len(chosen(CASES, [])) == len(CASES)
    with pytest.raises(ValueError, match="no attack is called 'Z9'"):
        chosen(CASES, ["Z9"])

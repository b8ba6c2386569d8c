"""An empty list allows nothing, a suffix is not a substring, and a request never widens what the operator wrote."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.allowlist import (
    Ask,
    NotCovered,
    Refusal,
    Rule,
    Scheme,
    address_fault,
    canonical_pattern,
    decide,
    host_matches,
    narrow,
)
from egress.names import BadName, canonical_host


def ask(
    host: str, port: int = 443, scheme: Scheme | None = "https", method: str | None = None, path: str | None = None
) -> Ask:
    return Ask(canonical_host(host), port, scheme, method, path)


def rule(*hosts: str, name: str = "r", **more: object) -> Rule:
    return Rule(name, tuple(canonical_pattern(host) for host in hosts), **more)  # type: ignore[arg-type]


def code(found: Rule | Refusal) -> str | None:
    return found.code if isinstance(found, Refusal) else None


MATCHES = [
    ("github.com", "github.com"),
    ("github.com", "GITHUB.com."),
    ("*.github.com", "api.github.com"),
    ("*.github.com", "a.b.github.com"),
    ("*.GitHub.com.", "API.github.COM"),
    ("*", "anything.test"),
    ("*", "localhost"),
    ("bücher.example", "xn--bcher-kva.example"),
    ("*.bücher.example", "a.XN--BCHER-KVA.example"),
    ("127.1", "0x7f.0.0.1"),
    ("[::ffff:a9fe:a9fe]", "2852039166"),
    ("[0:0::1]", "::1"),
]
MISSES = [
    ("github.com", "evilgithub.com"),
    ("github.com", "github.com.evil.test"),
    ("github.com", "api.github.com"),
    ("github.com", "github.co"),
    ("github.com", "github-com.test"),
    ("*.github.com", "github.com"),
    ("*.github.com", "evilgithub.com"),
    ("*.github.com", "github.com.evil.test"),
    ("*.github.com", "a.github.com.evil.test"),
    ("*.github.com", "xgithub.com"),
    ("*.com", "com"),
    ("*", "127.0.0.1"),
    ("*", "2852039166"),
    ("*", "[::1]"),
    ("127.0.0.1", "127.0.0.2"),
    ("[::1]", "::2"),
    ("github.com", "g\u0456thub.com"),
    ("bücher.example", "bucher.example"),
]


@pytest.mark.parametrize(("pattern", "host"), MATCHES)
def test_a_pattern_means_each_spelling_of_its_hosts(pattern: str, host: str) -> None:
    assert code(decide([rule(pattern)], ask(host))) is None


@pytest.mark.parametrize(("pattern", "host"), MISSES)
def test_a_pattern_means_no_other_host(pattern: str, host: str) -> None:
    assert code(decide([rule(pattern)], ask(host))) == "host"


BROKEN = ["", "*.", "**", "*.*", "*.*.com", "*github.com", "a.*.com", "github.*", "*.127.0.0.1", "*.1", "*.[::1]", "*.::1", ".com", "* ", "*.com/"]  # fmt: skip


@pytest.mark.parametrize("text", BROKEN)
def test_a_star_stands_for_whole_labels_at_the_front_of_a_name_only(text: str) -> None:
    with pytest.raises(BadName):
        canonical_pattern(text)


@pytest.mark.parametrize("text", ["*", "*.github.com", "*.XN--BCHER-KVA.example.", "BÜCHER.example", "[::1]", "127.1"])
def test_a_canonical_pattern_stays_what_it_is(text: str) -> None:
    once = canonical_pattern(text)
    assert canonical_pattern(once) == once


@pytest.mark.parametrize("host", ["github.com", "127.0.0.1", "[::1]", "localhost"])
def test_an_empty_list_allows_nothing(host: str) -> None:
    for rules in ([], [Rule("r", ())], narrow([rule("*")], []), narrow([], [])):
        found = decide(rules, ask(host))
        assert isinstance(found, Refusal)
        assert found.code == "host"


REFUSALS = [
    (ask("evil.test"), "host"),
    (ask("github.com", 80), "port"),
    (ask("github.com", 0), "port"),
    (ask("github.com", 443, "http"), "scheme"),
    (ask("github.com", 443, "raw"), "scheme"),
    (ask("github.com", 443, "https", "POST", "/api"), "method"),
    (ask("github.com", 443, "https", "get", "/api"), "method"),
    (ask("github.com", 443, "https", "GET", "/apix"), "path"),
    (ask("github.com", 443, "https", "GET", "/api/../x"), "path"),
    (ask("github.com", 443, "https", "GET", ""), "path"),
    (ask("github.com", 443, "https", "GET", "/api/x"), None),
    (ask("github.com", 443, None), None),
]


@pytest.mark.parametrize(("asked", "expected"), REFUSALS)
def test_a_refusal_names_the_part_that_no_rule_allows(asked: Ask, expected: str | None) -> None:
    assert code(decide([rule("github.com", methods=("GET",), paths=("/api",))], asked)) == expected


def test_parts_of_two_rules_do_not_add_up() -> None:
    rules = [rule("github.com", ports=(443,)), rule("evil.test", ports=(22,))]
    assert code(decide(rules, ask("github.com", 22))) == "port"
    rules = [rule("github.com", methods=("GET",), paths=("/a",)), rule("github.com", methods=("POST",), paths=("/b",))]
    assert code(decide(rules, ask("github.com", method="POST", path="/a"))) == "path"


def test_the_first_rule_that_allows_everything_counts() -> None:
    rules = [rule("github.com", name="one", ports=(80,)), rule("*.com", name="two"), rule("github.com", name="three")]
    found = decide(rules, ask("github.com"))
    assert isinstance(found, Rule)
    assert found.name == "two"


def test_an_address_that_a_name_leads_to_must_be_opened_by_the_rule() -> None:
    asked = ask("github.com")
    for text in ("169.254.169.254", "::ffff:a9fe:a9fe", "127.0.0.1", "fd00:ec2::254", "64:ff9b::a9fe:a9fe"):
        assert address_fault(rule("github.com"), asked, ip_address(text)) is not None
    opened = rule("github.com", addresses=("10.1.0.0/16",))
    assert address_fault(opened, asked, ip_address("10.1.2.3")) is None
    assert address_fault(opened, asked, ip_address("::ffff:10.1.2.3")) is None
    assert address_fault(opened, asked, ip_address("10.2.0.1")) is not None


def test_a_rule_for_an_address_does_not_open_it() -> None:
    """It says what may be asked for; what may be dialled is another list."""
    assert address_fault(rule("127.0.0.1"), ask("127.0.0.1"), ip_address("127.0.0.1")) is not None


@pytest.mark.parametrize(
    ("written", "wanted", "left"),
    [
        ("*", "github.com", ("github.com",)),
        ("*", "*.github.com", ("*.github.com",)),
        ("*", "*", ("*",)),
        ("*.github.com", "*", ("*.github.com",)),
        ("*.github.com", "api.github.com", ("api.github.com",)),
        ("*.github.com", "*.api.github.com", ("*.api.github.com",)),
        ("*.api.github.com", "*.github.com", ("*.api.github.com",)),
        ("api.github.com", "*.github.com", ("api.github.com",)),
        ("127.0.0.1", "127.1", ("127.0.0.1",)),
    ],
)
def test_narrowing_leaves_what_both_mean(written: str, wanted: str, left: tuple[str, ...]) -> None:
    assert narrow([rule(written)], [wanted])[0].hosts == left


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("github.com", "evilgithub.com"),
        ("github.com", "*.github.com"),
        ("*.github.com", "github.com"),
        ("*.github.com", "*.evilgithub.com"),
        ("*.github.com", "*.hub.com"),
        ("*", "127.0.0.1"),
        ("127.0.0.1", "*"),
        ("*.com", "[::1]"),
    ],
)
def test_asking_for_what_no_rule_covers_is_refused(written: str, wanted: str) -> None:
    with pytest.raises(NotCovered):
        narrow([rule(written)], [wanted])


# Few and short, so that they meet often.
HOSTS = st.sampled_from(
    ["a.test", "b.a.test", "c.b.a.test", "xa.test", "test", "a.test.evil", "127.0.0.1", "[::1]", "127.1"]
)
PATTERNS = st.just("*") | HOSTS | st.sampled_from(["*.a.test", "*.b.a.test", "*.test", "*.evil", "*.xa.test"])
SCHEMES: st.SearchStrategy[Scheme] = st.sampled_from(["https", "http", "raw"])
RULES = st.builds(
    Rule,
    name=st.sampled_from("rst"),
    hosts=st.lists(PATTERNS.map(canonical_pattern), max_size=3).map(tuple),
    schemes=st.lists(SCHEMES, max_size=2).map(tuple),
    ports=st.lists(st.sampled_from([80, 443]), min_size=1, max_size=2).map(tuple),
    methods=st.lists(st.sampled_from(["GET", "POST"]), max_size=1).map(tuple),
    paths=st.lists(st.sampled_from(["/a", "/a/b", "/"]), max_size=1).map(tuple),
    addresses=st.sampled_from([(), ("10.0.0.0/8",)]),
)
ASKS = st.builds(
    Ask,
    host=HOSTS.map(canonical_host),
    port=st.sampled_from([80, 443, 22]),
    scheme=st.none() | SCHEMES,
    method=st.none() | st.sampled_from(["GET", "POST"]),
    path=st.none() | st.sampled_from(["/a", "/a/b/c", "/x", "/a/../x"]),
)


@given(st.lists(RULES, max_size=4), st.lists(PATTERNS, max_size=3), st.lists(ASKS, min_size=1, max_size=8))
def test_a_request_never_widens_and_never_changes_what_is_allowed(
    rules: list[Rule], patterns: list[str], asks: list[Ask]
) -> None:
    try:
        narrowed = narrow(rules, patterns)
    except NotCovered:
        return
    for asked in asks:
        before, after = decide(rules, asked), decide(narrowed, asked)
        if not any(host_matches(asked.host, canonical_pattern(pattern)) for pattern in patterns):
            assert code(after) == "host"
        elif isinstance(before, Refusal):
            assert code(after) == before.code
        else:
            assert isinstance(after, Rule)
            assert (after.name, after.ports, after.paths, after.addresses) == (
                before.name,
                before.ports,
                before.paths,
                before.addresses,
            )


@given(st.lists(RULES, max_size=3), st.lists(PATTERNS, min_size=1, max_size=3))
def test_narrowing_twice_is_narrowing_once(rules: list[Rule], patterns: list[str]) -> None:
    try:
        once = narrow(rules, patterns)
    except NotCovered:
        return
    assert {(r.name, h) for r in narrow(once, patterns) for h in r.hosts} == {
        (r.name, h) for r in once for h in r.hosts
    }


@given(st.lists(RULES, max_size=4), ASKS)
def test_whatever_is_allowed_is_allowed_by_one_rule_alone(rules: list[Rule], asked: Ask) -> None:
    found = decide(rules, asked)
    if isinstance(found, Rule):
        assert decide([found], asked) == found
        assert asked.port in found.ports
    else:
        assert all(isinstance(decide([one], asked), Refusal) for one in rules)
        assert asked.host.text in found.text()

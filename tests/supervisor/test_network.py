"""The daemon's side of the network, without one: rule files, the host's names, words, the audit, the authority."""

from __future__ import annotations

import stat
import tomllib
from collections import Counter
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from cryptography import x509

from egress import control
from egress.allowlist import Rule
from egress.authority import Authority
from egress.control import Configure, Limits, Record
from supervisor.errors import ConfigurationError, InvalidRequest, NotFound
from supervisor.execution.values import Principal, SessionId
from supervisor.network import host_names
from supervisor.network.audit import Audit, as_line, open_audit
from supervisor.network.authority import AUTHORITY_FILE, read_authorities, read_or_make_authority
from supervisor.network.configuration import PresetHost
from supervisor.network.environment import network_environment
from supervisor.network.explain import asked, explain
from supervisor.network.grants import Network
from supervisor.network.presets import Preset
from supervisor.network.rule_files import RuleFile, compile_rules, extra_ports, read_rule_sets
from supervisor.network.rules_in_force import RulesInForce, RuleSource
from supervisor.policy import PACKAGED_POLICIES, Policy, load_policies

PRESETS = {
    "python": Preset(
        "python",
        (PresetHost("index.example.org", 443, "https", "x"), PresetHost("files.example.org", 8443, "https", "x")),
        (),
        {"PIP_INDEX_URL": "https://index.example.org/simple"},
    ),
    "node": Preset("node", (), ("nothing",)),
}


def compiled(text: str, name: str = "test") -> tuple[Rule, ...]:
    written = msgspec.convert(tomllib.loads(text), RuleFile)
    return compile_rules(name, written, PRESETS, f"{name}.toml").rules


def test_a_rule_is_made_canonical() -> None:
    (rule,) = compiled('[[rule]]\nhosts = ["Example.ORG.", "*.Example.com", "0x7f.1"]\nreason = "spelled oddly"\n')
    assert rule == Rule("test/1", ("example.org", "*.example.com", "127.0.0.1"), ("https",), (443,))


def test_a_preset_is_a_rule_for_each_scheme_and_port() -> None:
    rules = compiled('[[rule]]\nname = "pip"\npreset = "python"\naddresses = ["10.0.0.0/8"]\nreason = "packages"\n')
    assert [(rule.name, rule.hosts, rule.ports) for rule in rules] == [
        ("test/pip:https:443", ("index.example.org",), (443,)),
        ("test/pip:https:8443", ("files.example.org",), (8443,)),
    ]
    assert all(rule.addresses == ("10.0.0.0/8",) for rule in rules)
    assert extra_ports(rules) == [8443]


def test_a_preset_that_means_nothing_here_allows_nothing() -> None:
    assert compiled('[[rule]]\npreset = "node"\nreason = "packages"\n') == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('reason = "no host at all"', "either hosts or a preset"),
        ('hosts = ["a.org"]\npreset = "python"\nreason = "both of them"', "either hosts or a preset"),
        ('hosts = ["a b"]\nreason = "not a host"', "hosts: 'a b'"),
        ('hosts = ["*."]\nreason = "not a host"', "hosts: '*.'"),
        ('hosts = ["*.10.0.0.1"]\nreason = "not a host"', "an address has no subdomains"),
        ('hosts = ["a.org"]\nmethods = ["GET"]\nreason = "cannot be seen"', "methods and paths can be seen only"),
        ('hosts = ["a.org"]\nschemes = ["http"]\nmethods = ["TRACE"]\nreason = "shows secrets"', "methods: 'TRACE'"),
        ('hosts = ["a.org"]\npaths = ["/x"]\nreason = "cannot be seen"', "methods and paths can be seen only"),
        ('hosts = ["a.org"]\nschemes = ["raw"]\nreason = "which port?"', "raw needs ports"),
        ('hosts = ["a.org"]\ncredential = "token"\nreason = "cannot be added"', "a credential can be added only"),
        ('hosts = ["*"]\nschemes = ["http"]\ncredential = "t"\nreason = "to anybody"', "hosts that are named"),
        ('hosts = ["a.org"]\naddresses = ["10.0.0.1/8"]\nreason = "host bits set"', "addresses: "),
        ('preset = "python"\nports = [1]\nreason = "comes with it"', "come with it"),
        ('hosts = ["a.org"]\nschemes = ["http"]\nintercept = true\nreason = "no TLS in it"', "intercept is for https"),
    ],
)
def test_a_wrong_rule_names_file_rule_and_key(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        compiled(f"[[rule]]\n{text}\n")
    assert caught.value.message.startswith("egress/test.toml: rule 1: ")
    assert said in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        'hosts = ["a.org"]',
        'hosts = ["a.org"]\nreason = "short"',
        'hosts = ["a.org"]\nreason = "unknown key"\nport = [1]',
        'hosts = ["a.org"]\nreason = "no such port"\nports = [0]',
        'hosts = ["a.org"]\nreason = "no such preset"\npreset = "ruby"',
        'hosts = ["a.org"]\nreason = "no such header"\nheader = "a: b"',
        'hosts = ["a.org"]\nreason = "two lines"\nprefix = "a\\nb"',
    ],
)
def test_a_rule_of_the_wrong_form_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.toml").write_text(f"[[rule]]\n{text}\n")
    with pytest.raises(ConfigurationError, match=r"x\.toml"):
        read_rule_sets(tmp_path, None, PRESETS, ["x"])


def test_a_missing_file_and_too_many_ports_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_rule_sets(tmp_path, None, PRESETS, ["absent"])
    ports = ", ".join(str(9000 + number) for number in range(30))
    (tmp_path / "x.toml").write_text(f'[[rule]]\nhosts = ["a.org"]\nports = [{ports}]\nreason = "too many ports"\n')
    with pytest.raises(ConfigurationError, match="at most 24 ports"):
        read_rule_sets(tmp_path, None, PRESETS, ["x"])


def test_the_rules_that_come_with_it_are_right() -> None:
    names = [path.stem for path in (PACKAGED_POLICIES / "egress").glob("*.toml")]
    assert sorted(names) == ["debian", "go", "node", "python", "rust"]
    assert read_rule_sets(PACKAGED_POLICIES / "egress", None, PRESETS, names)["python"].rules


def test_a_policy_extends_another_one_key_by_key(tmp_path: Path) -> None:
    policies = load_policies()
    default, packages = policies["default"], policies["packages"]
    assert (default.network, packages.network, packages.egress) == ("none", "egress", ["python", "node"])
    assert packages.limits == default.limits


# -- rules in force --


def source(tmp_path: Path, **fields: Any) -> RuleSource:
    (tmp_path / "rules").mkdir(exist_ok=True)
    (tmp_path / "rules" / "x.toml").write_text('[[rule]]\nhosts = ["file.example.org"]\nreason = "of the file"\n')
    return RuleSource(("x",), tmp_path / "rules", tmp_path / "given", PRESETS, Limits(), **fields)


GIVEN = b'{"rule": [{"hosts": ["given.example.org"], "reason": "of the operator"}]}'


def test_given_rules_stand_in_for_the_file_until_they_are_dropped(tmp_path: Path) -> None:
    rules = RulesInForce(source(tmp_path))
    assert rules.sets["x"].origin == "x.toml"
    assert rules.put("x", GIVEN).rules[0].hosts == ("given.example.org",)
    # Also for the next daemon.
    assert RulesInForce(source(tmp_path)).sets["x"].origin == "admin"
    assert rules.drop("x").rules[0].hosts == ("file.example.org",)
    assert rules.drop("x").origin == "x.toml"


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b'{"rule": [{}]}', b'{"rule": [{"hosts": ["a b"], "reason": "xxxxxxxx"}]}']
)
def test_wrong_rules_change_nothing(tmp_path: Path, payload: bytes) -> None:
    rules = RulesInForce(source(tmp_path))
    with pytest.raises(InvalidRequest):
        rules.put("x", payload)
    assert rules.sets["x"].origin == "x.toml"
    assert not list((tmp_path / "given").glob("*")) if (tmp_path / "given").exists() else True
    with pytest.raises(NotFound):
        rules.put("y", GIVEN)


def test_a_rule_is_removed_by_what_it_says_and_the_others_stay(tmp_path: Path) -> None:
    rules = RulesInForce(source(tmp_path))
    one, two = ({"hosts": [f"{name}.example.org"], "reason": "one of two"} for name in "ab")
    rules.put("x", msgspec.json.encode({"rule": [one, two]}))
    assert [rule.hosts for rule in rules.remove("x", one).rules] == [("b.example.org",)]
    with pytest.raises(NotFound, match="changed or removed meanwhile"):
        rules.remove("x", one)
    with pytest.raises(NotFound, match="names no such rules"):
        rules.remove("y", two)
    # Also for the next daemon; and nothing at all is a set too.
    assert RulesInForce(source(tmp_path)).sets["x"].rules[0].hosts == ("b.example.org",)
    assert rules.remove("x", two).rules == ()
    assert rules.drop("x").rules[0].hosts == ("file.example.org",)


def test_a_file_that_became_wrong_keeps_what_was_given(tmp_path: Path) -> None:
    rules = RulesInForce(source(tmp_path))
    rules.put("x", GIVEN)
    (tmp_path / "rules" / "x.toml").write_text("[[rule")
    with pytest.raises(InvalidRequest):
        rules.drop("x")
    assert rules.sets["x"].origin == "admin"
    assert (tmp_path / "given" / "x.json").exists()


def test_a_credential_or_an_authority_that_is_not_there_refuses(tmp_path: Path) -> None:
    with_credential = b'{"rule": [{"hosts": ["a.org"], "schemes": ["http"], "credential": "t", "reason": "xxxxxxxx"}]}'
    with_intercept = b'{"rule": [{"hosts": ["a.org"], "intercept": true, "reason": "xxxxxxxx"}]}'
    rules = RulesInForce(source(tmp_path))
    with pytest.raises(InvalidRequest, match="no such file"):
        rules.put("x", with_credential)
    with pytest.raises(InvalidRequest, match="restart it"):
        rules.put("x", with_intercept)
    known = RulesInForce(source(tmp_path, credentials={"t": "secret-secret"}, authority=("c", "k")))
    assert known.put("x", with_credential).rules[0].credential == "t"


# -- words --


def online() -> Policy:
    return load_policies()["packages"]


@pytest.mark.parametrize(
    ("url", "allowed", "said"),
    [
        ("https://index.example.org/simple/x", True, "rule x/1 allows it"),
        ("index.example.org", True, "rule x/1 allows it"),
        ("http://index.example.org/", False, "does not allow port 80"),
        ("https://evil.example.org/", False, "no rule of policy 'packages' allows the host evil.example.org"),
        ("https://[::ffff:10.0.0.1]/", False, "allows the host 10.0.0.1"),
        ("postgres://index.example.org:5432", False, "does not allow port 5432"),
        ("http://127.0.0.1:8000/", True, "this is the sandbox itself"),
        ("https://10.9.9.9/", False, "it, but 10.9.9.9 is private"),
    ],
)
def test_it_says_what_could_be_reached_and_why(url: str, allowed: bool, said: str) -> None:
    rules = [Rule("x/1", ("index.example.org", "10.9.9.9"))]
    answer = explain(online(), rules, url)
    assert (answer.allowed, said in answer.reason) == (allowed, True), answer
    assert answer.advice


LOOKING = Rule("x/vault", ("v.example.org",), methods=("GET", "POST"), paths=("/v1", "/public/"), intercept=True)
PLAIN = Rule("x/plain", ("p.example.org",), ("http",), (80,), paths=("/api",))
BLIND = Rule("x/blind", ("b.example.org",))


@pytest.mark.parametrize(
    ("url", "method", "missing", "rule", "said"),
    [
        ("https://v.example.org/v1", None, None, "x/vault", "rule x/vault allows it; methods: GET, POST"),
        ("https://v.example.org/v1/a?u=https://other.example/", "get", None, "x/vault", "rule x/vault allows it"),
        ("https://v.example.org/v10", None, "path", "x/vault", "this path, only /v1, /public/ and what lies below"),
        ("https://v.example.org", None, "path", "x/vault", "(host, port, scheme and method it allows)"),
        ("https://v.example.org/v1/../etc", "GET", "path", "x/vault", "dot segments"),
        ("https://v.example.org/v1%2f..", None, "path", "x/vault", "encoded slashes"),
        ("https://v.example.org/v1", "PUT", "method", "x/vault", "only GET, POST (host, port and scheme it allows)"),
        ("http://v.example.org/v1", None, "port", "x/vault", "port 80 (the host it allows)"),
        ("http://p.example.org/api/x", "PUT", None, "x/plain", "allows it"),
        ("http://p.example.org?q", None, "path", "x/plain", "only /api and what lies below"),
        ("https://b.example.org/any/path", "PUT", None, "x/blind", "it does not look into TLS, so any method and path"),
        ("https://b.example.org:444/", None, "port", "x/blind", "does not allow port 444"),
        ("https://n.example.org/v1", None, "host", None, "allows the host n.example.org"),
    ],
)
def test_paths_and_methods_are_judged_where_the_proxy_sees_them(
    url: str, method: str | None, missing: str | None, rule: str | None, said: str
) -> None:
    answer = explain(online(), [LOOKING, PLAIN, BLIND], url, method, to_operator=True)
    assert (answer.missing, answer.rule, answer.allowed) == (missing, rule, missing is None), answer
    assert said in answer.reason, answer
    assert bool(answer.write) == (missing is not None)


def test_what_an_operator_would_write_allows_it() -> None:
    path = explain(online(), [LOOKING], 'https://v.example.org/v2/"q"?x=1', to_operator=True)
    assert path.write == 'paths = ["/v1", "/public/", "/v2/\\"q\\""] in rule x/vault'
    written = tomllib.loads(path.write.partition(" in rule")[0])["paths"]
    assert explain(
        online(), [msgspec.structs.replace(LOOKING, paths=tuple(written))], 'https://v.example.org/v2/"q"'
    ).allowed
    assert explain(online(), [LOOKING], "https://v.example.org/v1", "PUT").write.startswith(
        'methods = ["GET", "POST", "PUT"]'
    )
    assert "no rule with paths can allow it" in explain(online(), [LOOKING], "https://v.example.org/v1//x").write


@pytest.mark.parametrize(
    ("url", "method", "rule"),
    [
        ("https://v.example.org/v9", "PUT", "x/open"),
        ("http://v.example.org:443/v9", None, "x/open"),
        ("ssh://v.example.org:443", None, "x/open"),
        ("https://v.example.org:8443/v1", None, None),
    ],
)
def test_where_anything_may_be_spoken_nobody_looks(url: str, method: str | None, rule: str | None) -> None:
    """As the proxy does: a raw rule for host and port is asked before all others, whatever is spoken."""
    raw = Rule("x/open", ("v.example.org",), schemes=("raw",), ports=(443,))
    answer = explain(online(), [LOOKING, raw], url, method)
    assert (answer.allowed, answer.rule) == (rule is not None, rule or LOOKING.name)
    assert ("nobody looks" in answer.reason) == (rule is not None and not url.startswith("ssh"))


def test_callers_are_not_told_which_paths_others_may_use() -> None:
    hidden = Rule("x/hook", ("v.example.org",), paths=("/hooks/T0123456789",), intercept=True)
    answer = explain(online(), [hidden], "https://v.example.org/hooks/mine")
    assert "T0123456789" not in repr(answer)
    assert "does not allow this path (host, port, scheme and method it allows)" in answer.reason
    assert answer.advice.endswith("to have the operator allow it: this path in rule x/hook")


def test_the_connections_rule_says_whether_a_path_is_seen_and_any_rule_may_then_allow_it() -> None:
    everything = Rule("x/all", ("*.example.org",))
    assert explain(online(), [LOOKING, everything], "https://v.example.org/v9").rule == "x/all"
    assert explain(online(), [everything, LOOKING], "https://v.example.org/v9", "PUT").rule == "x/all"


@pytest.mark.parametrize("method", ["TRACE", "", "GE T", "GET\n"])
def test_what_is_no_method_is_refused_by_its_name(method: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        asked("https://a.org/", method)
    assert caught.value.field == "method"


@pytest.mark.parametrize(
    "url",
    [
        "https://a.org/a b",
        "https://a.org/\u00fc",
        "",
        "https://",
        "https://a b/",
        "https://a:99999/",
        "gopher://a.org",
        "x" * 3000,
    ],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        asked(url)


# -- the host's names, the environment --


def test_the_hosts_own_files_are_read() -> None:
    assert host_names.name_servers("# x\nnameserver 10.0.0.1\nsearch a\nnameserver ::1\nnameserver nonsense\n") == (
        "10.0.0.1",
        "::1",
    )
    table = host_names.table("127.0.0.1 localhost\n10.1.1.1 Mirror.Example mirror # c\n10.1.1.2 mirror\nbad line\n")
    assert table == {"mirror.example": ("10.1.1.1",), "mirror": ("10.1.1.1", "10.1.1.2")}


def test_package_managers_in_a_sandbox_use_what_the_host_uses() -> None:
    written = RuleFile(rule=[])
    sets = [
        compile_rules(
            "x", msgspec.convert({"rule": [{"preset": "python", "reason": "packages"}]}, RuleFile), PRESETS, "x"
        )
    ]
    assert network_environment(sets, PRESETS)["PIP_INDEX_URL"] == "https://index.example.org/simple"
    assert "PIP_INDEX_URL" not in network_environment([compile_rules("y", written, PRESETS, "y")], PRESETS)


# -- the audit --


def record(**fields: Any) -> Record:
    given = {"grant": "0" * 32, "labels": {"session": "s"}, "time": 0.0, "verdict": "refused", "kind": "tls"}
    return Record(**{**given, "host": "a.org", "port": 443, **fields})


def test_an_audit_is_turned_over_private_and_one_line_each(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with open_audit(path, file_bytes=2000, files=3) as audit:
        for number in range(100):
            audit.write(record(host=f"h{number}.org", reason="line\nbreak", sent=1, received=2))
    files = sorted(tmp_path.iterdir())
    assert [each.name for each in files] == ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]
    for each in files:
        assert each.stat().st_size <= 2000
        assert stat.S_IMODE(each.stat().st_mode) == 0o600
        for line in each.read_text().splitlines():
            assert msgspec.json.decode(line)["reason"] == "line\nbreak"
    assert (audit.sent_bytes, audit.received_bytes, audit.verdicts["tls", "refused"]) == (100, 200, 100)


def test_a_full_disk_loses_lines_and_counts_them() -> None:
    with open_audit(Path("/dev/full"), file_bytes=1 << 20, files=1) as audit:
        audit.write(record())
        assert audit.write_failures == 1


def test_a_line_says_when_who_what_and_why() -> None:
    line = as_line(record(code="host", reason="no rule", explanation="for the model", seconds=1.23456789))
    assert line["time"] == "1970-01-01T00:00:00.000+00:00"
    assert (line["session"], line["code"], line["reason"], line["seconds"]) == ("s", "host", "no rule", 1.2346)
    assert "explanation" not in line
    only_counts = Audit(None)
    only_counts.write(record())
    assert only_counts.verdicts["tls", "refused"] == 1


# -- the authority --


def test_an_authority_is_made_once_and_signs_for_names(tmp_path: Path) -> None:
    first = read_or_make_authority(tmp_path / AUTHORITY_FILE)
    assert read_or_make_authority(tmp_path / AUTHORITY_FILE) == first
    assert stat.S_IMODE((tmp_path / AUTHORITY_FILE).stat().st_mode) == 0o600
    authority = Authority(*first)
    leaf = authority._sign("a" * 60 + ".example.org")
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a" * 60 + ".example.org"]
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(first[0].encode()))
    assert authority.context("a.org") is authority.context("a.org")
    before = opened()
    for number in range(20):
        authority.context(f"h{number}.org")
    # What others have left open may be closed meanwhile.
    assert opened() - before == Counter()


def opened() -> Counter[str]:
    """What this process has open, by what it is and not by its number, which is given again."""
    found: Counter[str] = Counter()
    for each in Path("/proc/self/fd").iterdir():
        try:
            found[str(each.readlink())] += 1
        except FileNotFoundError:  # that of this look
            continue
    return found


def test_a_broken_authority_refuses(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("nonsense")
    with pytest.raises(ConfigurationError, match="remove it"):
        read_or_make_authority(tmp_path / "x.pem")
    with pytest.raises(ConfigurationError, match="holds no certificate"):
        read_authorities(tmp_path / "x.pem")
    assert ip_address("127.0.0.1").is_loopback


# -- grants --


class Jail:
    """What a grant needs of a jail."""

    async def connect(self, grant: str, ports: list[int]) -> None:
        return


async def test_a_narrowing_that_was_cancelled_is_told_with_the_next_use(tmp_path: Path) -> None:
    rules = (Rule("x/1", ("a.org", "b.org")),)
    network = Network(online(), tmp_path / "socket", Audit(None), lambda: Configure(rule_sets={"python": rules}))
    ours, theirs = trio.testing.memory_stream_pair()
    network._stream = ours  # type: ignore[assignment]  # a stream is all that it has to be
    told: list[tuple[str, ...] | None] = []

    async def proxy() -> None:
        async for payload in control.frames(theirs):
            message = control.daemon_decoder.decode(payload)
            if isinstance(message, control.OpenGrant):
                told.append(message.narrowed)
                if message.answer:
                    network._hear(control.Opened(grant=message.grant))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(proxy)
        someone = Principal("t", "c")
        async with network.open_grant(Jail(), someone, SessionId("s"), ()) as grant:  # type: ignore[arg-type]
            await grant.use(someone, None)
            with trio.CancelScope() as scope:
                scope.cancel()
                await grant.use(someone, ("a.org",))
            await grant.use(someone, ("a.org",))
        nursery.cancel_scope.cancel()
    assert told[0] == ()
    assert told[-1] == ("a.org",)


async def test_a_request_for_what_is_not_granted_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    rules = (Rule("x/1", ("a.org",)),)
    network = Network(online(), tmp_path / "socket", Audit(None), lambda: Configure(rule_sets={"python": rules}))
    for wanted in (("evil.org",), ("a b",), tuple(f"h{number}.org" for number in range(100))):
        with pytest.raises(InvalidRequest) as caught:
            network.check(wanted)
        assert caught.value.field == "egress"
    network.check(("a.org",))
    network.check(())
    without = Network(load_policies()["default"], tmp_path / "socket", Audit(None), lambda: Configure(rule_sets={}))
    without.check(())
    with pytest.raises(InvalidRequest, match="no network here"):
        without.check(("a.org",))

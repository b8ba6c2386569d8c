"""Group E: hostile programs against the network of their sandbox, in a real sandbox with a little internet outside.

A program says CONTAINED when all of its attacks failed; what must never have left the sandbox is looked at outside.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from supervisor.attack.case import Case
from supervisor.attack.network import RULES
from supervisor.attack.programs import HERE, program_cases
from tests.containment.test_claims import target_of
from tests.daemon import eventually
from tests.internet import (
    HOST,
    PRIVATE,
    WEB,
    Internet,
    Online,
    online_daemon,
    open_internet,
)

PRELUDE = (HERE / "prelude.py").read_text() + (HERE / "prelude_network.py").read_text()
NETWORK_CASES = [case for case in program_cases() if case.place == "internet"]
pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def internet() -> Iterator[Internet]:
    with open_internet() as found:
        yield found


@pytest.fixture(scope="module")
def online(image_dir: Path, internet: Internet) -> Iterator[Online]:
    with online_daemon(image_dir, internet, {"e": RULES}) as daemon:
        yield daemon


def attack(online: Online, program: str, **fields: Any) -> dict[str, Any]:
    return online.execute(PRELUDE + program, **fields)


@pytest.mark.parametrize("case", NETWORK_CASES, ids=[f"{case.id} {case.name}" for case in NETWORK_CASES])
def test_the_hostile_program_does_not_get_out(online: Online, case: Case) -> None:
    target = target_of(online)
    target.internet = online.internet
    trio.run(case.attack, target)


def test_E3_an_opened_private_range_is_reached_and_only_by_its_rule(online: Online) -> None:
    online.internet.forget()
    seen = attack(online, 'print(json.dumps(https("opened.example.org")))')
    assert json.loads(seen["stdout"])["address"] == PRIVATE


def test_a_refusal_is_told_once_in_stderr_and_written_down(online: Online) -> None:
    result = attack(online, 'for _ in range(3): print(connect("evil.example.net:443"))')
    assert result["stdout"] == "403\n403\n403\n"
    told = [line for line in result["stderr"].splitlines() if line.startswith("[gaoler]")]
    assert len(told) == 1
    assert "no rule of policy 'default' allows the host evil.example.net" in told[0]
    assert 'hosts = ["evil.example.net"], schemes = ["https"], ports = [443]' in told[0]
    (line,) = online.audit_of(result["session_id"], 1)
    assert (line["verdict"], line["code"], line["host"], line["tenant"]) == (
        "refused",
        "host",
        "evil.example.net",
        "default",
    )


def test_what_was_allowed_is_written_down_with_its_bytes(online: Online) -> None:
    result = attack(online, 'print(https("www.example.org")["name"])', user="alice")
    assert result["stdout"] == "www.example.org\n"
    (line,) = online.audit_of(result["session_id"], 1)
    assert (line["verdict"], line["kind"], line["rule"], line["address"]) == ("allowed", "tls", "e/web", WEB)
    assert (line["user"], line["port"]) == ("alice", 443)
    assert line["sent"] > 300
    assert line["received"] > 300


def test_a_refusal_of_a_plain_request_says_what_to_ask_for(online: Online) -> None:
    result = attack(
        online,
        'print(talk(PROXY, b"GET http://evil.example.net/x HTTP/1.1\\r\\nHost: evil.example.net\\r\\n\\r\\n").decode())',
    )
    assert "HTTP/1.1 403" in result["stdout"]
    assert "Do not retry it" in result["stdout"]
    assert 'hosts = ["evil.example.net"], schemes = ["http"], ports = [80]' in result["stdout"]


# -- E13, E14, E15, E16, E21: what needs somebody outside --

HOLD = """
import select
sock = socket.create_connection(("raw.example.org", 9000), 5)
sock.sendall(b"before"); print(sock.recv(6).decode(), flush=True)
sock.sendall(b"!")  # It has had its answer.
sock.settimeout(20)
try:
    while sock.recv(100): pass
    print("cut")
except ConnectionError: print("cut")
print(connect("www.example.org:443"))
"""


def in_thread(work: Any) -> tuple[threading.Thread, list[Any]]:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    return thread, found


def test_E13_an_edited_rule_cuts_the_tunnel_that_it_no_longer_allows(online: Online) -> None:
    online.internet.forget()
    thread, found = in_thread(lambda: attack(online, HOLD))
    eventually(lambda: any(bytes(hit.raw) == b"before!" for hit in online.internet.hits))
    try:
        online.set_rules("e", RULES.replace('"raw.example.org"', '"other.example.org"'))
        thread.join()
        assert found[0]["stdout"] == "before\ncut\n200\n"
        assert "the rules have changed and no longer allow it" in found[0]["stderr"]
    finally:
        online.set_rules("e", RULES)
    eventually(lambda: attack(online, "print(connect('raw.example.org:9000'))")["stdout"] == "200\n")


OPENED = """
hold = ssl._create_unverified_context().wrap_socket(socket.create_connection(("opened.example.org", 443)), server_hostname="opened.example.org")
hold.sendall(b"GET /held HTTP/1.1\\r\\nHost: opened.example.org\\r\\n\\r\\n")
hold.settimeout(20)
try:
    while hold.recv(1000): pass
    print("cut")
except OSError as error: print("cut" if not isinstance(error, TimeoutError) else error)
"""


def test_E13_a_range_that_is_no_longer_opened_cuts_what_was_dialled_in_it(online: Online) -> None:
    online.internet.forget()
    thread, found = in_thread(lambda: attack(online, OPENED))
    eventually(lambda: any(hit.requests for hit in online.internet.hits_at(PRIVATE)))
    try:
        online.set_rules("e", RULES.replace('addresses = ["10.1.2.0/24"]', 'addresses = ["10.9.9.0/24"]'))
        thread.join()
        assert found[0]["stdout"] == "cut\n"
    finally:
        online.set_rules("e", RULES)
    eventually(lambda: attack(online, "print(connect('opened.example.org:443'))")["stdout"] == "200\n")


def test_E1_an_address_that_one_rule_opens_is_not_open_under_another(online: Online) -> None:
    own = f"""
[[rule]]
hosts = ["{HOST}"]
schemes = ["http"]
ports = [8081]
addresses = ["{HOST}/32"]
reason = "a service of the host's own"

[[rule]]
hosts = ["{HOST}"]
ports = [8081]
reason = "the same in TLS, not opened"
"""
    online.set_rules("e", RULES + own)
    try:
        opened = "GET / HTTP/1.1\\r\\nHost: 45.1.0.1:8081\\r\\nConnection: close\\r\\n\\r\\n"
        eventually(lambda: "secret" in attack(online, f"print(talk(('{HOST}', 8081), b'{opened}'))")["stdout"])
        program = f"""
sock = tunnel("{HOST}:8081")
sock.settimeout(5)
sock.sendall(client_hello("www.example.org"))
print(sock.recv(1000))
"""
        assert "secret" not in attack(online, program)["stdout"]
    finally:
        online.set_rules("e", RULES)
        eventually(lambda: attack(online, f"print(connect('{HOST}:8081'))")["stdout"] == "403\n")


def test_E13_a_rule_for_another_port_disturbs_nobody(online: Online) -> None:
    online.internet.forget()
    program = """
sock = socket.create_connection(("raw.example.org", 9000), 5)
sock.settimeout(20)
asked = b"GET / HTTP/1.1\\r\\nHost: any.example.org:8080\\r\\nConnection: close\\r\\n\\r\\n"
# Until the other rule holds, which takes a moment.
for number in range(1000):
    sock.sendall(b"%03d" % number)
    if sock.recv(3) != b"%03d" % number: raise SystemExit("cut")
    time.sleep(0.05)
    if number % 20 == 19 and str(status(talk(("any.example.org", 8080), asked))) == "200":
        print("200"); break
"""
    thread, found = in_thread(lambda: attack(online, program))
    eventually(lambda: len(online.internet.hits) > 0)
    more = '\n[[rule]]\nhosts = ["any.example.org"]\nschemes = ["http"]\nports = [8080]\nreason = "one more port"\n'
    online.set_rules("e", RULES + more)
    try:
        thread.join()
        assert found[0]["stdout"] == "200\n", found
    finally:
        online.set_rules("e", RULES)
        eventually(lambda: attack(online, "print(connect('any.example.org:8080'))")["stdout"] == "403\n")


def test_an_audit_line_names_who_did_it(online: Online) -> None:
    session = online.execute("1", stateful=True, user="alice")["session_id"]
    for user in ("alice", None):
        attack(online, "print(connect('www.example.org:443'))", stateful=True, session_id=session, user=user)
    assert [each["user"] for each in online.audit_of(session, 2)] == ["alice", ""]


def test_E13_broken_rules_change_nothing_and_say_so(online: Online) -> None:
    online.set_rules("e", RULES + "\n[[rule]]\nhosts = ['a b']\nreason = 'not a host'\n")
    try:
        eventually(lambda: any("changed rules are not taken" in line and "'a b'" in line for line in online.lines()))
        assert attack(online, "print(connect('www.example.org:443'))")["stdout"] == "200\n"
    finally:
        online.set_rules("e", RULES)


def test_E13_each_request_of_a_lasting_session_has_its_own_narrowing(online: Online) -> None:
    session = online.execute("1", stateful=True)["session_id"]
    program = "print(connect('www.example.org:443'), connect('deep.example.com:443'))"

    def run(**fields: Any) -> str:
        result = attack(online, program, stateful=True, session_id=session, **fields)
        return str(result["stdout"])

    assert run() == "200 200\n"
    assert run(egress=["www.example.org"]) == "200 403\n"
    assert run(egress=["*.example.com"]) == "403 200\n"
    assert run(egress=[]) == "403 403\n"
    assert run() == "200 200\n"


def test_E13_a_request_cannot_widen_what_the_operator_allows(online: Online) -> None:
    for wanted in (["evil.example.net"], ["example.com"], ["*.net"], ["www.example.org", "x.example.org"], ["a b"]):
        answer = online.try_execute("print(1)", egress=wanted)
        assert answer.status == 400, answer.body
        assert answer.json["field"] == "egress"
    # A wider pattern means what the two have in common.
    for wider in (["*"], ["*.example.org"]):
        result = attack(online, "print(connect('www.example.org:443'), connect('x.example.org:443'))", egress=wider)
        assert result["stdout"] == "200 403\n"


def test_E14_without_the_proxy_there_is_no_network_and_with_a_new_one_there_is(online: Online) -> None:
    online.internet.forget()
    session = online.execute("1", stateful=True)["session_id"]
    thread, found = in_thread(lambda: attack(online, HOLD, stateful=True, session_id=session))
    eventually(lambda: any(bytes(hit.raw) == b"before!" for hit in online.internet.hits))
    before = online.named("gaoler-egress")
    os.kill(before, signal.SIGKILL)
    thread.join()
    assert found[0]["stdout"].splitlines()[:2] == ["before", "cut"]
    eventually(lambda: "gaoler-egress" in online.names() and online.named("gaoler-egress") != before)
    again = attack(online, "print(connect('www.example.org:443'))", stateful=True, session_id=session)
    assert again["stdout"] == "200\n"
    online.internet.must_have_kept_to_the_rules()


def test_E14_while_the_proxy_is_stopped_nothing_gets_out(online: Online) -> None:
    online.internet.forget()
    proxy = online.named("gaoler-egress")
    os.kill(proxy, signal.SIGSTOP)
    try:
        program = "print(talk(('45.0.0.10', 443), client_hello('www.example.org'), 1), talk(PROXY, b'x', 1))"
        result = attack(online, program)
        assert result["stdout"] == "b'TIMEOUT' b'TIMEOUT'\n"
        online.internet.settle()
        assert online.internet.hits == []
    finally:
        os.kill(proxy, signal.SIGCONT)


FLOOD = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
def flood():
    held = []
    for _ in range(1000):
        sock = socket.socket(); sock.setblocking(False)
        try: sock.connect((name, 9000))
        except BlockingIOError: pass
        except OSError: continue
        held.append(sock)
    time.sleep(6)
name = socket.gethostbyname("raw.example.org")
children = []
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        flood(); os._exit(0)
    children.append(pid)
for pid in children: os.waitpid(pid, 0)
print("flooded")
"""


def test_E15_five_thousand_connections_of_one_sandbox_do_not_harm_another(online: Online) -> None:
    online.internet.forget()
    thread, found = in_thread(lambda: attack(online, FLOOD))
    eventually(lambda: len(online.internet.hits_at(WEB)) >= 64)
    neighbour = attack(online, "print([connect('www.example.org:443') for _ in range(5)])")
    thread.join(60)
    assert neighbour["stdout"] == "[200, 200, 200, 200, 200]\n"
    assert found[0]["stdout"] == "flooded\n"
    proxy = online.named("gaoler-egress")
    eventually(lambda: len(os.listdir(f"/proc/{proxy}/fd")) < 60)


def test_E16_another_sandbox_has_other_rights_at_the_same_time(online: Online) -> None:
    program = """
for _ in range(20): print(connect('www.example.org:443'), connect('deep.example.com:443'))
"""
    first, one = in_thread(lambda: attack(online, program, egress=["www.example.org"]))
    second, other = in_thread(lambda: attack(online, program, egress=["*.example.com"]))
    first.join()
    second.join()
    assert one[0]["stdout"] == "200 403\n" * 20
    assert other[0]["stdout"] == "403 200\n" * 20


def test_E21_nothing_of_a_sandbox_is_left_in_the_proxy(online: Online) -> None:
    attack(online, "print(connect('www.example.org:443'))")
    proxy = online.named("gaoler-egress")
    eventually(lambda: len(os.listdir(f"/proc/{proxy}/fd")) < 60)
    before = len(os.listdir(f"/proc/{proxy}/fd"))
    for _ in range(10):
        attack(online, "print(connect('www.example.org:443'))")
    eventually(lambda: len(os.listdir(f"/proc/{proxy}/fd")) <= before)


def test_the_proxy_is_nobody(online: Online) -> None:
    status = Path(f"/proc/{online.named('gaoler-egress')}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["200001"] * 4
    assert fields["Groups"].strip() == ""
    assert fields["NoNewPrivs"] == "1"
    assert all(int(fields[name], 16) == 0 for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))

"""Secrets by rule: they reach the rule's host and nobody else, and never the sandbox."""

from __future__ import annotations

import gzip
import json
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from supervisor.network.explain import explain
from supervisor.network.rule_files import RuleFile, compile_rules
from supervisor.policy import load_policies
from tests.containment.test_egress import PRELUDE
from tests.daemon import eventually
from tests.internet import OTHER_WEB, WEB, Hit, Internet, Online, online_daemon, open_internet

pytestmark = pytest.mark.root
SECRET = "s3cr3t-of-the-operator-0123456789"
RULES = """
[[rule]]
name = "api"
hosts = ["api.example.org"]
schemes = ["http"]
credential = "token"
prefix = "Bearer "
reason = "a plain API that wants a token"

[[rule]]
name = "vault"
hosts = ["vault.example.org", "broken.example.net.org"]
intercept = true
methods = ["GET", "POST"]
paths = ["/v1"]
credential = "token"
header = "X-Api-Key"
reason = "an API behind TLS that wants a key"

[[rule]]
name = "other"
hosts = ["other.example.org"]
schemes = ["http", "https"]
reason = "a host that gets no secret"

[[rule]]
name = "looking"
hosts = ["open.example.org"]
intercept = true
methods = ["GET"]
reason = "looked into, if no other rule said otherwise"

[[rule]]
name = "open"
hosts = ["open.example.org"]
schemes = ["raw"]
ports = [443]
reason = "anything may be spoken there"
"""


def echo(_hit: Hit, _path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, json.dumps([headers, body.decode("latin-1")]).encode() + b"." * 100_000


@pytest.fixture(scope="module")
def internet() -> Iterator[Internet]:
    with open_internet() as found:
        for name in ("api", "vault", "other", "open"):
            found.records[f"{name}.example.org"] = [OTHER_WEB if name == "other" else WEB]
        found.records["broken.example.net.org"] = [WEB]
        for prefix in ("", "/v1"):
            found.pages[f"{prefix}/ok"] = lambda *_: (200, {}, b"ok")
            found.pages[f"{prefix}/echo"] = echo
            found.pages[f"{prefix}/head"] = lambda _h, _p, headers, _b: (200, {"X-Echo": str(headers)}, b"")
            found.pages[f"{prefix}/gzip"] = lambda h, p, hs, b: (
                200, {"Content-Encoding": "gzip"}, gzip.compress(echo(h, p, hs, b)[2]))  # fmt: skip
            found.pages[f"{prefix}/away"] = lambda *_: (302, {"Location": "http://other.example.org/stolen"}, b"")
        yield found


@pytest.fixture(scope="module")
def online(image_dir: Path, internet: Internet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Online]:
    directory = tmp_path_factory.mktemp("credentials")
    (directory / "token").write_text(f"{SECRET}\n")
    authorities = tmp_path_factory.mktemp("authorities") / "all.pem"
    authorities.write_bytes(internet.authority[0].encode())
    settings = {
        "GAOLER_EGRESS_CREDENTIALS_DIR": str(directory),
        "GAOLER_EGRESS_AUTHORITIES": str(authorities),
        "GAOLER_LOG_LEVEL": "DEBUG",
    }
    with online_daemon(image_dir, internet, {"s": RULES}, settings) as daemon:
        yield daemon


FETCH = """
import urllib.error, urllib.request
def fetch(url, data=None, method=None, **headers):
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=10)
        return answer.status, answer.read().decode("latin-1")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode("latin-1")
    except Exception as error:
        return 0, repr(error)
"""


def run(online: Online, program: str) -> dict[str, Any]:
    online.internet.forget()
    result = online.execute(PRELUDE + FETCH + program)
    assert SECRET not in json.dumps(result)
    return result


def sent(internet: Internet, name: str) -> list[str | None]:
    return [headers.get(name) for hit in internet.hits for _, _, headers, _ in hit.requests]


def test_a_rule_adds_its_credential_to_a_plain_request(online: Online) -> None:
    result = run(online, "print(fetch('http://api.example.org/ok', Authorization='Bearer mine'))")
    assert result["stdout"] == "(200, 'ok')\n"
    assert sent(online.internet, "authorization") == [f"Bearer {SECRET}"]


def test_a_rule_that_intercepts_adds_it_inside_tls_and_the_sandbox_trusts_the_proxy(online: Online) -> None:
    result = run(online, "print(fetch('https://vault.example.org/v1/ok'))")
    assert result["stdout"] == "(200, 'ok')\n", result["stderr"]
    assert sent(online.internet, "x-api-key") == [SECRET]
    (hit,) = online.internet.hits
    assert hit.server_name == "vault.example.org"
    (line,) = online.audit_of(result["session_id"], 1)
    assert (line["kind"], line["rule"], line["path"], line["method"]) == ("https", "s/vault", "/v1/ok", "GET")


def test_through_connect_it_is_the_same(online: Online) -> None:
    result = run(
        online,
        """
import http.client
h = http.client.HTTPSConnection("127.0.0.1", 3128); h.set_tunnel("vault.example.org", 443)
for _ in range(2):
    h.request("POST", "/v1/ok", b"x" * 100000); print(h.getresponse().read())
""",
    )
    assert result["stdout"] == "b'ok'\nb'ok'\n", result["stderr"]
    assert sent(online.internet, "x-api-key") == [SECRET, SECRET]
    assert [len(body) for hit in online.internet.hits for *_, body in hit.requests] == [100_000, 100_000]


def test_inside_intercepted_tls_methods_paths_and_the_host_count(online: Online) -> None:
    result = run(
        online,
        """
print(fetch("https://vault.example.org/v2/ok")[0], fetch("https://vault.example.org/v1/../v2/ok")[0])
import http.client
for method, path, host in (("PUT", "/v1/ok", "vault.example.org"), ("GET", "/v1/ok", "other.example.org"), ("GET", "/v1/ok", "vault.example.org:80")):
    h = http.client.HTTPSConnection("vault.example.org"); h.putrequest(method, path, skip_host=True); h.putheader("Host", host); h.endheaders(); print(h.getresponse().status)
""",
    )
    assert result["stdout"] == "403 403\n403\n400\n400\n", result["stderr"]
    online.internet.settle()
    assert online.internet.hits == []


ASKED = (
    ("GET", "https://vault.example.org/v1/ok"),
    ("GET", "https://vault.example.org/ok"),
    ("GET", "https://vault.example.org/v1%2fok"),
    ("PUT", "https://vault.example.org/v1/ok"),
    ("GET", "http://vault.example.org/v1/ok"),
    ("PUT", "https://other.example.org/ok"),
    ("GET", "http://api.example.org/ok"),
    ("GET", "https://api.example.org/ok"),
    ("GET", "https://nobody.example.org/v1/ok"),
    ("PUT", "https://open.example.org/ok"),
    ("GET", "http://open.example.org/ok"),
)


def test_what_is_explained_is_what_the_proxy_does(online: Online) -> None:
    written = msgspec.convert(tomllib.loads(RULES), RuleFile)
    rules = compile_rules("s", written, {}, "s.toml").rules
    explained = [explain(load_policies()["packages"], rules, url, method) for method, url in ASKED]
    result = run(online, f"for method, url in {ASKED!r}: fetch(url, method=method)")
    lines = online.audit_of(result["session_id"], len(ASKED))
    # What was never a connection is recorded by its host; each is asked for once.
    got = {(line.get("path"), line.get("method"), line["host"], line["port"]): line for line in lines}
    for (method, url), answer in zip(ASKED, explained, strict=True):
        parts = urlsplit(url)
        port = 443 if parts.scheme == "https" else 80
        seen = (parts.path, method, parts.hostname, port)
        nameless = (None, None, parts.hostname, 53)
        line = got.get(seen) or got.get(nameless) or got[None, None, parts.hostname, port]
        assert (line["verdict"] == "refused", line.get("code")) == (not answer.allowed, answer.missing), (url, line)


@pytest.mark.parametrize("where", ["http://api.example.org", "https://vault.example.org/v1"])
def test_E12_a_server_that_shows_the_secret_is_cut_off(online: Online, where: str) -> None:
    program = f"""
for page in ("echo", "head", "gzip"): print(page, fetch("{where}/" + page)[0])
print(fetch("{where}/echo", Range="bytes=0-10")[0])
"""
    result = run(online, program)
    lines = result["stdout"].splitlines()
    assert lines[1:3] == ["head 403", "gzip 403"]
    assert "200" not in lines[0]
    assert "the server shows the credential" in result["stderr"]
    assert sent(online.internet, "range") == [None] * 4


def test_E11_a_redirect_drops_it(online: Online) -> None:
    result = run(online, "print(fetch('http://api.example.org/away')[0])")
    assert result["stdout"] == "200\n"
    other = [hit for hit in online.internet.hits if hit.address == OTHER_WEB]
    assert other[0].requests[0][1] == "/stolen"
    assert SECRET not in str(other)


def test_E12_no_other_host_gets_it_whatever_the_sandbox_writes(online: Online) -> None:
    program = """
for text in ("token", "{{token}}", "${token}", "$token", "%token%", "Bearer token"):
    fetch("http://other.example.org/x?" + text.replace(" ", "+").replace("{", "").replace("}", ""), text.encode(), Authorization=text, Cookie=text)
print(fetch("http://api.example.org/ok", Host="other.example.org")[0])
"""
    result = run(online, program)
    assert result["stdout"] == "400\n"
    assert SECRET not in str(online.internet.hits)


def test_S1_it_is_nowhere_in_the_sandbox_nor_in_logs(online: Online) -> None:
    result = run(
        online,
        """
fetch("https://vault.example.org/v1/ok")
needle = b"s3cr3t-of-the-" + b"operator"
for place in ("/proc/self/environ", "/proc/1/environ", "/proc/self/mountinfo"):
    try:
        if needle in open(place, "rb").read(): escapes.append(place)
    except OSError: pass
for base in ("/etc", "/tmp", "/mnt", "/dev/shm"):
    for folder, _, names in os.walk(base):
        for name in names:
            try:
                data = open(os.path.join(folder, name), "rb").read(1 << 20)
            except OSError: continue
            if needle in data or (b"PRIVATE" + b" KEY" in data and b"egress" in data): escapes.append(name)
done()
""",
    )
    assert result["stdout"] == "CONTAINED\n", result
    assert SECRET not in online.log_path.read_text()
    assert SECRET not in json.dumps(online.audit())


def test_a_server_with_a_wrong_certificate_is_not_talked_to(online: Online) -> None:
    result = run(online, "print(fetch('https://broken.example.net.org/v1/ok'))")
    assert result["stdout"].startswith("(502, ")
    assert "certificate" in result["stdout"]
    assert sent(online.internet, "x-api-key") == []


def test_a_client_that_does_not_trust_the_proxy_is_told_so(online: Online) -> None:
    result = run(
        online,
        """
context = ssl.create_default_context(cadata=ssl.DER_cert_to_PEM_cert(ssl.create_default_context().get_ca_certs(True)[0]))
try: context.wrap_socket(socket.create_connection(("vault.example.org", 443)), server_hostname="vault.example.org")
except ssl.SSLError as error: print(error.reason)
""",
    )
    assert result["stdout"] == "CERTIFICATE_VERIFY_FAILED\n"
    assert "does not trust the certificate" in result["stderr"]


def test_E13_a_rule_that_begins_to_look_into_tls_cuts_what_it_could_not_see(online: Online) -> None:
    online.internet.forget()
    program = """
hold = ssl._create_unverified_context().wrap_socket(socket.create_connection(("other.example.org", 443)), server_hostname="other.example.org")
for number in range(100):
    try:
        hold.sendall(b"GET /held HTTP/1.1\\r\\nHost: other.example.org\\r\\n\\r\\n")
        if not hold.recv(65536): raise OSError
    except OSError:
        print("cut"); break
    time.sleep(0.1)
"""
    found: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: found.append(online.execute(PRELUDE + program)))
    thread.start()
    eventually(lambda: any(hit.requests for hit in online.internet.hits))
    looking = RULES.replace('schemes = ["http", "https"]', 'intercept = true\nmethods = ["PUT"]')
    try:
        online.set_rules("s", looking)
        thread.join(30)
        assert found[0]["stdout"] == "cut\n"
    finally:
        online.set_rules("s", RULES)

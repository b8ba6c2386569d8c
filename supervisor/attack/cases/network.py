"""Group E from outside: what changes while sandboxes run, what ends, and who is disturbed. In the little internet."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from supervisor.attack import host
from supervisor.attack.case import Broken, Collection
from supervisor.attack.internet import WEB, Internet
from supervisor.attack.network import RULE_SET, RULES, SECRET
from supervisor.attack.programs import HERE
from supervisor.attack.target import Target, eventually, together

COLLECTION: Final = Collection()
_case: Final = COLLECTION.case
_PRELUDE: Final = "".join((HERE / name).read_text(encoding="utf-8") for name in ("prelude.py", "prelude_network.py"))
_MEND: Final = 'Set network = "none" in the policy until it holds; report it with the JSON of this run.'
# What it sends at last says that it has had the answer to what came before.
_HOLD: Final = """
sock = socket.create_connection(("raw.example.org", 9000), 5)
sock.settimeout(30)
sock.sendall(b"before")
print(sock.recv(6).decode(), flush=True)
sock.sendall(b"!")
try:
    while sock.recv(1): pass
    print("cut")
except OSError as error: print("cut" if not isinstance(error, TimeoutError) else "held")
"""


def _internet(target: Target) -> Internet:
    assert target.internet is not None
    target.internet.forget()
    return target.internet


async def _run(target: Target, program: str, **more: Any) -> str:
    result = await target.execute(_PRELUDE + program, "py", **more)
    return str(result["stdout"])


async def _set_rules(target: Target, text: str) -> None:
    path = target.state_directory / "policies" / "egress" / f"{RULE_SET}.toml"
    path.with_suffix(".new").write_text(text, encoding="utf-8")
    path.with_suffix(".new").rename(path)


@_case(
    "E13",
    "rules change under a connection",
    promise="A connection that the rules no longer allow is cut at once, also in a sandbox that runs already.",
    meaning="What the operator has taken back goes on, for as long as somebody holds it open.",
    mend=_MEND,
    place="internet",
)
async def rules_change(target: Target) -> None:
    """Hold a tunnel, take its rule away."""
    internet = _internet(target)
    without = RULES.replace('hosts = ["raw.example.org"]', 'hosts = ["other.example.org"]')

    async def change() -> None:
        await eventually("the tunnel is open", lambda: any(bytes(hit.raw) == b"before!" for hit in internet.hits))
        await _set_rules(target, without)

    try:
        said, _ = await together(partial(_run, target, _HOLD), change)
        if said.split() != ["before", "cut"]:
            raise Broken(f"the tunnel says {said!r}")
    finally:
        await _set_rules(target, RULES)
        with trio.CancelScope(shield=True), trio.move_on_after(30):
            while await _run(target, "print(connect('www.example.org:443'))") != "200\n":
                await trio.sleep(0.1)
    internet.must_have_kept_to_the_rules()


@_case(
    "E14",
    "the proxy is gone",
    promise="Without the proxy there is no network: neither while it is stopped nor until a killed one is replaced.",
    meaning="A crash of the proxy opens a way out.",
    mend=_MEND,
    place="internet",
)
async def proxy_gone(target: Target) -> None:
    """Stop it, kill it, wait for the next one."""
    internet = _internet(target)
    proxy = target.named("gaoler-egress")
    os.kill(proxy, signal.SIGSTOP)
    try:
        both = f"print(talk(('{WEB}', 443), client_hello('www.example.org'), 1), talk(PROXY, b'x', 1))"
        said = await _run(target, both)
        internet.settle()
        reached = len(internet.hits)
    finally:
        os.kill(proxy, signal.SIGCONT)
    if said != "b'TIMEOUT' b'TIMEOUT'\n" or reached:
        raise Broken(f"with a stopped proxy: {said!r}, {reached} connections outside")

    async def kill() -> None:
        await eventually("the tunnel is open", lambda: any(bytes(hit.raw) == b"before!" for hit in internet.hits))
        os.kill(target.named("gaoler-egress"), signal.SIGKILL)

    said, _ = await together(partial(_run, target, _HOLD), kill)
    if said.split() != ["before", "cut"]:
        raise Broken(f"with a killed proxy the tunnel says {said!r}")
    deadline = trio.current_time() + 30
    while (said := await _run(target, "print(connect('www.example.org:443'))")) != "200\n":
        if trio.current_time() > deadline:
            raise Broken(f"with the next proxy: {said!r}")
    internet.must_have_kept_to_the_rules()


_FETCH: Final = """
import urllib.error, urllib.request
def fetch(url, data=None, **headers):
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=10)
        return answer.status, answer.read().decode("latin-1")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode("latin-1")
    except Exception as error:
        return 0, repr(error)
print(fetch("http://api.example.org/fine")[0])
print(fetch("http://api.example.org/echo"), fetch("http://api.example.org/echo", Range="bytes=0-40"))
print(fetch("http://api.example.org/away"))
for text in ("token", "{{token}}", "${token}", "$token", "%token%", "Bearer token"):
    url = "http://other.example.org/echo?" + text.strip("{}$%").replace(" ", "+")
    print(fetch(url, text.encode(), Authorization=text, Cookie=text))
print(fetch("http://api.example.org/fine", Host="other.example.org")[0])
print(open("/proc/self/environ").read())
"""


@_case(
    "E12",
    "secrets of a rule",
    promise="A secret that a rule adds reaches that rule's host and nobody else, and never the sandbox.",
    meaning="Code in a sandbox gets the operator's credential, or sends it where it wants.",
    mend="Revoke the credential; take it out of egress.credentials_dir until it holds.",
    place="internet",
)
async def secrets_of_a_rule(target: Target) -> str:
    """Ask for it in every way, of the right host, of a host that shows it, and of another one."""
    internet = _internet(target)
    result = await target.execute(_FETCH, "py")
    if SECRET in f"{result['stdout']}{result['stderr']}":
        raise Broken("the sandbox has seen the secret")
    got = 0
    for hit in internet.hits:
        for _, path, headers, _ in hit.requests:
            has = SECRET in str(headers)
            got += has
            if has and headers.get("host") != "api.example.org":
                raise Broken(f"the secret went to {headers.get('host')} with {path}")
    if not got:
        raise Broken(f"the secret reached nobody, so nothing was tried: {result['stdout'][:200]!r}")
    return f"sent {got} times, to its own host"


_FLOOD: Final = """
name, held = socket.gethostbyname("raw.example.org"), []
for _ in range(900):
    sock = socket.socket(); sock.setblocking(False)
    try: sock.connect((name, 9000))
    except BlockingIOError: pass
    except OSError: continue
    held.append(sock)
time.sleep(5)
print("flooded")
"""


@_case(
    "E15",
    "a flood of connections",
    promise="One sandbox's connections use up its own limits, and nobody else's.",
    meaning="One sandbox takes the network from all others.",
    mend=_MEND,
    place="internet",
)
async def flood(target: Target) -> None:
    """Open as many as it goes; look what a neighbour and the proxy have of it."""
    internet = _internet(target)

    async def neighbour() -> str:
        await eventually("the flood has begun", lambda: len(internet.hits_at(WEB)) >= 32)
        return await _run(target, "print([connect('www.example.org:443') for _ in range(5)])", caller=target.stranger)

    said, beside = await together(partial(_run, target, _FLOOD), neighbour)
    if beside != "[200, 200, 200, 200, 200]\n":
        raise Broken(f"the neighbour sees {beside!r}")
    if said != "flooded\n":
        raise Broken(f"the flood says {said!r}")
    proxy = target.named("gaoler-egress")
    await eventually("the proxy has let everything go", lambda: host.descriptors(proxy) < 80)


@_case(
    "E16",
    "two sandboxes with different rights",
    promise="Each sandbox has the rights of its own request, at the same time as others have theirs.",
    meaning="A sandbox uses the rights of its neighbour.",
    mend=_MEND,
    place="internet",
)
async def different_rights(target: Target) -> None:
    """Narrow two requests differently and let both try both."""
    program = "for _ in range(20): print(connect('www.example.org:443'), connect('deep.example.com:443'))"
    one, other = await together(
        partial(_run, target, program, egress=["www.example.org"]),
        partial(_run, target, program, egress=["*.example.com"]),
    )
    if one != "200 403\n" * 20 or other != "403 200\n" * 20:
        raise Broken(f"they get {set(one.splitlines())} and {set(other.splitlines())}")


@_case(
    "E21",
    "what sandboxes leave",
    promise="A sandbox that has gone leaves no listener, no connection and no network on the host.",
    meaning="The proxy fills up, and at last the network is gone for all.",
    mend="Restart the daemon; report it with the JSON of this run.",
    place="internet",
)
async def left_behind(target: Target) -> str:
    """Let ten come and go."""
    proxy = target.named("gaoler-egress")
    await _run(target, "print(connect('www.example.org:443'))")
    await eventually("the proxy is at rest", lambda: host.descriptors(proxy) < 80)
    before = host.descriptors(proxy)
    devices = {path.name for path in Path("/sys/class/net").iterdir()}
    for _ in range(10):
        await _run(target, "print(connect('www.example.org:443'))")
    await eventually(f"the proxy holds {before} descriptors again", lambda: host.descriptors(proxy) <= before)
    if {path.name for path in Path("/sys/class/net").iterdir()} - devices:
        raise Broken("the host has new network devices")
    return f"{before} descriptors before and after"

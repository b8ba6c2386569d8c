"""Group H, who calls: forms and paths, forged tokens, guessed keys, origins, addresses, and other people's programs."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import trio

from supervisor.attack.case import Broken, Collection, Untried
from supervisor.attack.cases.http import exchange, resident, served, status_of
from supervisor.attack.target import Target, meanwhile
from supervisor.execution.values import is_id

COLLECTION: Final = Collection()
_case: Final = COLLECTION.case
_OURS: Final = "Report it with the JSON of this run: this is a fault of Gaoler's own."
_REFUSED: Final = (401, 429)
"""The second when so many did not hold that the daemon looks at none for a while."""
_LISTING: Final = f"/v1/files/{'A' * 21}"
_MAY_GROW: Final = 64 << 20
_TRIES: Final = 60
_ROUNDS: Final = 4
_ORACLE_SECONDS: Final = 0.002
_MOST_CALLS: Final = 300


def _encoded(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def _tokens(target: Target) -> dict[str, str]:
    """Forge tokens; the true private key is nobody's here."""
    now, jwt = time.time(), target.settings.jwt
    claims = {
        "iss": jwt.issuer, "aud": jwt.audience, "sub": "attacker", "tenant_id": target.me.tenant,
        "iat": now, "nbf": now, "exp": now + 60, "jti": "attack-0123456789", "role": "USER",
        "principal_source": "librechat",
    }  # fmt: skip
    hashed = ("chc_user_id", "org_id", "principal_source", "role", "service_id", "sub", "tenant_id")
    material = json.dumps({name: claims.get(name) for name in hashed}, separators=(",", ":"), sort_keys=True)
    claims["auth_context_hash"] = hashlib.sha256(material.encode()).hexdigest()
    public = b"public"
    if jwt.public_key:
        public = Path(jwt.public_key).read_bytes()
    found = {}
    for name, header, secret in (
        ("alg none", {"alg": "none"}, None),
        ("alg None", {"alg": "None", "kid": jwt.kid}, None),
        ("HS256 with the public key", {"alg": "HS256", "kid": jwt.kid}, public),
        ("HS256 with nothing", {"alg": "HS256", "kid": jwt.kid}, b""),
        ("a key elsewhere", {"alg": "EdDSA", "kid": jwt.kid, "jku": "http://127.0.0.1:1/keys"}, b"x"),
        ("a key of its own", {"alg": "EdDSA", "kid": jwt.kid, "jwk": {"kty": "OKP"}}, b"x"),
        ("an unknown key", {"alg": "EdDSA", "kid": "nobody"}, b"x"),
        ("a key id that is a path", {"alg": "HS256", "kid": "../../../dev/null"}, b""),
    ):
        signed = f"{_encoded(header)}.{_encoded(claims)}"
        signature = "" if secret is None else _encoded(hmac.new(secret, signed.encode(), "sha256").digest())
        found[name] = f"{signed}.{signature}"
    return found | {"no token": "a.b.c", "dots": "." * 1000, "a dash": "-", "12 000 letters": "x" * 12_000}


@_case(
    "H5",
    "forged tokens",
    promise="A token that LibreChat's key has not signed is refused.",
    meaning="Anybody speaks for every user.",
    mend="Take jwt.* out of the settings until it is mended; report it.",
)
async def tokens(target: Target) -> str:
    """Send each."""
    forged = _tokens(target)
    for name, token in forged.items():
        answer = await target.request("GET", _LISTING, headers={"Authorization": f"Bearer {token}"}, anonymous=True)
        if answer.status not in _REFUSED:
            raise Broken(f"{name}: {answer.status} {answer.body[:100]!r}")
    answer = await target.request("GET", _LISTING, headers={"X-API-Key": "x" * 30_000}, anonymous=True)
    if answer.status not in _REFUSED:
        raise Broken(f"a key of 30 000 letters: {answer.status}")
    return f"{len(forged)} tokens were refused" + ("" if target.settings.jwt.public_key else ", where none is accepted")


@_case(
    "H6",
    "keys that are nearly right",
    promise="A wrong key is refused in the same words and time, however much of it is right.",
    meaning="A key can be guessed letter by letter.",
    mend="Make new keys: gaoler keys. Report it.",
)
async def oracle(target: Target) -> str:
    """Compare keys that are wrong at their beginning and at their end, in turns."""
    key = target.me.key
    wrong = {"first": ("x" if key[0] != "x" else "y") + key[1:], "last": key[:-1] + ("x" if key[-1] != "x" else "y")}
    differences = []
    for _ in range(_ROUNDS):
        # A busy machine tells the two apart now and then; a comparison that stops early does so each time.
        differences.append(await _difference(target, wrong))
        if differences[-1] < _ORACLE_SECONDS:
            return f"the medians differ by {differences[-1] * 1e6:.0f} \N{MICRO SIGN}s"
    raise Broken(f"a key that is right up to its last letter takes {min(differences) * 1000:.2f} ms more or less")


async def _difference(target: Target, wrong: dict[str, str]) -> float:
    """Try the keys in turns, and give by how much the medians of their times differ."""
    seconds: dict[str, list[float]] = {name: [] for name in wrong}
    said = set()
    for _ in range(_TRIES):
        for name, each in wrong.items():
            began = time.perf_counter()
            answer = await target.request("GET", _LISTING, headers={"X-API-Key": each}, anonymous=True)
            if answer.status == 429:
                # We are shut out: nothing that we show is looked at.
                return 0.0
            seconds[name].append(time.perf_counter() - began)
            said.add((answer.status, answer.body))
    if {status for status, _ in said} != {401} or len(said) != 1:
        raise Broken(f"the answers differ: {sorted(said)[:2]}")
    first, last = (statistics.median(each) for each in seconds.values())
    return abs(first - last)


@_case(
    "H7",
    "headers about the address",
    promise="Calls are counted by credential and user; what a header says about the address changes nothing.",
    meaning="One client takes the calls of all.",
    mend=_OURS,
)
async def forwarded(target: Target) -> str:
    """Call once more than is allowed, each time from elsewhere."""
    rule = target.settings.rates.listing
    if target.twin is not None:
        raise Untried("a twin does not count calls")
    if rule == "off":
        raise Untried("calls are not counted here (rates.listing = off)")
    allowed = int(rule.partition("/")[0])
    if allowed > _MOST_CALLS:
        raise Untried(f"{allowed} calls are allowed, which is too many to be tried on a daemon in use")
    for number in range(allowed + 5):
        address = f"10.0.{number >> 8}.{number & 255}"
        headers = dict.fromkeys(("X-Forwarded-For", "X-Real-IP", "CF-Connecting-IP", "X-Client-IP"), address)
        answer = await target.request("GET", _LISTING, headers=headers)
        if answer.status == 429:
            return f"the {number + 1}th call was refused"
    raise Broken(f"{allowed + 5} calls were taken, of {rule}")


@_case(
    "H8",
    "addresses in every field",
    promise="The daemon asks nobody for anything, whatever address a request names.",
    meaning="A caller reaches services that only the daemon's host can.",
    mend=_OURS,
)
async def addresses(target: Target) -> str:
    """Listen on loopback, name that address everywhere, and see that nobody comes."""
    came: list[str] = []

    async def note(stream: trio.SocketStream) -> None:
        came.append(str(stream.socket.getpeername()))
        await stream.aclose()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/x"
    async with meanwhile(partial(trio.serve_listeners, note, listeners)):
        file = {"id": "A" * 21, "storage_session_id": "A" * 21, "name": "x", "url": url, "resource_id": url[:128]}
        body = {
            "lang": "py",
            "code": "1",
            "url": url,
            "callback": url,
            "webhook": url,
            "entity_id": url,
            "files": [file],
        }
        headers = {"Referer": url, "Origin": url, "X-Forwarded-Host": url, "Link": f"<{url}>"}
        for path in ("/v1/exec", "/v1/exec/programmatic", "/v1/sessions", "/v1/exec/programmatic/cancel"):
            await target.post(path, {**body, "language": url}, headers=headers)
        await target.request("GET", f"/v1/download/{quote(url, safe='')}/{'A' * 21}")
        await target.upload(("x", b"x"), fields={"url": url, "entity_id": url, "kind": "agent", "id": url})
        token = f"{_encoded({'alg': 'EdDSA', 'kid': 'x', 'jku': url, 'x5u': url})}.{_encoded({})}.x"
        await target.request("GET", _LISTING, headers={"Authorization": f"Bearer {token}"}, anonymous=True)
        await trio.sleep(1)
    if came:
        raise Broken(f"the daemon came from {came[0]}")
    return "nobody came"


@_case(
    "H9",
    "pages of other origins",
    promise="A page in a browser reaches neither door by another name of this host, nor reads its answers.",
    meaning="A page that one of your users opens runs code here, in the user's name.",
    mend="Look at http.cors_origins, mcp.allowed_hosts and mcp.allowed_origins.",
)
async def origins(target: Target) -> str:
    """Ask as a page would."""
    evil = "https://evil.example"
    for method, headers in (("GET", {}), ("OPTIONS", {"Access-Control-Request-Method": "POST"})):
        answer = await target.request(method, _LISTING, headers={"Origin": evil, **headers})
        if answer.headers.get("access-control-allow-origin") in ("*", evil):
            raise Broken(f"a page of {evil} may read the answers of {method}")
    if not target.settings.mcp.enabled:
        return "the MCP server is off"
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    wanted = {"Accept": "application/json, text/event-stream"}
    answer = await target.post("/mcp", message, headers={**wanted, "Origin": evil})
    if answer.status != 403:
        raise Broken(f"MCP answers a page of {evil} with {answer.status}")
    if "*" in target.settings.mcp.allowed_hosts:
        raise Untried("mcp.allowed_hosts lets every name in")
    answer = await target.post("/mcp", message, headers={**wanted, "Host": "evil.example"})
    if answer.status != 421:
        raise Broken(f"MCP answers to the name evil.example with {answer.status}")
    return "refused at both doors"


@_case(
    "H11",
    "other people's programs",
    promise="A program that waits for its tools goes on for its caller only, once, and with an untouched token.",
    meaning="A caller gives another's program false results, or reads its output.",
    mend=_OURS,
)
async def continuations(target: Target) -> str:
    """Start one; try to go on with it as others, with changed tokens, and twice."""
    target.need_language("py")
    body = {"lang": "py", "code": "print(await tool())", "tools": [{"name": "tool"}]}
    started = await target.post("/v1/exec/programmatic", body)
    if started.status != 200 or started.json.get("status") != "tool_call_required":
        raise Broken(f"a program that calls a tool is answered with {started.status}: {started.body[:200]!r}")
    if is_id(session := started.json.get("session_id") or ""):
        target.sessions[session] = (target.me, target.user)
    token, call = started.json["continuation_token"], started.json["tool_calls"][0]["id"]

    def results(token: str) -> dict[str, Any]:
        return {"continuation_token": token, "tool_results": [{"call_id": call, "result": "forged"}]}

    async def refused(name: str, token: str, **who: Any) -> None:
        answer = await target.post("/v1/exec/programmatic", results(token), **who)
        if answer.status == 200 and answer.json.get("status") != "error":
            raise Broken(f"{name} goes on with the program: {answer.body[:200]!r}")

    await refused("another key of the tenant", token, caller=target.colleague)
    await refused("another tenant", token, caller=target.stranger)
    await refused("another user", token, user=f"{target.user}-other")
    for name, changed in (
        ("a cut token", token[:-1]),
        ("a longer token", token + "A"),
        ("a token of its own", "A" * 64),
    ):
        await refused(name, changed)
    swapped = token[: len(token) // 2] + ("A" if token[len(token) // 2] != "A" else "B") + token[len(token) // 2 + 1 :]
    await refused("a changed token", swapped)
    answer = await target.post("/v1/exec/programmatic", results(token))
    if answer.status != 200 or answer.json.get("status") != "completed":
        raise Broken(f"its own caller cannot go on: {answer.status} {answer.body[:200]!r}")
    await refused("a second time", token)
    return "only its caller went on, once"


@_case(
    "H6",
    "a flood without credentials",
    promise="Who has no credential is refused before anything of the body is read; others are served meanwhile.",
    meaning="Anybody who reaches the address takes the daemon's memory or disk.",
    mend="Put the daemon behind a proxy that limits clients; report it.",
)
async def flood(target: Target) -> str:
    """Send large bodies from many connections."""
    before, count, body = resident(target), 24, bytes(1 << 20)
    head = f"POST /v1/upload HTTP/1.1\r\nHost: localhost\r\nX-API-Key: wrong\r\nContent-Length: {len(body)}\r\n\r\n"

    async def one() -> None:
        answer = await exchange(target, head.encode(), body)
        # Who goes on sending may find the connection closed in its face.
        if status_of(answer) not in (0, *_REFUSED):
            raise Broken(f"without a credential: {answer[:60]!r}")

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(one)
        await served(target)
    grown = resident(target) - before
    if grown > _MAY_GROW:
        raise Broken(f"the daemon has grown by {grown >> 20} MiB")
    return f"{count} were refused"

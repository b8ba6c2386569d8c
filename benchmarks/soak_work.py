"""What the clients of the soak do: one class of operations each, chosen by a seeded hand."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.soak_world import Answer, Interrupted, Kept, SoakError, World, digest_of
from tests.daemon import KEY

JSON = {"Content-Type": "application/json"}
BOUNDARY = "----gaoler-soak"
JOURNALS = 6
"""Sessions with a journal that each client has."""
PROGRAMS = {
    "py": "print('{}')",
    "bash": "echo {}",
    "js": "console.log('{}')",
    "c": '#include <stdio.h>\nint main(void) {{ puts("{}"); }}',
    "cpp": '#include <cstdio>\nint main() {{ std::puts("{}"); }}',
    "java": 'class Main {{ public static void main(String[] a) {{ System.out.println("{}"); }} }}',
    "php": "<?php echo '{}';",
    "go": 'package main\nimport "fmt"\nfunc main() {{ fmt.Println("{}") }}',
    "r": "cat('{}')",
}
NAMES = {"python": "py", "javascript": "js"}


class Client:
    """One thread's work. Its sessions are its own, so that what it knows of them is all there is to know."""

    def __init__(self, world: World, number: int, seed: int, languages: list[str]) -> None:
        self._world = world
        self._ledger = world.ledger
        self._random = random.Random(f"{seed}/{number}")
        self._user = f"user-{number}"
        self._made = 0
        self._languages = languages
        self._journals: list[str] = []
        self._live: dict[str, tuple[int, int]] = {}
        """Sessions with an interpreter: how many tokens it has been told, after how many kills of the daemon."""
        self._mcp: str | None = None
        self._work: dict[str, tuple[Callable[[], str], int]] = {
            "print": (self._print, 22),
            "language": (self._language, 12),
            "files": (self._files, 12),
            "journal": (self._journal, 12),
            "interpreter": (self._interpreter, 8),
            "upload and run": (self._upload_and_run, 7),
            "download": (self._download, 8),
            "delete": (self._delete, 4),
            "hang up": (self._hang_up, 5),
            "stream": (self._stream, 3),
            "time out": (self._time_out, 3),
            "out of memory": (self._out_of_memory, 1),
            "flood": (self._flood, 2),
            "fork": (self._fork, 1),
            "mcp": (self._call_tool, 5),
            "refusal": (self._refusal, 2),
            "network": (self._network, 3),
        }

    def step(self) -> bool:
        """Do one operation and check it; say whether it was not interrupted by a restart."""
        kinds = list(self._work)
        kind = self._random.choices(kinds, [weight for _, weight in self._work.values()])[0]
        try:
            outcome = self._work[kind][0]()
        except Interrupted:
            self._ledger.count("interrupted by a restart", kind)
            self._world.wait_up()
            return False
        except SoakError as error:
            outcome = "violation"
            self._ledger.violate(f"{kind}: {error}")
        except (KeyError, TypeError, ValueError) as error:
            outcome = "violation"
            self._ledger.violate(f"{kind}: an answer of an unknown form: {type(error).__name__} {error}")
        self._ledger.count(kind, outcome)
        return True

    # -- asking --

    def _token(self) -> str:
        self._made += 1
        return f"{self._user}.{self._made}"

    def _execute(self, lang: str, code: str, **fields: Any) -> Mapping[str, Any]:
        """Run a program; one that is refused for want of a place comes again."""
        body = json.dumps({"lang": lang, "code": code, **fields}).encode()
        while True:
            before = self._world.epoch
            answer = self._world.request("POST", "/v1/exec", body, user=self._user, headers=JSON)
            if answer.status == 429:
                self._ledger.count("refused for want of a place", "429")
                time.sleep(self._random.uniform(0.05, 0.3))
                continue
            if answer.status != 200:
                raise SoakError(f"{lang}: {answer.status} {answer.body[:200]!r}")
            result: Mapping[str, Any] = answer.json
            if "error" in result:
                # The answer had begun before it went wrong.
                if self._world.disturbed(before):
                    raise Interrupted
                raise SoakError(f"{lang}: {result['error']} {str(result.get('stderr'))[:200]}")
            return result

    def _upload(self, name: str, content: bytes) -> Kept:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        body = head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        answer = _expect(self._world.request("POST", "/v1/upload", body, user=self._user, headers=headers), 200)
        found = answer.json
        kept = Kept(self._user, found["session_id"], found["files"][0]["fileId"], digest_of(content))
        self._ledger.keep(kept)
        return kept

    def _content(self) -> bytes:
        size = self._random.choice((0, 1, 100, 5000, 70_000, 70_000, 1_000_000))
        return self._random.randbytes(size)

    # -- executions --

    def _print(self) -> str:
        token = self._token()
        return _same(self._execute("py", f"print('{token}')")["stdout"], f"{token}\n")

    def _language(self) -> str:
        lang = self._random.choice(self._languages)
        token = self._token()
        result = self._execute(lang, PROGRAMS[lang].format(token))
        return f"{lang} " + _same(result["stdout"].strip(), token)

    def _files(self) -> str:
        """Files of several sizes come back whole, and are remembered."""
        seed, sizes = self._random.randrange(1 << 30), [self._random.choice((1, 400, 9000, 300_000)) for _ in range(3)]
        code = (
            f"import random\nrandom.seed({seed})\n"
            f"for number, size in enumerate({sizes}): open(f'f{{number}}.bin', 'wb').write(random.randbytes(size))"
        )
        result = self._execute("py", code)
        hand = random.Random(seed)
        wanted = {f"f{number}.bin": hand.randbytes(size) for number, size in enumerate(sizes)}
        _same(sorted(each["name"] for each in result["files"]), sorted(wanted))
        for each in result["files"]:
            content = wanted[each["name"]]
            self._ledger.keep(Kept(self._user, result["session_id"], each["id"], digest_of(content)))
        return "ok"

    def _journal(self) -> str:
        """Append to a file of a session: nothing acknowledged gets lost, nothing is done twice."""
        code = "open('journal.txt', 'a').write('{}\\n')\nprint(open('journal.txt').read(), end='')"
        token = self._token()
        if len(self._journals) < JOURNALS or self._random.random() < 0.05:
            result = self._execute("py", code.format(token))
            self._journals = [result["session_id"], *self._journals][:JOURNALS]
            self._ledger.journals[self._user, result["session_id"]] = [(token, True)]
            return "new"
        session = self._random.choice(self._journals)
        written = self._ledger.journals[self._user, session]
        written.append((token, False))
        result = self._execute("py", code.format(token), session_id=session)
        written[-1] = (token, True)
        fault = journal_fault(result["stdout"].split(), written)
        if fault:
            raise SoakError(f"session {session}: {fault}")
        return "ok"

    def _interpreter(self) -> str:
        """A lasting interpreter has every token once, also when it was saved; only a SIGKILL may lose them all."""
        code = "seen = globals().setdefault('seen', [])\nseen.append('{}')\nprint(len(seen), len(set(seen)))"
        kills = self._world.restarts["SIGKILL"]
        if len(self._live) < 3 or self._random.random() < 0.1:
            result = self._execute("py", code.format(self._token()), stateful=True)
            self._live = dict([(result["session_id"], (1, kills)), *self._live.items()][:3])
            return f"new {_same(result['stdout'], '1 1' + chr(10))}"
        session = self._random.choice(list(self._live))
        wanted, kills_then = self._live[session]
        try:
            result = self._execute("py", code.format(self._token()), stateful=True, session_id=session)
        except Interrupted:
            del self._live[session]
            raise
        count, unique = map(int, result["stdout"].split())
        self._live[session] = (count, kills)
        _same(count, unique)
        status = "restored" if result["runtime_restored"] else result["runtime_status"]
        if count == wanted + 1:
            return str(status)
        if count <= wanted and kills_then != self._world.restarts["SIGKILL"]:
            # What was saved last, or nothing.
            return "older after SIGKILL"
        raise SoakError(f"an interpreter ({status}) has {count} tokens, not {wanted + 1}: {result['stderr'][-200:]}")

    def _upload_and_run(self) -> str:
        content = self._content()
        kept = self._upload("input.bin", content)
        code = "import hashlib\nprint(hashlib.sha256(open('input.bin', 'rb').read()).hexdigest())"
        files = [{"id": kept.file, "storage_session_id": kept.session, "name": "input.bin"}]
        return _same(self._execute("py", code, files=files)["stdout"].strip(), kept.digest)

    def _time_out(self) -> str:
        lang, code = self._random.choice((("py", "while True: pass"), ("bash", "trap '' TERM; sleep 60")))
        return _same(self._execute(lang, code, timeout=self._random.randrange(100, 800))["status"], "TO")

    def _out_of_memory(self) -> str:
        result = self._execute("py", "held = []\nwhile True: held.append(b'x' * (64 << 20))")
        return _same((result["code"], "memory" in str(result["message"])), (None, True))

    def _flood(self) -> str:
        code = "import sys\nwhile True: sys.stdout.write('x' * 65536)"
        return _same(self._execute("py", code)["status"] in ("OL", "EL"), wanted=True)

    def _fork(self) -> str:
        code = "import os\ntry:\n    while True: os.fork()\nexcept OSError: pass"
        result = self._execute("py", code, timeout=3000)
        return "ended" if result["status"] is None else str(result["status"])

    def _network(self) -> str:
        code = (
            "import urllib.request\ntry:\n    print(urllib.request.urlopen('http://192.0.2.1/', timeout=5).status)\n"
            "except OSError as error: print('no')"
        )
        return _same(self._execute("py", code)["stdout"].strip(), "no")

    # -- others --

    def _hang_up(self) -> str:
        """Go away in the middle: it is done at most once, and nothing else suffers."""
        token = self._token()
        body: dict[str, Any] = {
            "lang": "py",
            "code": f"import time\ntime.sleep(0.2)\nopen('hung.txt', 'a').write('{token}')",
        }
        if self._live and self._random.random() < 0.3:
            # An interpreter may be interrupted, its list is not touched by this.
            body |= {"stateful": True, "session_id": self._random.choice(list(self._live))}
        data = json.dumps(body).encode()
        path = "/v1/exec?stream=1" if self._random.random() < 0.3 else "/v1/exec"
        host, _, port = self._world.daemon.address.partition(":")
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\nX-User-Id: {self._user}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        with self._world.asking(), socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(head.encode() + data[: self._random.choice((len(data), len(data), 20))])
            time.sleep(self._random.uniform(0, 0.3))
        return "gone"

    def _stream(self) -> str:
        token = self._token()
        body = json.dumps({"lang": "bash", "code": f"echo {token}; sleep 0.05; echo end"}).encode()
        while True:
            before = self._world.epoch
            answer = self._world.request("POST", "/v1/exec?stream=1", body, user=self._user, headers=JSON)
            if answer.status == 429 or b'"status":429' in answer.body:
                time.sleep(0.2)
                continue
            break
        _expect(answer, 200)
        if b"event: result" not in answer.body:
            if self._world.disturbed(before):
                raise Interrupted
            raise SoakError(f"a stream without an end: {answer.body[-200:]!r}")
        return _same(token.encode() in answer.body, wanted=True)

    def _download(self) -> str:
        with self._ledger.lock:
            mine = [each for each in self._ledger.files.values() if each.user == self._user]
        if not mine:
            return "nothing yet"
        return check_download(self._world, self._random.choice(mine))

    def _delete(self) -> str:
        with self._ledger.lock:
            mine = [each for each in self._ledger.files.values() if each.user == self._user]
        if not mine:
            return "nothing yet"
        kept = self._random.choice(mine)
        try:
            answer = self._world.request("DELETE", f"/v1/files/{kept.session}/{kept.file}", user=self._user)
        except Interrupted:
            self._ledger.forget(kept, sure=False)
            raise
        _expect(answer, 200)
        self._ledger.forget(kept, sure=True)
        return "ok"

    def _refusal(self) -> str:
        bodies = ((b"{", 400), (b'{"lang": "cobol", "code": ""}', 400), (b'{"lang": "py"}', 400))
        body, status = self._random.choice(bodies)
        _expect(self._world.request("POST", "/v1/exec", body, user=self._user, headers=JSON), status)
        missing = f"/v1/download/{'x' * 21}/{'y' * 21}"
        return f"{_expect(self._world.request('GET', missing, user=self._user), 404).status}"

    def _call_tool(self) -> str:
        """Over MCP; a connection that a restart has ended is opened again, as the protocol says."""
        token = self._token()
        arguments = {"code": f"print('{token}')"}
        call = {"method": "tools/call", "params": {"name": "execute_code", "arguments": arguments}}
        for _ in range(20):
            if self._mcp is None:
                self._mcp = self._initialize()
            answer, _ = self._post(call, self._mcp)
            if answer.status == 404:
                self._mcp = None
                continue
            if b"try again in" in answer.body:
                time.sleep(0.3)
                continue
            return _same(
                (answer.status, token.encode() in answer.body, b'"isError":true' in answer.body), (200, True, False)
            )
        raise SoakError(f"MCP: no place in twenty tries, session {self._mcp}")

    def _initialize(self) -> str:
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "soak", "version": "1"}}
        answer, session = self._post({"method": "initialize", "params": params}, None)
        _expect(answer, 200)
        return session

    def _post(self, message: Mapping[str, Any], session: str | None) -> tuple[Answer, str]:
        headers = {**JSON, "Accept": "application/json, text/event-stream", "X-Conversation-Id": self._user}
        if session is not None:
            headers["Mcp-Session-Id"] = session
        body = json.dumps({"jsonrpc": "2.0", "id": self._made, **message}).encode()
        found: dict[str, str] = {}
        answer = self._world.request("POST", "/mcp", body, user=self._user, headers=headers, seen=found)
        return answer, found.get("mcp-session-id", "")


def check_download(world: World, kept: Kept) -> str:
    """Compare what is kept with what was acknowledged; one that was deleted meanwhile is not there."""
    answer = world.request("GET", f"/v1/download/{kept.session}/{kept.file}", user=kept.user)
    if answer.status == 404 and kept.file not in world.ledger.files:
        return "deleted meanwhile"
    _expect(answer, 200)
    return _same(digest_of(answer.body), kept.digest)


def journal_fault(lines: list[str], written: list[tuple[str, bool]]) -> str | None:
    """Say what is wrong with a journal: an acknowledged line that is missing or doubled, or one nobody wrote."""
    wanted = [token for token, _ in written]
    if len(set(lines)) != len(lines):
        return f"a line is there twice: {lines}"
    missing = [token for token, sure in written if sure and token not in lines]
    if missing:
        return f"{missing} were acknowledged and are missing in {lines}"
    strange = [line for line in lines if line not in wanted]
    return f"nobody wrote {strange}" if strange else None


def _expect(answer: Answer, status: int) -> Answer:
    if answer.status != status:
        raise SoakError(f"{answer.status} where {status} was due: {answer.body[:200]!r}")
    return answer


def _same(got: object, wanted: object) -> str:
    if got != wanted:
        raise SoakError(f"{got!r:.200} where {wanted!r:.200} was due")
    return "ok"

"""Tools of the caller's, as functions of the program that runs in the sandbox.

The program asks with a line of JSON on the link, ``{"calls": [{"name": ..., "input": {...}}, ...]}``, and gets one line
back, ``{"results": [{"result": ...} or {"error": "..."}, ...]}`` in the same order. All calls that wait at the same
moment go out together: that is one round trip for whoever runs the tools. Nothing here is a boundary.

Python programs get ``async`` functions that take keyword arguments; bash scripts get functions that take one JSON
object as text and print JSON. Neither program is changed: the functions are there before it begins.
"""

import asyncio
import inspect
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile

SPECIFICATION = "/code/tools.json"
SCRIPT = "/code/main.sh"
GATHER_SECONDS = 0.002
"""After the first call, so long for others that are made in the same breath."""
BASH_GATHER_SECONDS = 0.02
MAX_LINE = 65_536

BASH_FUNCTIONS = r"""
__gaoler_call() {
  local id status
  if [ "$#" -gt 2 ]; then echo "$1: takes one argument, a JSON object" >&2; return 2; fi
  id="$__GAOLER_TOOLS/$BASHPID.$RANDOM$RANDOM"
  mkfifo "$id.status" && printf '%s' "${2-}" > "$id.input" || return 2
  printf '%s %s\n' "$id" "$1" > "$__GAOLER_TOOLS/calls"
  IFS= read -r status < "$id.status" || status=error
  if [ "$status" = ok ]; then cat "$id.output"; else cat "$id.output" >&2; fi
  rm -f "$id.status" "$id.input" "$id.output"
  [ "$status" = ok ]
}
"""


class ToolError(RuntimeError):
    """A tool failed; the message is the tool's own."""


def specification():
    """Read which tools there are."""
    with open(SPECIFICATION, encoding="utf-8") as file:
        return json.load(file)


def flush():
    """Show what was printed before the program is stopped for its tools."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass


# -- Python --


class Broker:
    """Collects calls, sends them, hands out results."""

    def __init__(self, link):
        self._link = socket.socket(fileno=link)
        self._link.set_inheritable(False)
        self._new = []
        self._sent = []
        self._planned = False
        self._received = b""

    async def call(self, name, arguments):
        """Call a tool and wait for its result."""
        text = json.dumps(arguments)
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._new.append((name, text, future))
        self._plan(loop)
        return await future

    def _plan(self, loop):
        if self._new and not self._sent and not self._planned:
            self._planned = True
            loop.call_later(GATHER_SECONDS, self._send, loop)

    def _send(self, loop):
        self._planned = False
        self._new = [call for call in self._new if not call[2].done()]
        if not self._new:
            return
        self._sent, self._new = self._new, []
        flush()
        calls = ", ".join(f'{{"name": {json.dumps(name)}, "input": {text}}}' for name, text, _ in self._sent)
        self._link.sendall(f'{{"calls": [{calls}]}}\n'.encode())
        loop.add_reader(self._link.fileno(), self._receive, loop)

    def _receive(self, loop):
        data = self._link.recv(1 << 20)
        self._received += data
        if data and not self._received.endswith(b"\n"):
            return
        loop.remove_reader(self._link.fileno())
        sent, self._sent = self._sent, []
        results = json.loads(self._received)["results"] if data else [{"error": "the caller is gone"}] * len(sent)
        self._received = b""
        for (_, _, future), result in zip(sent, results):
            if future.done():
                continue
            if "error" in result:
                future.set_exception(ToolError(result["error"]))
            else:
                future.set_result(result["result"])
        self._plan(loop)


def functions(link):
    """Make the functions of a Python program."""
    broker = Broker(link)
    given = {"ToolError": ToolError}
    for tool in specification():
        given[tool["function"]] = _function(broker, tool)
    return given


def _function(broker, tool):
    name = tool["name"]

    async def call(**arguments):
        return await broker.call(name, arguments)

    call.__name__ = call.__qualname__ = tool["function"]
    call.__doc__ = tool["description"]
    call.__signature__ = inspect.Signature(
        [
            inspect.Parameter(
                parameter,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if required else None,
            )
            for parameter, required in tool["parameters"]
        ]
    )
    return call


# -- bash --


class BashBroker:
    """Stands between the script's functions, each a process of its own, and the link."""

    def __init__(self, link, directory):
        self._link = socket.socket(fileno=link)
        self._link.set_inheritable(False)
        self._directory = directory
        path = os.path.join(directory, "calls")
        os.mkfifo(path, 0o600)
        self._calls = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._buffer = b""
        self._new = []
        self._sent = []
        self._received = b""
        self._open = []

    def serve_until_gone(self, child):
        """Answer calls until the script has ended; give its wait status."""
        pidfd = os.pidfd_open(child.pid)
        poll = select.poll()
        for fd in (pidfd, self._calls, self._link.fileno()):
            poll.register(fd, select.POLLIN)
        while True:
            waiting = bool(self._new) and not self._sent
            ready = dict(poll.poll(BASH_GATHER_SECONDS * 1000 if waiting else None))
            if self._calls in ready:
                self._take_calls()
            elif waiting and not ready:
                self._send()
            if self._link.fileno() in ready:
                self._receive()
            if pidfd in ready:
                return os.waitpid(child.pid, 0)[1]

    def _take_calls(self):
        self._buffer += os.read(self._calls, MAX_LINE)
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            place, _, name = line.decode("utf-8", "replace").partition(" ")
            if os.path.dirname(place) != self._directory:
                continue
            try:
                with open(place + ".input", encoding="utf-8") as file:
                    given = json.loads(file.read() or "{}")
                if not isinstance(given, dict):
                    raise ValueError("it is not an object")
            except (OSError, ValueError, RecursionError) as error:
                self._answer(place, "error", f"{name}: the argument has to be a JSON object: {error}\n")
                continue
            self._new.append((place, name, given))

    def _send(self):
        self._sent, self._new = self._new, []
        calls = [{"name": name, "input": given} for _, name, given in self._sent]
        self._link.sendall(json.dumps({"calls": calls}).encode() + b"\n")

    def _receive(self):
        data = self._link.recv(1 << 20)
        self._received += data
        if data and not self._received.endswith(b"\n"):
            return
        sent, self._sent = self._sent, []
        results = json.loads(self._received)["results"] if data else [{"error": "the caller is gone"}] * len(sent)
        self._received = b""
        for (place, _, _), result in zip(sent, results):
            if "error" in result:
                self._answer(place, "error", result["error"] + "\n")
            else:
                self._answer(place, "ok", json.dumps(result["result"], separators=(",", ":"), ensure_ascii=False) + "\n")

    def _answer(self, place, status, text):
        try:
            with open(place + ".output", "w", encoding="utf-8") as file:
                file.write(text)
            # Kept open: the function may not have opened its end yet, and what is in a pipe that nobody holds is lost.
            fd = os.open(place + ".status", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            self._open.append(fd)
            os.write(fd, status.encode() + b"\n")
        except OSError:
            # Whoever called is gone.
            pass


def run_bash(arguments, link):
    """Run the script and end as it does."""
    directory = tempfile.mkdtemp(prefix=".tools-", dir="/tmp")
    tools = specification()
    with open(os.path.join(directory, "functions"), "w", encoding="utf-8") as file:
        file.write(BASH_FUNCTIONS)
        for tool in tools:
            # Both names are of letters, digits, '_' and '-' only: the daemon has seen to it.
            file.write(f"{tool['function']}() {{ __gaoler_call '{tool['name']}' \"$@\"; }}\n")
    broker = BashBroker(link, directory)
    environment = {**os.environ, "BASH_ENV": os.path.join(directory, "functions"), "__GAOLER_TOOLS": directory}
    child = subprocess.Popen(["/usr/bin/bash", SCRIPT, *arguments], env=environment)
    status = broker.serve_until_gone(child)
    os.closerange(0, 3)
    if os.WIFSIGNALED(status):
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL) if os.WTERMSIG(status) not in (9, 19) else None
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.WEXITSTATUS(status))

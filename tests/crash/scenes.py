"""What is under way when somebody dies: requests that keep something, each with what may be kept of it."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.crash.world import Contents, Expected, kept
from tests.daemon import Answer, Daemon

CUT = (ConnectionError, http.client.HTTPException)
"""What the client of a killed daemon sees."""

Act = Callable[[Daemon], Answer]
"""Send the request. Of a daemon that is killed meanwhile comes an exception of :data:`CUT`."""


@dataclass(frozen=True)
class Scene:
    """A request to be interrupted. ``prepare`` gets a number, so that no two runs write the same bytes."""

    name: str
    prepare: Callable[[Daemon, int], tuple[Act, Expected]]
    at_most: int
    """Steps that the gate kills at."""
    settings: Mapping[str, str] = field(default_factory=dict)


def row(name: str, content: bytes, executable: int = 0) -> tuple[str, int, str, int]:
    return (name, len(content), hashlib.sha256(content).hexdigest(), executable)


def large(number: int) -> bytes:
    """More than is held in memory, as ``seq`` prints it."""
    return b"".join(b"%d\n" % each for each in range(number, 30000 + number))


def _new_session(daemon: Daemon, number: int) -> tuple[Act, Expected]:
    code = (
        f"seq {number} {29999 + number} > large; echo {number} > small; chmod +x small; mkdir -p empty;"
        f"mkdir -p .packages/some; echo {number} > .packages/some/thing.py"
    )
    files = (row("large", large(number)), row("small", b"%d\n" % number, 1))
    return lambda daemon: daemon.try_execute(code, "bash"), Expected(fresh=[Contents(files, ("empty",), 1)])


def _changed_session(daemon: Daemon, number: int) -> tuple[Act, Expected]:
    made = daemon.execute(f"echo {number} > changed; echo b{number} > deleted; echo c > untouched; mkdir going", "bash")
    session = made["session_id"]
    old = kept(daemon.state_dir).sessions[session]
    code = f"seq {number} {29999 + number} > changed; rm deleted; rmdir going; mkdir coming; echo n{number} > new"
    files = (row("changed", large(number)), row("new", b"n%d\n" % number), row("untouched", b"c\n"))
    new = Contents(files, ("coming",))
    return lambda daemon: daemon.try_execute(code, "bash", session_id=session), Expected({session: [old, new]})


def _upload(daemon: Daemon, number: int) -> tuple[Act, Expected]:
    one, two = large(number), b"u%d" % number

    def act(daemon: Daemon) -> Answer:
        return daemon.upload(("one.bin", one), ("two.bin", two))

    files = (row("one.bin", one), row("two.bin", two))
    # Each file is whole; the session of an upload without an answer is nobody's, and goes when it expires.
    return act, Expected(fresh=[Contents(), Contents(files[:1]), Contents(files)])


def _delete(daemon: Daemon, number: int) -> tuple[Act, Expected]:
    session = daemon.execute(f"echo {number} > f; mkdir -p .packages; echo {number} > .packages/p", "bash")[
        "session_id"
    ]
    old = kept(daemon.state_dir).sessions[session]
    return lambda daemon: daemon.request("DELETE", f"/v1/sessions/{session}"), Expected({session: [old, None]})


def _lasting(daemon: Daemon, number: int) -> tuple[Act, Expected]:
    """Its session is there before the code runs: an empty one is a whole one."""
    new = Contents((row("f", b"%d" % number),))
    code = f"x = {number}\nopen('f', 'w').write('{number}');"
    return lambda daemon: daemon.try_execute(code, "py", stateful=True), Expected(fresh=[Contents(), new])


def _lasting_again(daemon: Daemon, number: int) -> tuple[Act, Expected]:
    session = daemon.execute(f"x = {number}", "py", stateful=True)["session_id"]
    new = Contents((row("f", b"%d" % number),))
    code = "open('f', 'w').write(str(x));"
    return (
        lambda daemon: daemon.try_execute(code, "py", stateful=True, session_id=session),
        Expected({session: [Contents(), new]}),
    )


def _save(daemon: Daemon, number: int) -> tuple[Act, Expected]:
    """There is room for one: the second has the first one saved."""
    session = daemon.execute(f"x = {number}", "py", stateful=True)["session_id"]
    allowed: list[Contents | None] = [Contents(), Contents(states=1)]
    return lambda daemon: daemon.try_execute("1", "py", stateful=True), Expected({session: allowed}, [Contents()])


def _restore(daemon: Daemon, number: int) -> tuple[Act, Expected]:
    """The saved state comes back: afterwards it is held by the interpreter, and the other one is saved."""
    session = daemon.execute(f"x = {number}", "py", stateful=True)["session_id"]
    other = daemon.execute(f"y = {number}", "py", stateful=True)["session_id"]
    allowed: list[Contents | None] = [Contents(states=1), Contents()]

    def act(daemon: Daemon) -> Answer:
        answer = daemon.try_execute("x", "py", stateful=True, session_id=session)
        assert answer.status != 200 or answer.json["stdout"] == f"{number}\n", answer.body
        return answer

    return act, Expected({session: allowed, other: [Contents(), Contents(states=1)]})


ONE_LIVES = {"GAOLER_LIVE_SESSIONS": "1"}
SCENES = (
    Scene("an execution that leaves files and packages", _new_session, 2),
    Scene("an execution that changes a session", _changed_session, 1),
    Scene("an upload of two files", _upload, 1),
    Scene("the deletion of a session", _delete, 1),
    Scene("the first execution of a lasting session", _lasting, 1),
    Scene("the second execution of a lasting session", _lasting_again, 1),
    Scene("the saving of a lasting session", _save, 1, ONE_LIVES),
    Scene("the restoring of a lasting session", _restore, 1, ONE_LIVES),
)
LEAVES_FILES, FIRST_OF_LASTING, SECOND_OF_LASTING = SCENES[0], SCENES[4], SCENES[5]

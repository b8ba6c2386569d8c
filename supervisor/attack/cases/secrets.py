"""Group S from outside: keys of the daemon, looked for wherever a sandbox could see them."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from io import RawIOBase
from pathlib import Path
from typing import Final

import trio

from supervisor.attack import host
from supervisor.attack.case import Broken, Collection, Untried
from supervisor.attack.cases.files_tools import new_session, open_tools
from supervisor.attack.target import Target

COLLECTION: Final = Collection()
_case: Final = COLLECTION.case

REVOKE: Final = "Revoke the keys ('gaoler keys'), make new ones; report it with the JSON of this run."
_CHUNK_BYTES: Final = 4 << 20
_MAPPED_BYTES: Final = 256 << 20
"""So much is looked at of one process."""
_OF_A_NAME: Final = 2
"""So many processes of one name: cells are alike."""


def planted(target: Target) -> dict[str, bytes]:
    """Give what nobody may see, in every form: the key of the callers, and the secret of links and ids."""
    found = {"the API key": target.me.key.encode()}
    try:
        found["the secret of links and ids"] = (target.state_directory / "data" / "hint_key").read_bytes()
    except OSError:
        pass  # it is made when it is first needed
    for name, raw in list(found.items()):
        found[f"{name}, in base64"] = base64.b64encode(raw).rstrip(b"=")
        found[f"{name}, in hex"] = raw.hex().encode()
    return found


@_case(
    "S1",
    "what our processes hold",
    promise="No process but the daemon itself holds a key of it: not in variables, arguments, descriptors or memory.",
    meaning="Code that breaks out of a sandbox, or breaks the jailer, gets the keys of all callers with it.",
    mend=REVOKE,
    place="twin",
)
async def held_by_others(target: Target) -> str:
    """Fill sandboxes with life, then look into each process from outside, as the host's root can."""
    hidden = planted(target)
    daemon = target.daemon_pid
    if not any(found for found in found_in(_memory_of(daemon), hidden)):
        raise Untried("memory of other processes cannot be read here, so nothing would be found")
    looked: dict[str, int] = {}
    async with open_tools(target) as tools:
        await tools.call("execute_code", code="kept = 1")
        await tools.call("start_process", command="exec sleep 600")
        for pid in [pid for pid in target.family() if pid != daemon]:
            name = host.process_name(pid)
            looked[name] = looked.get(name, 0) + 1
            places = {place: [_read(pid, place)] for place in ("environ", "cmdline")}
            _must_hold_nothing(name, places, hidden)
            if looked[name] <= _OF_A_NAME:
                await trio.to_thread.run_sync(_must_hold_nothing, name, {"memory": _memory_of(pid)}, hidden)
            _must_have_no_way(pid, name, target.state_directory)
    return f"{sum(looked.values())} processes of {len(looked)} kinds"


def _must_hold_nothing(name: str, places: Mapping[str, Iterable[bytes]], hidden: Mapping[str, bytes]) -> None:
    for place, pieces in places.items():
        for what in found_in(pieces, hidden):
            raise Broken(f"{name} has {what} in its {place}")


def _must_have_no_way(pid: int, name: str, state: Path) -> None:
    """It has no descriptor and no mapping of what the daemon keeps."""
    kept = str(state / "data")
    for place in ("fd", "map_files"):
        try:
            entries = list(Path(f"/proc/{pid}/{place}").iterdir())
        except OSError:
            continue  # it has ended
        for entry in entries:
            try:
                target = str(entry.readlink())
            except OSError:
                continue
            if target.startswith(kept):
                raise Broken(f"{name} holds {target} open")


def _read(pid: int, place: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{place}").read_bytes()
    except OSError:
        return b""  # it has ended


def _memory_of(pid: int) -> Iterator[bytes]:
    """Give what a process has written, in pieces that overlap; files and what nobody can read are left out."""
    left = _MAPPED_BYTES
    try:
        with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
            for line in maps:
                area, rights = line.split()[:2]
                start, end = (int(each, 16) for each in area.split("-"))
                if rights.startswith("rw") and end < 1 << 63:
                    for piece in _area(memory, start, min(end, start + left)):
                        yield piece
                        left -= len(piece)
    except OSError:
        return  # it has ended


def _area(memory: RawIOBase, start: int, end: int) -> Iterator[bytes]:
    at, tail = start, b""
    while at < end:
        try:
            memory.seek(at)
            piece = memory.read(min(_CHUNK_BYTES, end - at))
        except OSError:
            return
        if not piece:
            return
        yield tail + piece
        tail, at = piece[-256:], at + len(piece)


def found_in(pieces: Iterable[bytes], hidden: Mapping[str, bytes]) -> Iterator[str]:
    """Name what is hidden and found all the same."""
    for piece in pieces:
        for what, secret in hidden.items():
            if secret in piece:
                yield what


_SEARCHING: Final = """
cd /
control=CONTROL
for place in /proc/[0-9]*; do
    for name in environ cmdline maps status; do
        tr '\\0' '\\n' < $place/$name
    done
    ls -l $place/fd $place/cwd $place/root $place/exe
done 2>/dev/null > /tmp/seen
env >> /tmp/seen
grep -rsEaoh "$control|gk-[0-9a-f]{48}" /etc /run /tmp /code /mnt /dev/shm /home /root /opt /var /srv /boot 2>/dev/null
timeout 5 grep -sEaoh "gk-[0-9a-f]{48}" /proc/self/mem /dev/mem /proc/kcore /proc/1/mem 2>/dev/null
echo DONE
"""


@_case(
    "S1",
    "what a program finds",
    promise="A program that looks everywhere it may finds no key: in no file, variable, argument or descriptor.",
    meaning="Anybody who may run code is given the keys of the daemon.",
    mend=REVOKE + " Then find out where it lies: nothing secret belongs into /usr, /etc or the image.",
)
async def found_inside(target: Target) -> str:
    """Search by form, so that the search itself does not contain what it looks for; a control has to be found."""
    target.need_language("bash")
    control = f"attack-control-{secrets.token_hex(8)}"
    session = await new_session(target, ("control.txt", control.encode()))
    # In two halves, or it would find its own text.
    program = _SEARCHING.replace("CONTROL", f"{control[:10]}'{control[10:]}'")
    result = await target.execute(program, "bash", session_id=session)
    lines = str(result["stdout"]).splitlines()
    if lines[-1:] != ["DONE"] or control not in lines:
        raise Broken(f"the search does not find what is there: {lines[:3]} {str(result['stderr'])[-200:]!r}")
    if any(line.startswith("gk-") for line in lines):
        raise Broken("a program finds a key of the daemon")
    for what in found_in([json.dumps(result).encode()], planted(target)):
        raise Broken(f"a program's output has {what}")
    return "files, processes, variables"

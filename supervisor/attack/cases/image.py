"""Group K from both sides: where an image has a root of its own, what a sandbox can see is not the host's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import trio

from supervisor.attack.case import Broken, Collection, Untried
from supervisor.attack.target import Target
from supervisor.errors import ConfigurationError
from supervisor.preparation.prepare import find_image

COLLECTION: Final = Collection()
_case: Final = COLLECTION.case

SYSTEM: Final = ("/usr", "/etc")
"""Of the host: its programs and its settings."""

LOOK: Final = r"""
import json, os
seen = {}
def note(path):
    try:
        found = os.stat(path)
    except OSError:
        return
    seen[path] = [found.st_dev, found.st_ino]
def lines(name):
    with open(name) as file:
        return [line.split() for line in file]
for fields in lines("/proc/self/mountinfo"):
    note(fields[4])
for pid in filter(str.isdigit, os.listdir("/proc")):
    for name in ("exe", "root", "cwd"):
        note(f"/proc/{pid}/{name}")
for fields in lines("/proc/self/maps"):
    if len(fields) > 5 and fields[5].startswith("/"):
        major, minor = (int(part, 16) for part in fields[3].split(":"))
        seen["mapped " + fields[5]] = [os.makedev(major, minor), int(fields[4])]
        note(fields[5])
for top in ("/", "/usr", "/usr/lib", "/etc", "/opt"):
    for name in os.listdir(top):
        note(os.path.join(top, name))
print(json.dumps(seen))
"""
"""What a sandbox can see of file systems: each mount, what runs and what is mapped, by device and inode."""

_IN_BASH: Final = f"exec python3 - <<'END'{LOOK}END\n"


@_case(
    "FS-OWN",
    "an image with a root of its own",
    promise="Where the image has a root of its own, nothing of the host's /usr and /etc is seen in a sandbox.",
    meaning="What sandboxes see depends on the host after all, and what the operator installed there can be read.",
    mend="Compare policies/mounts with the one that was shipped; build the image again: gaoler image build --base own.",
)
async def own_root(target: Target) -> str:
    """Let a waiting interpreter and a program say what they see, and look for it on the host."""
    try:
        base = find_image(target.settings).manifest.base
    except ConfigurationError as error:
        raise Untried(f"the image cannot be read from here: {error}") from None
    if base != "own":
        raise Untried("the image stands on the host's /usr")
    hosts = await trio.to_thread.run_sync(lambda: set(_files_of_host()))
    count = 0
    for look in (partial(target.execute, LOOK, "py"), partial(target.execute, _IN_BASH, "bash")):
        seen = _seen(await look())
        count += len(seen)
        found = sorted(name for name, (device, inode) in seen.items() if (device, inode) in hosts)
        if found:
            raise Broken(f"of the host is seen: {', '.join(found[:5])}")
    return f"{count} places in sandboxes, none of {len(hosts)} of the host's"


def _files_of_host() -> Iterator[tuple[int, int]]:
    for top in SYSTEM:
        for directory, _names, files in os.walk(top):
            for path in (directory, *(os.path.join(directory, name) for name in files)):  # noqa: PTH118 - of 100 000 files
                try:
                    status = os.lstat(path)
                except FileNotFoundError:
                    continue
                yield status.st_dev, status.st_ino


def _seen(result: dict[str, Any]) -> dict[str, tuple[int, int]]:
    try:
        found = json.loads(result["stdout"])
        seen = {str(name): (int(device), int(inode)) for name, (device, inode) in found.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise Broken(f"the program that looks around failed ({error}): {result['stderr'][-300:]}") from None
    if not seen.keys() >= {"/", "/usr", "/usr/bin", "/etc"}:
        raise Broken(f"the program that looks around did not see the system: {sorted(seen)[:5]}")
    return seen

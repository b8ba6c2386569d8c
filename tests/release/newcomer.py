"""The way of a newcomer: an empty Debian, a clone, ``make run``, the README's command; each step timed.

    python -m tests.release.newcomer [--suite NAME] [--test] [--keep]

As root. ``--test`` runs ``make test`` there too, which takes as long as it takes here, and longer. The daemon listens on
loopback of this host, on a port of its own, and has a state directory of its own name: what runs here already is not met.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from supervisor.jailer.cgroup_subtree import remove_subtree
from tests.daemon import ROOT
from tests.release.newcomer_root import inside, make_root

STATE_DIR: Final = Path("/var/lib/gaoler-newcomer")
_CLONE: Final = "/root/gaoler"
_KEY: Final = re.compile(r"API key\s+(gk-\w+)")
_PATIENCE_SECONDS: Final = 1800


def main() -> None:
    """Go the way, and say how long each step took; status 1 if one went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--suite", default="", help="release of Debian (default: this host's)")
    parser.add_argument("--test", action="store_true", help="run the whole gate there too")
    parser.add_argument("--keep", action="store_true", help="leave the root where it is")
    given = parser.parse_args()
    root = ROOT / ".cache" / "newcomer"
    shutil.rmtree(root, ignore_errors=True)
    root.parent.mkdir(exist_ok=True)
    try:
        walk(root, given.suite, test=given.test)
    finally:
        remove_subtree(STATE_DIR)
        if not given.keep:
            shutil.rmtree(root)


def walk(root: Path, suite: str, *, test: bool) -> None:
    """Go the way in a root that is made for it."""
    with step("an empty Debian with git, make and python3, by mmdebstrap"):
        make_root(root, suite)
    subprocess.run(["git", "clone", "-q", "--bare", ROOT, root / "srv" / "gaoler.git"], check=True)
    with step("git clone"):
        subprocess.run(inside(root, "git", "clone", "-q", "/srv/gaoler.git", _CLONE), cwd=ROOT, check=True)
    for which in ("the first", "the second"):
        with step(f"make run, {which} time, until it serves, and the README's command"):
            run_and_ask(root)
    if test:
        with step("make test"):
            subprocess.run(inside(root, "make", "-C", _CLONE, "test"), cwd=ROOT, check=True)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Say how long the block took."""
    began = time.monotonic()
    yield
    print(f"{time.monotonic() - began:8.1f} s  {name}", flush=True)


def run_and_ask(root: Path) -> None:
    """Start it as the README says, ask what the README asks, and stop it as somebody at a terminal does.

    Raises:
        RuntimeError: it ended by itself, or answered otherwise than the README shows.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = inside(root, "make", "-C", _CLONE, "run", f"BIND={address}", f"STATE_DIR={STATE_DIR}")
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            key = wait_listening(process)
            asked, shown = readme_command(address, key)
            answer = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True).stdout
            if not re.fullmatch(shown, answer.strip()):
                raise RuntimeError(f"the README shows something else than\n{answer}")
            end_daemon(process)
        finally:
            process.kill()


def wait_listening(process: subprocess.Popen[str]) -> str:
    """Read what ``make run`` prints until the daemon listens; give the key."""
    lines: list[str] = []
    for line in process.stdout or ():
        lines.append(line)
        if "listening on" in line:
            return str(_KEY.findall("".join(lines))[0])
    raise RuntimeError("make run ended:\n" + "".join(lines[-40:]))


def readme_command(address: str, key: str) -> tuple[str, str]:
    """Give the README's first command, for this daemon, and a pattern of what the README shows beneath."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^\$ (curl .*?)\n(\{.*?)\n```", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise RuntimeError("the README has no command to try")
    shown = ".*".join(re.escape(part) for part in found[2].split("…"))
    return f"KEY={key}\n" + found[1].replace("127.0.0.1:8000", address), shown


def end_daemon(process: subprocess.Popen[str]) -> None:
    """Send what Ctrl-C sends to the daemon, which is the only process of that name below ours."""
    from tests.daemon import descendants, process_name

    serving = [pid for pid in descendants(process.pid) if process_name(pid) == "gaoler"]
    subprocess.run(["kill", f"-{signal.SIGTERM.value}", str(min(serving))], check=True)
    process.wait(timeout=60)


if __name__ == "__main__":
    main()

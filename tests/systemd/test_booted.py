"""Gaoler in a booted systemd, from ``gaoler install`` to ``gaoler uninstall``: ``make test-systemd``. Minutes.

``GAOLER_TEST_SYSTEMD`` names the releases of Debian. Each is one emulated machine, for all tests of this file, which go
through it in order: what an operator does in the life of an installation.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor import __version__
from tests.s3_server import run_s3_server
from tests.systemd.fleet import GATEWAY, REDIS, WORKER, Fleet, lay_out, left, note
from tests.systemd.machine import Machine, booted
from tests.systemd.root import FLEET, build_wheel

SUITES = os.environ.get("GAOLER_TEST_SYSTEMD", "").split()
NEXT = f"{__version__}.post1"
ASK = "/opt/gaoler/bin/python /given/in_guest.py"
DROP_INS = "/etc/systemd/system/gaoler.service.d"
ATTEMPTS = 5
LONG = "sleep 45"
"""Ended by the test when it has seen what it waits for, and by itself before anybody's patience is over."""
RUNNING = "systemctl is-active -q gaoler.service"
KEY_FILE = """
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
key = Ed25519PrivateKey.generate().public_key()
print(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())
"""
KEY_UNIT = "[Service]\nLoadCredential=chat.pem:/etc/gaoler/chat.pem\nEnvironment=GAOLER_JWT_PUBLIC_KEY=%%d/chat.pem\n"
ASKED = 'print(kept + int(open("kept.txt").read()))'
GROUP = "/sys/fs/cgroup$(systemctl show -P ControlGroup gaoler.service)"

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not SUITES, reason="boots machines with systemd for minutes: make test-systemd"),
    pytest.mark.time_limit(1400),  # a disk is made first
]


@pytest.fixture(scope="module", params=SUITES or ["none"])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    with tempfile.TemporaryDirectory(prefix="gt-wheels-") as scratch:
        now, later = Path(scratch, "now"), Path(scratch, "later")
        given = [
            build_wheel(now),
            build_wheel(later, NEXT),
            Path(shutil.copy(Path(__file__).parent / "in_guest.py", scratch)),
        ]
        with booted(request.param, given, outside=request.param in FLEET) as running:
            yield running


@pytest.fixture(scope="module")
def fleet(machine: Machine) -> Iterator[Fleet]:
    """All that gateways and workers need is there, and no daemon runs any more."""
    if machine.suite not in FLEET:
        pytest.skip(f"a fleet is run in the machines of {', '.join(FLEET)}")
    with run_s3_server() as s3:
        found = Fleet(s3, s3.new_bucket())
        machine.run("systemctl disable --now gaoler.socket gaoler.service")
        lay_out(machine, found)
        yield found


def _pip(machine: Machine, version: str) -> None:
    wheel = f"/given/gaoler-{version}-py3-none-any.whl"
    machine.run(f"/opt/gaoler/bin/pip install -q --disable-pip-version-check --no-index --no-deps {wheel}")


def _mcp(machine: Machine, code: str, session: str = "") -> dict[str, Any]:
    for _ in range(ATTEMPTS):
        result = json.loads(machine.run(f"{ASK} mcp '{code}' {session}").splitlines()[-1])
        # As in _await_sandboxes: what is asked for here may be done twice.
        if "the server's fault, not the program's: try again" not in json.dumps(result):
            break
    assert not result.get("isError"), result
    return dict(result["structuredContent"])


def _kept(machine: Machine) -> str:
    """Begin a session with a variable and a file, of which :data:`ASKED` prints the sum; give its id."""
    kept = _mcp(machine, 'kept = 41; print(1, file=open("kept.txt", "w"))')
    return str(kept.get("session") or kept["session_id"])


def _http(machine: Machine, body: str, *more: str) -> str:
    return str(json.loads(machine.run(f"{ASK} http '{body}' {' '.join(more)}"))["stdout"])


def _await_sandboxes(machine: Machine) -> None:
    """An emulated processor, shared with others, may miss the time that a jail has: then the next one is tried."""
    machine.until(f"""{ASK} http '{{"lang": "py", "code": "print(6 * 7)"}}' 2>/dev/null | grep -q 42""")


def test_it_is_installed_from_a_wheel_and_serves_over_both_doors_and_both_sockets(machine: Machine) -> None:
    _pip(machine, __version__)
    shown = machine.run("/opt/gaoler/bin/gaoler install --dry-run")
    assert "+++ /etc/systemd/system/gaoler.service" in shown
    machine.run("test ! -e /etc/systemd/system/gaoler.service && /opt/gaoler/bin/gaoler install --yes")
    assert "199999" in machine.run("id gaoler")
    machine.run("install -m 600 /dev/stdin /etc/credstore/gaoler.api_key <<< key-of-a-credential-0001")
    # A key that is a file, in the credentials' directory: by its path.
    machine.run(f"/opt/gaoler/bin/python -c '{KEY_FILE}' | install -m 600 /dev/stdin /etc/gaoler/chat.pem")
    machine.run(f"install -d {DROP_INS} && printf '{KEY_UNIT}' > {DROP_INS}/key.conf && systemctl daemon-reload")
    machine.run("systemctl enable --now gaoler.socket gaoler.service")
    assert machine.run("systemctl show -P StatusText gaoler.service").startswith("listening on ")
    _await_sandboxes(machine)
    assert _http(machine, '{"lang": "py", "code": "print(6 * 7)"}') == "42\n"
    assert _http(machine, '{"lang": "bash", "code": "echo by unix"}', "/run/gaoler/gaoler.sock") == "by unix\n"
    assert "42" in json.dumps(_mcp(machine, "print(40 + 2)"))
    version = machine.run("systemctl --version | head -1")
    score = machine.run("systemd-analyze security gaoler.service --no-pager | tail -1")
    print(f"{machine.suite}: {version.strip()}; systemd-analyze security: {score.strip()}")


def test_a_reload_drops_no_request_and_says_what_needs_a_restart(machine: Machine) -> None:
    before = machine.run("systemctl show -P MainPID gaoler.service")
    machine.run("printf '[execution]\\nconcurrent = 3\\n' >> /etc/gaoler/gaoler.toml")
    machine.run(
        f"""{ASK} http '{{"lang": "bash", "code": "sleep 8; echo through"}}' > /tmp/through 2> /dev/null & echo"""
    )
    machine.until("pgrep -f '^sleep 8' > /dev/null || grep -rqs . /tmp/through")
    machine.run("systemctl reload gaoler.service")
    machine.until("journalctl -u gaoler.service -o cat | grep -q 'only after a restart: execution.concurrent'")
    machine.until("grep -q through /tmp/through")
    machine.until(RUNNING)
    assert machine.run("systemctl show -P MainPID gaoler.service") == before
    # The key, a credential, holds as before.
    _await_sandboxes(machine)
    # A file that is wrong is refused to who asks, and nothing else happens.
    machine.run("cp /etc/gaoler/gaoler.toml /tmp/good; echo nonsense = 1 >> /etc/gaoler/gaoler.toml")
    assert machine.attempt("systemctl reload gaoler.service")[0] != 0
    machine.run("cp /tmp/good /etc/gaoler/gaoler.toml")
    assert machine.run("systemctl show -P MainPID gaoler.service") == before


def test_a_daemon_that_hangs_is_killed_by_the_watchdog_and_comes_back(machine: Machine) -> None:
    machine.run("mkdir -p /run/systemd/system/gaoler.service.d")
    machine.run("printf '[Service]\\nWatchdogSec=20\\n' > /run/systemd/system/gaoler.service.d/test.conf")
    machine.run("systemctl daemon-reload && systemctl restart gaoler.service")
    first = machine.run("systemctl show -P MainPID gaoler.service").strip()
    machine.run(f"kill -STOP {first}")
    machine.until("journalctl -u gaoler.service -o cat | grep -q 'Watchdog timeout'")
    machine.until(f"{RUNNING} && test $(systemctl show -P NRestarts gaoler.service) = 1")
    assert machine.run("systemctl show -P MainPID gaoler.service").strip() != first
    _await_sandboxes(machine)
    machine.run("rm -r /run/systemd/system/gaoler.service.d && systemctl daemon-reload")


def test_a_daemon_that_is_killed_leaves_no_process_behind(machine: Machine) -> None:
    machine.run("systemctl restart gaoler.service")
    _await_sandboxes(machine)
    machine.run(f"""{ASK} http '{{"lang": "bash", "code": "sleep 100"}}' > /dev/null 2>&1 & echo""")
    machine.until("pgrep -f '^sleep 100' > /dev/null")
    machine.run(
        f"find {GROUP} -name cgroup.procs -exec cat {{}} + | sort -n > /tmp/before; test $(wc -l < /tmp/before) -gt 5"
    )
    machine.run("kill -KILL $(systemctl show -P MainPID gaoler.service)")
    machine.until("for pid in $(cat /tmp/before); do test ! -e /proc/$pid || exit 1; done", 60)
    machine.until(f"{RUNNING} && test $(systemctl show -P NRestarts gaoler.service) = 1")
    _await_sandboxes(machine)


def test_stopping_lets_what_runs_end_and_a_session_goes_on_in_the_next_version(machine: Machine) -> None:
    session = _kept(machine)
    machine.run(f"""{ASK} http '{{"lang": "bash", "code": "{LONG}; echo ended"}}' > /tmp/ended 2> /dev/null & echo""")
    machine.until(f"pgrep -f '^{LONG}' > /dev/null")
    machine.run("systemctl stop --no-block gaoler.service")
    machine.until("journalctl -u gaoler.service -o cat | grep -q 'draining: 1 requests under way'")
    machine.run(f"pkill -f '^{LONG}'")
    machine.until("grep -q ended /tmp/ended", 30)
    machine.run("systemctl stop gaoler.service")
    assert machine.run("systemctl show -P Result gaoler.service").strip() == "success"
    # Nothing of it is left; a caller that comes now waits in the socket, and has the next version answer.
    assert machine.run("pgrep -u 199999,200000 || echo none").strip() == "none"
    assert machine.run("find /sys/fs/cgroup/gaoler.slice -name 'jail-*' | wc -l; ip netns list | wc -l") == "0\n0\n"
    assert machine.run("grep -c -e nsjail -e gaoler/run /proc/1/mountinfo || true").strip() == "0"
    machine.run("rm -f /etc/systemd/system/gaoler.service")
    _pip(machine, NEXT)
    assert "+++ /etc/systemd/system/gaoler.service" in machine.run("/opt/gaoler/bin/gaoler install --yes")
    assert "42" in json.dumps(_mcp(machine, ASKED, session))
    assert NEXT in machine.run("/opt/gaoler/bin/gaoler --version")


def test_a_gateway_and_a_worker_run_from_their_units_with_credentials_of_systemd(
    machine: Machine, fleet: Fleet
) -> None:
    # Enabled, or systemd forgets what became of one that has stopped.
    machine.run(f"systemctl enable --now {WORKER} {GATEWAY}")
    _await_sandboxes(machine)
    assert _http(machine, '{"lang": "py", "code": "print(6 * 7)"}') == "42\n"
    fleet.session = _kept(machine)
    assert "42" in json.dumps(_mcp(machine, ASKED, fleet.session))
    assert fleet.objects > 0
    for unit, port in ((GATEWAY, 8000), (WORKER, 8001)):
        status = machine.run(f"systemctl show -P StatusText {unit}")
        assert status.startswith(f"listening on http://127.0.0.1:{port}")
        score = machine.run(f"systemd-analyze security {unit} --no-pager | tail -1")
        print(f"{machine.suite}: {unit}: systemd-analyze security: {score.strip()}")
    before = machine.run(f"systemctl show -P MainPID {GATEWAY}")
    machine.run(f"systemctl reload {GATEWAY}")
    machine.until(f"systemctl is-active -q {GATEWAY}")
    assert machine.run(f"systemctl show -P MainPID {GATEWAY}") == before


def test_a_worker_that_is_stopped_lets_what_it_runs_end_and_leaves_nothing_and_redis_goes_after_it(
    machine: Machine, fleet: Fleet
) -> None:
    note(machine, WORKER)
    machine.run(f"""{ASK} http '{{"lang": "bash", "code": "{LONG}; echo over"}}' > /tmp/over 2>&1 & echo""")
    machine.until(f"pgrep -f '^{LONG}' > /dev/null")
    machine.run(f"systemctl stop --no-block {WORKER}")
    machine.until(f"journalctl -u {WORKER} -o cat | grep -q 'draining: 1 jobs are under way'")
    machine.run(f"pkill -f '^{LONG}'")
    machine.until("""grep -q '"stdout":"over' /tmp/over""", 60)
    # As when the host goes down, and Redis with it: sessions are saved there.
    machine.run(f"systemctl stop {REDIS} {WORKER}")
    assert machine.run(f"systemctl show -P Result {WORKER}").strip() == "success"
    assert left(machine) == ""
    worker_gone = int(machine.run(f"systemctl show -P InactiveEnterTimestampMonotonic {WORKER}"))
    redis_told = int(machine.run(f"systemctl show -P ActiveExitTimestampMonotonic {REDIS}"))
    assert 0 < worker_gone < redis_told


def test_a_gateway_that_is_killed_comes_back_and_a_session_goes_on_at_the_next_worker(
    machine: Machine, fleet: Fleet
) -> None:
    note(machine, GATEWAY)
    machine.run(f"systemctl start {REDIS}; kill -KILL $(systemctl show -P MainPID {GATEWAY})")
    machine.run(f"systemctl start --no-block {WORKER}")
    machine.until("for pid in $(cat /tmp/processes); do test ! -e /proc/$pid || exit 1; done", 60)
    machine.until(f"systemctl is-active -q {GATEWAY} && test $(systemctl show -P NRestarts {GATEWAY}) = 1")
    machine.until(f"systemctl is-active -q {WORKER}")
    # The variable was in Redis, the file in S3.
    assert "42" in json.dumps(_mcp(machine, ASKED, fleet.session))


def test_uninstalling_takes_the_units_away_and_leaves_the_state(machine: Machine) -> None:
    machine.run("/opt/gaoler/bin/gaoler uninstall --yes")
    assert machine.attempt("systemctl cat gaoler.service")[0] != 0
    machine.run(
        "test ! -e /etc/systemd/system/gaoler.socket && test -d /var/lib/gaoler/data && test -e /etc/gaoler/gaoler.toml"
    )
    assert machine.run("pgrep -u 199999 || echo none").strip() == "none"
    machine.run("/opt/gaoler/bin/gaoler uninstall --purge --yes && test ! -e /var/lib/gaoler")

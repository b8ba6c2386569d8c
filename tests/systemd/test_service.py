"""What a service manager and the daemon say to each other, with real sockets and a real daemon, without systemd."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from supervisor.errors import ConfigurationError
from supervisor.service.given import take_service
from supervisor.service.notify import open_notifier
from supervisor.service.reload import leave_file, told_file
from supervisor.settings.loading import load
from supervisor.settings.tree import Settings
from tests.daemon import GAOLER, KEY, ROOT, Daemon, eventually, started
from tests.fleet_world import run_fleet

WATCHDOG_SECONDS = 4


@dataclass
class Manager:
    """The side of systemd: a datagram socket that is read for as long as it exists."""

    path: Path
    told: list[dict[str, str]] = field(default_factory=list)
    socket: socket.socket = field(default_factory=lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    reader: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.socket.bind(str(self.path))
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        while data := self.socket.recv(4096):
            self.told.append(dict(line.split("=", 1) for line in data.decode().splitlines()))

    def await_told(self, name: str, value: str | None = None, since: int = 0) -> dict[str, str]:
        def found() -> list[dict[str, str]]:
            return [each for each in self.told[since:] if name in each and value in (None, each[name])]

        eventually(lambda: bool(found()))
        return found()[0]

    def close(self) -> None:
        self.socket.sendto(b"", str(self.path))
        # It may have words of the daemon's to read before that one.
        self.reader.join()
        self.socket.close()


@dataclass
class Managed:
    """A daemon that was started as systemd starts one, with two sockets: of TCP, and of unix."""

    daemon: Daemon
    manager: Manager
    tcp: socket.socket
    unix: Path
    settings: Path


@pytest.fixture
def managed(image_dir: Path, state_dir: Path) -> Iterator[Managed]:
    tcp = socket.create_server(("127.0.0.1", 0))
    path, credentials, settings = state_dir / "in.sock", state_dir / "credentials", state_dir / "gaoler.toml"
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(path))
    unix.listen()
    credentials.mkdir()
    (credentials / "api_key").write_text(f"{KEY}\n")
    settings.write_text(f'state_dir = "{state_dir}"\nimage_dir = "{image_dir}"\n[rates]\nexec = "off"\n')
    manager = Manager(state_dir / "notify.sock")
    environment = {
        "PATH": os.environ["PATH"],
        "NOTIFY_SOCKET": str(manager.path),
        "WATCHDOG_USEC": str(WATCHDOG_SECONDS * 1_000_000),
        "LISTEN_FDS": "2",
        "CREDENTIALS_DIRECTORY": str(credentials),
    }
    as_systemd = ["bash", "-c", f'LISTEN_PID=$$ exec "$@" 3<&{tcp.fileno()} 4<&{unix.fileno()}', "bash"]
    with (state_dir / "test.log").open("w") as log:
        process = subprocess.Popen(
            [*as_systemd, *GAOLER, "serve", "--config", str(settings)],
            env=environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            text=True,
            pass_fds=(tcp.fileno(), unix.fileno()),
        )
    started.append((state_dir, process))
    address = "{}:{}".format(*tcp.getsockname())
    yield Managed(Daemon(process, state_dir, address), manager, tcp, path, settings)
    manager.close()
    tcp.close()
    unix.close()


@pytest.mark.root
def test_a_daemon_serves_on_the_sockets_it_is_given_says_so_and_drains_when_it_is_stopped(managed: Managed) -> None:
    daemon, manager = managed.daemon, managed.manager
    assert manager.await_told("READY", "1")["STATUS"].startswith(f"listening on http://{daemon.address}")
    assert daemon.execute("print(6 * 7)")["stdout"] == "42\n"
    by_unix = Daemon(daemon.process, daemon.state_dir, f"unix:{managed.unix}")
    assert by_unix.execute("print('unix')")["stdout"] == "unix\n"
    # The watchdog is fed by the loop, after the jailer has answered; a jailer that hangs is not taken for work.
    manager.await_told("WATCHDOG", "1")
    jailer = daemon.named("gaoler-jailer")
    os.kill(jailer, signal.SIGSTOP)
    eventually(lambda: any("the watchdog is not fed" in line for line in daemon.lines()))
    fed = len(manager.told)
    os.kill(jailer, signal.SIGCONT)
    manager.await_told("WATCHDOG", "1", since=fed)
    # What runs may end, and is answered; a new connection waits for the next daemon, in the socket that stays.
    answers: list[str] = []
    code = "echo a; (exec -a at-work sleep 50); echo b"
    work = threading.Thread(target=lambda: answers.append(daemon.execute(code, "bash")["stdout"]))
    work.start()
    eventually(lambda: bool(_at_work(daemon)))
    daemon.process.send_signal(signal.SIGTERM)
    told = manager.await_told("STOPPING", "1")
    assert told["STATUS"] == "draining: 1 requests under way"
    assert int(told["EXTEND_TIMEOUT_USEC"]) >= 20_000_000
    late = socket.create_connection(managed.tcp.getsockname())
    # It works until here, however long all that took.
    for pid in _at_work(daemon):
        os.kill(pid, signal.SIGTERM)
    work.join()
    assert answers == ["a\nb\n"]
    assert daemon.process.wait(30) == 0, daemon.log_path.read_text()[-2000:]
    late.close()


def _at_work(daemon: Daemon) -> list[int]:
    def command(pid: int) -> bytes:
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return b""

    return [pid for pid in daemon.family() if command(pid).startswith(b"at-work\0")]


@pytest.mark.root
def test_a_reload_takes_other_keys_and_rules_and_says_what_needs_a_restart(managed: Managed) -> None:
    daemon, manager = managed.daemon, managed.manager
    manager.await_told("READY", "1")
    other = "another-key-0123456789abcdef"
    (daemon.state_dir / "credentials" / "api_key").write_text(other)
    managed.settings.write_text(managed.settings.read_text() + "[execution]\nconcurrent = 3\n")
    answer = _reload(managed)
    assert answer.returncode == 0, answer.stderr
    assert "execution.concurrent" in answer.stdout
    since = next(index for index, each in enumerate(manager.told) if "READY" in each) + 1
    manager.await_told("READY", "1", since)
    reloading = next(each for each in manager.told if "RELOADING" in each)
    assert int(reloading["MONOTONIC_USEC"]) > 0
    assert daemon.try_execute("print(1)").status == 401
    assert _executes(daemon, other)
    assert any("only after a restart: execution.concurrent" in line for line in daemon.lines())
    # Who does not see the credentials that were there at the start changes no key.
    assert _reload(managed, credentials=False).returncode == 0
    eventually(lambda: sum("reloaded" in line for line in daemon.lines()) == 2)
    assert _executes(daemon, other)
    # What is wrong is said to who asks, and changes nothing.
    managed.settings.write_text("nonsense = 1\n")
    assert _reload(managed).returncode == 78
    assert _executes(daemon, other)
    daemon.stop()


@pytest.mark.root
@pytest.mark.parametrize("planted", ["link", "dangling link", "pipe", "hard link", "file"])
@pytest.mark.parametrize("name", ["reload-all.json", ".reload-all.json.new"])
def test_what_a_captured_daemon_puts_in_the_way_of_a_reload_leads_root_nowhere(
    tmp_path: Path, planted: str, name: str
) -> None:
    """Root writes into a directory in which the daemon may have put anything."""
    secret, data = tmp_path / "secret", tmp_path / "data"
    secret.write_text("root's")
    data.mkdir()
    trap = data / name
    match planted:
        case "link":
            trap.symlink_to(secret)
        case "dangling link":
            trap.symlink_to(tmp_path / "made")
        case "pipe":
            os.mkfifo(trap)
        case "hard link":
            os.link(secret, trap)
        case _:
            trap.write_text("older")
    path = told_file(data, "all")
    leave_file(path, b"told", 199_999)
    found = path.lstat()
    assert (stat.S_IFMT(found.st_mode), stat.S_IMODE(found.st_mode), found.st_uid) == (stat.S_IFREG, 0o600, 199_999)
    assert path.read_bytes() == b"told"
    assert (secret.read_text(), secret.stat().st_uid, (tmp_path / "made").exists()) == ("root's", 0, False)
    assert [each.name for each in data.iterdir()] == ["reload-all.json"]


@pytest.mark.root
def test_a_directory_in_the_way_of_a_reload_fails_it_with_a_word(tmp_path: Path) -> None:
    (tmp_path / ".reload-all.json.new").mkdir()
    with pytest.raises(ConfigurationError) as refused:
        leave_file(told_file(tmp_path, "all"), b"told", 199_999)
    assert refused.value.field == "reload"


def _executes(daemon: Daemon, key: str) -> bool:
    body = b'{"lang": "py", "code": "print(1)"}'
    return daemon.request("POST", "/v1/exec", body, {"Content-Type": "application/json"}, key=key).status == 200


def _reload(managed: Managed, *, credentials: bool = True) -> subprocess.CompletedProcess[str]:
    place = {"CREDENTIALS_DIRECTORY": str(managed.daemon.state_dir / "credentials")} if credentials else {}
    environment = {"PATH": os.environ["PATH"], **place}
    command = [*GAOLER, "reload", "--pid", str(managed.daemon.process.pid), "--config", str(managed.settings)]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)


def test_notifications_reach_a_path_and_an_abstract_socket_as_one_datagram_each(tmp_path: Path) -> None:
    # Abstract names are one space for the whole host, where other runs of this test may be.
    abstract = f"gaoler-test-notify-{os.getpid()}"
    for bound, name in ((str(tmp_path / "n"), str(tmp_path / "n")), (f"\0{abstract}", f"@{abstract}")):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(bound)
            notifier = open_notifier({"NOTIFY_SOCKET": name})
            notifier.ready("here")
            notifier.stopping("gone", 2.5)
            assert manager.recv(4096) == b"READY=1\nSTATUS=here"
            notifier.close()
            assert manager.recv(4096) == b"STOPPING=1\nSTATUS=gone\nEXTEND_TIMEOUT_USEC=2500000"


def test_a_manager_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        notifier = open_notifier({"NOTIFY_SOCKET": str(tmp_path / "n")})
        for _ in range(2000):
            notifier.tell("WATCHDOG=1")
        notifier.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NOTIFY_SOCKET", "vsock:2:1"),
        ("NOTIFY_SOCKET", "/nowhere/at/all"),
        ("WATCHDOG_USEC", "0"),
        ("WATCHDOG_USEC", "soon"),
        ("LISTEN_FDS", "0"),
        ("LISTEN_FDS", "-1"),
        ("LISTEN_FDS", "1000"),
    ],
)
def test_a_word_of_the_manager_that_cannot_be_meant_refuses_to_start(name: str, value: str) -> None:
    own = {"LISTEN_PID": str(os.getpid())} if name == "LISTEN_FDS" else {}
    with pytest.raises(ConfigurationError, match=name):
        take_service({**own, name: value})


def test_what_is_said_for_another_process_is_not_for_us() -> None:
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "3", "WATCHDOG_PID": "1", "WATCHDOG_USEC": "1000000"}
    service = take_service(environment)
    assert service.sockets == ()
    assert service.watchdog_seconds is None
    assert environment == {}


def test_a_public_socket_is_refused_to_a_daemon_that_asks_nobody_for_a_key(tmp_path: Path) -> None:
    public = socket.create_server(("0.0.0.0", 0))
    listening = """
import os
from supervisor.service.given import take_service
from supervisor.settings.loading import load
os.environ["LISTEN_PID"] = str(os.getpid())
print(take_service(os.environ).settings(load(file=None, environment={"GAOLER_HTTP_AUTHENTICATION": "no"}, flags={}).settings))
"""
    command = ["bash", "-c", f'exec "$@" 3<&{public.fileno()}', "bash", GAOLER[0], "-c", listening]
    done = subprocess.run(
        command,
        env={"LISTEN_FDS": "1", "PATH": os.environ["PATH"]},
        pass_fds=(public.fileno(),),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    public.close()
    assert done.returncode != 0
    assert "http.authentication = false is allowed only with loopback or unix sockets" in done.stderr


def _load(environment: dict[str, str], flags: dict[str, object] | None = None) -> Settings:
    return load(file=Path("/dev/null"), environment=environment, flags=flags or {}).settings


def test_credentials_come_after_the_environment_and_before_flags(tmp_path: Path) -> None:
    (tmp_path / "api_key").write_text("from-a-credential-0123\n")
    (tmp_path / "redis.password").write_text("with \n a line\n")
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path), "GAOLER_API_KEY": "from-the-environment"}
    found = load(file=Path("/dev/null"), environment=environment, flags={})
    assert found.settings.api_key == "from-a-credential-0123"
    assert found.settings.redis.password == "with \n a line"
    assert found.origins["api_key"] == "credential"
    assert _load(environment, {"api_key": "from-the-command-line"}).api_key == "from-the-command-line"


def test_a_credential_that_nobody_would_read_refuses_to_start(tmp_path: Path) -> None:
    (tmp_path / "api-key").write_text("x" * 20)
    with pytest.raises(ConfigurationError, match="credential 'api-key' is neither"):
        _load({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    (tmp_path / "api-key").rename(tmp_path / "gateway-1.pem")
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path), "GAOLER_FLEET_SIGNING_KEY": str(tmp_path / "gateway-1.pem")}
    assert _load(environment).fleet.signing_key == str(tmp_path / "gateway-1.pem")


def test_a_bad_credential_is_named_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "api_key").write_text("short-secret")
    with pytest.raises(ConfigurationError) as refused:
        _load({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert refused.value.field == "api_key"
    assert "short-secret" not in str(refused.value)
    (tmp_path / "api_key").write_bytes(b"\xff" * 20)
    with pytest.raises(ConfigurationError, match="cannot be read as text"):
        _load({"CREDENTIALS_DIRECTORY": str(tmp_path)})


@pytest.mark.root
def test_a_setting_that_proves_wrong_when_it_is_tried_is_not_tried_again() -> None:
    """``RestartPreventExitStatus=78`` holds for it, too: here it is S3 that says what is wrong, after root was given up."""
    with run_fleet() as fleet:
        gateway = fleet.spawn("gateway", "gateway", {"GAOLER_S3_BUCKET": "no-such-bucket"})
        assert gateway.daemon.process.wait(60) == 78

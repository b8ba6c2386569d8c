"""What a session installs: real pip and npm through the egress proxy, kept with the session, and the archive of it."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.attack.network import policies_with
from supervisor.jailer import packages
from supervisor.jailer.packages import BadArchive, Unpacker, find, pack
from supervisor.network.presets import read_presets
from supervisor.policy import PACKAGED_POLICIES
from tests.daemon import Daemon, daemon_with, start_daemon

# -- the archive --


def head(name: bytes, size: int) -> bytes:
    payload = msgspec.msgpack.encode([name, size, False])
    return struct.pack(">I", len(payload)) + payload


def unpack(directory: Path, archive: bytes, step: int = 1 << 16) -> None:
    root = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    unpacker = Unpacker(root, os.getuid())
    try:
        for at in range(0, len(archive), step):
            unpacker.feed(archive[at : at + step])
        unpacker.close(complete=True)
    finally:
        unpacker.close()
        os.close(root)


def packed(directory: Path) -> bytes:
    root = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        listing = find(root)
        archive = b"".join(pack(root, listing))
        assert len(archive) == listing.size
        return archive
    finally:
        os.close(root)


def test_what_is_packed_comes_back_as_it_was(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    target.mkdir()
    for name, content in {
        ".packages/python/x.py": b"x = 1\n",
        ".packages/python/empty": b"",
        "node_modules/deep/er/large.bin": os.urandom(700_000),
        "data.csv": b"not a package",
    }.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    (source / ".packages/python/x.py").chmod(0o755)
    (source / "node_modules/link").symlink_to("/etc/passwd")
    unpack(target, packed(source), step=1000)
    found = {str(path.relative_to(target)) for path in target.rglob("*") if not path.is_dir()}
    assert found == {".packages/python/x.py", ".packages/python/empty", "node_modules/deep/er/large.bin"}
    assert (target / "node_modules/deep/er/large.bin").read_bytes() == (
        source / "node_modules/deep/er/large.bin"
    ).read_bytes()
    assert (target / ".packages/python/x.py").stat().st_mode & 0o777 == 0o755
    assert (target / ".packages/python/empty").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "archive",
    {
        "above the root": head(b".packages/../../x", 1) + b"x",
        "absolute": head(b"/etc/x", 1) + b"x",
        "another directory": head(b"data/x", 1) + b"x",
        "a directory itself": head(b".packages", 1) + b"x",
        "an empty part": head(b".packages//x", 1) + b"x",
        "a NUL": head(b".packages/a\0b", 1) + b"x",
        "a dot": head(b".packages/./x", 1) + b"x",
        "too deep": head(b".packages/" + b"a/" * 60 + b"x", 1) + b"x",
        "a huge head": struct.pack(">I", 1 << 30),
        "no MessagePack": struct.pack(">I", 4) + b"\xc1\xc1\xc1\xc1",
        "a negative size": head(b".packages/x", -1),
        "cut off": head(b".packages/x", 10) + b"x",
        "a cut head": head(b".packages/x", 10)[:6],
    }.items(),
    ids=lambda each: each[0],
)
def test_a_hostile_archive_is_refused_and_leaves_nothing_outside(tmp_path: Path, archive: tuple[str, bytes]) -> None:
    inside = tmp_path / "workspace"
    inside.mkdir()
    with pytest.raises(BadArchive):
        unpack(inside, archive[1])
    assert [path for path in tmp_path.rglob("*") if inside not in (path, *path.parents)] == []


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "workspace"
    outside.mkdir()
    inside.mkdir()
    (inside / ".packages").symlink_to(outside)
    with pytest.raises(OSError, match=r".") as caught:
        unpack(inside, head(b".packages/x", 1) + b"x")
    assert caught.value.errno in (errno.ELOOP, errno.ENOTDIR)
    assert list(outside.iterdir()) == []


@given(data=st.binary(max_size=300))
def test_no_archive_does_more_than_be_refused(data: bytes) -> None:
    root = os.open("/proc/self/fdinfo", os.O_PATH | os.O_DIRECTORY)  # nothing can be made there
    try:
        Unpacker(root, 0).feed(data)
    except (BadArchive, OSError):
        pass
    finally:
        os.close(root)


def test_a_change_is_seen_and_no_change_is_none(tmp_path: Path) -> None:
    (tmp_path / ".packages").mkdir()
    (tmp_path / ".packages" / "x").write_text("1")
    root = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        first = find(root)
        assert find(root).stamp == first.stamp
        (tmp_path / ".packages" / "x").write_text("2")
        assert find(root).stamp != first.stamp
    finally:
        os.close(root)


# -- real package managers --


def rules() -> str:
    """The presets of this machine, with the addresses that their hosts have here, public or not."""
    presets = read_presets(os.environ, Path.home())
    written = ""
    for name in ("python", "node"):
        hosts = {each.host for each in presets[name].hosts}
        addresses = {info[4][0] for host in hosts for info in socket.getaddrinfo(host, None)}
        opened = ", ".join(f'"{address}"' for address in sorted(map(str, addresses)))
        written += f'[[rule]]\npreset = "{name}"\naddresses = [{opened}]\nreason = "packages of {name}"\n'
    return written


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    policies = tmp_path_factory.mktemp("installing") / "policies"
    policies_with(policies, PACKAGED_POLICIES, {"packages": rules()})
    return policies


@pytest.fixture(scope="module")
def installing(image_dir: Path, policies: Path) -> Iterator[Daemon]:
    with daemon_with(image_dir, {"GAOLER_JAILER_POLICY_DIR": str(policies)}) as daemon:
        yield daemon


@pytest.mark.root
def test_pip_installs_into_the_session_and_it_stays(installing: Daemon) -> None:
    first = installing.execute("pip install -q six==1.17.0 && python3 -c 'import six; print(six.__version__)'", "bash")
    assert (first["stdout"], first["code"]) == ("1.17.0\n", 0), first["stderr"]
    assert first["files"] == []
    session = first["session_id"]
    again = installing.execute("import six; print(six.__file__)", session_id=session)
    assert again["stdout"].startswith("/mnt/data/.packages/python/"), again["stderr"]
    assert "/mnt/data" not in installing.execute("import six; print(six.__file__)")["stdout"]
    lasting = installing.execute("import six; print(six.__file__)", session_id=session, stateful=True)
    assert lasting["stdout"].startswith("/mnt/data/.packages/python/"), lasting["stderr"]


@pytest.mark.root
def test_a_program_imports_what_it_has_just_installed_itself(installing: Daemon) -> None:
    program = """
import subprocess, sys
done = subprocess.run([sys.executable, "-m", "pip", "install", "-q", "iniconfig==2.1.0"], capture_output=True, text=True)
print(done.returncode, done.stderr)
import iniconfig
print(iniconfig.__file__)
"""
    for stateful in (False, True):
        result = installing.execute(program, stateful=stateful)
        assert "/mnt/data/.packages/python/" in result["stdout"], result


@pytest.mark.root
def test_npm_installs_into_the_session_and_it_stays(installing: Daemon) -> None:
    first = installing.execute(
        "npm install is-number@7.0.0 2>&1 && node -e \"console.log(require('is-number')(3))\"", "bash"
    )
    assert first["stdout"].endswith("true\n"), (first["stdout"], first["stderr"])
    assert sorted(file["name"] for file in first["files"]) == ["package-lock.json", "package.json"]
    again = installing.execute("console.log(require('is-number')('x'))", "js", session_id=first["session_id"])
    assert again["stdout"] == "false\n", again["stderr"]


@pytest.mark.root
@pytest.mark.parametrize("stateful", [False, True])
def test_who_lacks_a_package_is_told_that_the_session_can_install_it(installing: Daemon, stateful: bool) -> None:
    said = installing.execute("import cowsay", stateful=stateful)["stderr"]
    assert "pip install cowsay puts it into this session" in said
    refused = installing.execute("pip install six==0.0.0", "bash", stateful=stateful)["stderr"]
    assert "No matching distribution found for six==0.0.0" in refused
    # The index has answered: there is nothing to add.
    assert "[gaoler] this sandbox" not in refused


@pytest.mark.root
@pytest.mark.parametrize("stateful", [False, True])
def test_who_has_given_the_network_up_is_told_that_there_is_none(installing: Daemon, stateful: bool) -> None:
    said = installing.execute("echo $PIP_RETRIES; pip install six", "bash", egress=[], stateful=stateful)
    assert said["stdout"].startswith("0\n")
    assert "this sandbox has no network" in said["stderr"]
    own = installing.execute("echo $PIP_RETRIES", "bash", egress=[], env={"PIP_RETRIES": "7"}, stateful=stateful)
    assert own["stdout"] == "7\n"


@pytest.mark.root
def test_removed_packages_are_gone(installing: Daemon) -> None:
    session = installing.execute("mkdir -p .packages/x && echo 1 > .packages/x/y", "bash")["session_id"]
    assert installing.execute("cat .packages/x/y", "bash", session_id=session)["stdout"] == "1\n"
    installing.execute("rm -r .packages", "bash", session_id=session)
    assert installing.execute("ls .packages/x", "bash", session_id=session)["code"] != 0


@pytest.mark.root
def test_too_many_packages_are_not_kept_and_it_is_said(image_dir: Path) -> None:
    with daemon_with(image_dir, {"GAOLER_FILES_PACKAGES_BYTES": "1000"}) as daemon:
        result = daemon.execute("mkdir .packages; head -c 5000 /dev/zero > .packages/x", "bash")
        assert "packages are not kept" in result["stderr"]
        assert packages.MAX_FILES > 10_000


# -- for every sandbox --


def gaoler(state: Path, policies: Path, image: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "GAOLER_IMAGE_DIR": str(image),
        "GAOLER_JAILER_POLICY_DIR": str(policies),
    }
    command = [sys.executable, "-m", "supervisor", *arguments, "--state-dir", str(state)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.root
def test_the_operator_installs_for_every_sandbox_which_cannot_change_it(
    image_dir: Path, policies: Path, state_dir: Path
) -> None:
    done = gaoler(
        state_dir, policies, image_dir, "packages", "add", "--python", "iniconfig==2.1.0", "--node", "is-number@7.0.0"
    )
    assert done.returncode == 0, done.stderr
    listed = gaoler(state_dir, policies, image_dir, "packages", "list").stdout.split()
    assert listed == ["python", "iniconfig==2.1.0", "node", "is-number@7.0.0"]
    refused = gaoler(state_dir, policies, image_dir, "packages", "add", "--python", "--index-url=http://evil.example")
    assert refused.returncode != 0
    assert "is no name of a package" in refused.stderr
    # It is there without a network, too.
    running = start_daemon(state_dir, image_dir)
    try:
        python = """
import iniconfig, os
print(iniconfig.__file__.startswith("/opt/packages/"))
try: os.remove(iniconfig.__file__)
except OSError as error: print(error.errno)
"""
        assert running.execute(python)["stdout"] == f"True\n{errno.EROFS}\n"
        assert running.execute("console.log(require('is-number')(7))", "js")["stdout"] == "true\n"
    finally:
        running.stop()
    assert gaoler(state_dir, policies, image_dir, "packages", "remove", "iniconfig", "is-number").returncode == 0
    assert not (state_dir / "packages" / "current").exists()

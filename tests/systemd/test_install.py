"""``gaoler install`` and what it puts in place, without a booted systemd: the plan, the files, systemd's own checker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from supervisor.service.installing import MARK, PLACES, UNITS, texts
from supervisor.settings.loading import leaves
from tests.daemon import GAOLER, ROOT

SECTIONED = sorted(name for name in PLACES if not name.endswith(("sysusers", "tmpfiles")))


def _gaoler(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*GAOLER, *map(str, arguments)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def _files(prefix: Path) -> list[str]:
    return sorted(str(path.relative_to(prefix)) for path in prefix.rglob("*") if path.is_file())


def test_installing_shows_what_it_would_write_and_writes_it_only_when_told(tmp_path: Path) -> None:
    shown = _gaoler("install", "--prefix", tmp_path, "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert f"+++ {tmp_path}/etc/systemd/system/gaoler.service" in shown.stdout
    refused = _gaoler("install", "--prefix", tmp_path)
    assert refused.returncode == 78
    assert "--yes" in refused.stderr
    assert _files(tmp_path) == []
    done = _gaoler("install", "--prefix", tmp_path, "--yes")
    assert done.returncode == 0, done.stderr
    assert _files(tmp_path) == sorted(PLACES.values())
    unit = (tmp_path / PLACES["gaoler.service"]).read_text()
    program = re.search(r"^ExecStart=(\S+) serve$", unit, re.MULTILINE)
    assert program is not None
    assert Path(program[1]).exists()
    again = _gaoler("install", "--prefix", tmp_path, "--yes")
    assert again.stdout.startswith("nothing to change")


def test_uninstalling_leaves_state_and_settings_unless_it_is_to_purge(tmp_path: Path) -> None:
    _gaoler("install", "--prefix", tmp_path, "--yes")
    state, settings = tmp_path / "var/lib/gaoler/data/file", tmp_path / "etc/gaoler/gaoler.toml"
    own = tmp_path / "etc/systemd/system/gaoler.service.d/own.conf"
    for path in (state, settings, own):
        path.parent.mkdir(parents=True)
        path.write_text("kept")
    assert _gaoler("uninstall", "--prefix", tmp_path, "--yes").returncode == 0
    assert _files(tmp_path) == sorted(str(path.relative_to(tmp_path)) for path in (state, settings, own))
    shown = _gaoler("uninstall", "--prefix", tmp_path, "--purge", "--dry-run")
    assert f"removes {tmp_path}/var/lib/gaoler" in shown.stdout
    assert state.exists()
    assert _gaoler("uninstall", "--prefix", tmp_path, "--purge", "--yes").returncode == 0
    assert _files(tmp_path) == [str(own.relative_to(tmp_path))]


def test_a_unit_of_somebody_else_is_neither_replaced_nor_removed(tmp_path: Path) -> None:
    unit = tmp_path / PLACES["gaoler.service"]
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    for command in ("install", "uninstall"):
        refused = _gaoler(command, "--prefix", tmp_path, "--yes")
        assert refused.returncode == 78
        assert "is not of 'gaoler install'" in refused.stderr
    assert unit.read_text().startswith("[Service]")


def test_an_environment_in_a_home_is_seen_and_not_written() -> None:
    unit = texts(Path("/home/someone/gaoler/bin/gaoler"), [Path("/srv")])["gaoler.service"]
    assert "\nProtectHome=read-only\n" in unit
    assert "ExecStart=/home/someone/gaoler/bin/gaoler serve\n" in unit
    assert "\nProtectHome=yes\n" in texts(Path("/opt/x/bin/gaoler"), [Path("/srv")])["gaoler.service"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemds_own_checker_finds_nothing_in_the_units(tmp_path: Path) -> None:
    # It looks whether programs exist; that of the environment does.
    for name in SECTIONED:
        text = (UNITS / name).read_text().replace("/opt/gaoler/bin/gaoler", "/bin/true")
        (tmp_path / name).write_text(MARK + text)
    done = subprocess.run(
        ["systemd-analyze", "verify", *(str(tmp_path / name) for name in SECTIONED)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for name in SECTIONED:
        if name.endswith(".service"):
            score = subprocess.run(
                ["systemd-analyze", "security", "--offline=true", "--threshold=54", str(tmp_path / name)],
                capture_output=True,
                text=True,
                check=False,
            )
            print(name, score.stdout.splitlines()[-1])
            assert score.returncode == 0, score.stdout.splitlines()[-1]


def test_every_hardening_line_has_its_reason() -> None:
    for name in SECTIONED:
        lines = (UNITS / name).read_text().splitlines()
        hardening = [
            index
            for index, line in enumerate(lines)
            if re.match(r"(Protect|Restrict|Private|Lock|System|NoNew|Capab|Device|Key)", line)
        ]
        for index in hardening:
            above = lines[index - 1]
            assert above.startswith("#") or re.match(r"(Capab|Protect|Restrict)", above), (name, lines[index])


def test_only_our_own_reload_runs_outside_of_what_a_unit_is_held_by() -> None:
    """A line that begins with + or ! is run with all of root's rights, whatever the unit says."""
    for name in SECTIONED:
        lines = (UNITS / name).read_text().splitlines()
        free = [line for line in lines if re.match(r"Exec[A-Za-z]*=[-@:|]*[+!]", line)]
        role = {"gaoler-gateway.service": " --role gateway", "gaoler-worker.service": " --role worker"}.get(name, "")
        ours = f"/opt/gaoler/bin/gaoler reload --pid $MAINPID{role}"
        wanted = f"ExecReload=+/usr/bin/nsenter --target 1 --mount /usr/bin/env CREDENTIALS_DIRECTORY=%d {ours}"
        assert free == ([wanted] if name.endswith(".service") else []), name


def test_a_worker_is_held_as_an_embedded_daemon_is() -> None:
    def service(name: str) -> list[str]:
        lines = (UNITS / name).read_text().partition("[Service]")[2].splitlines()
        return [line.replace(" --role worker", "") for line in lines if line and not line.startswith("#")]

    assert service("gaoler-worker.service") == service("gaoler.service")


def test_every_secret_has_a_credential_in_every_unit() -> None:
    secrets = {leaf.key for leaf in leaves() if leaf.secret}
    for name in SECTIONED:
        if name.endswith(".service"):
            text = (UNITS / name).read_text()
            assert secrets == set(re.findall(r"^LoadCredential=(\S+):gaoler\.\1$", text, re.MULTILINE)), name


def test_the_user_of_the_daemon_and_the_default_setting_are_one() -> None:
    uid = next(leaf.default for leaf in leaves() if leaf.key == "jailer.daemon_uid")
    assert f"u gaoler {uid} " in (UNITS / "gaoler.sysusers").read_text()

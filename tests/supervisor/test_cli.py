"""The command line, as a person meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.jailer.cgroup_subtree import mount_points


def gaoler(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "supervisor", *arguments],
        input=stdin,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_help_names_every_command() -> None:
    text = gaoler("--help").stdout
    for command in ("serve", "run", "doctor", "image", "settings"):
        assert command in text


def test_settings_show_where_each_value_came_from_and_hide_the_key() -> None:
    done = gaoler("settings", "--json", GAOLER_BIND="127.0.0.1:9", GAOLER_API_KEY="very-secret-key-123")
    tree = json.loads(done.stdout)
    assert tree["bind"] == {"value": "127.0.0.1:9", "origin": "environment GAOLER_BIND", "variable": "GAOLER_BIND"}
    assert tree["api_key"]["value"] == "(hidden)"
    assert "very-secret" not in done.stdout + gaoler("settings", GAOLER_API_KEY="very-secret-key-123").stdout


def test_a_mistake_in_the_settings_is_one_line_and_status_78() -> None:
    done = gaoler("settings", GAOLER_BNID="x")
    assert done.returncode == 78
    assert done.stderr.count("\n") == 1
    assert "GAOLER_BIND" in done.stderr


@pytest.mark.root
@pytest.mark.whole_host
def test_run_gives_output_files_and_exit_code_of_the_program(image_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a\n1\n2\n")
    program = tmp_path / "p.py"
    program.write_text(
        "import sys, csv\nprint(sum(int(r['a']) for r in csv.DictReader(open('in.csv'))), sys.argv[1])\nopen('out', 'w').write('made')\nsys.exit(5)"
    )
    before = {path for mount in set(mount_points().values()) for path in mount.iterdir()}
    done = gaoler(
        "run",
        str(program),
        "arg",
        "--file",
        str(tmp_path / "in.csv"),
        "--output",
        str(tmp_path / "o"),
        GAOLER_IMAGE_DIR=str(image_dir),
    )
    assert (done.stdout, done.returncode) == ("3 arg\n", 5), done.stderr
    assert (tmp_path / "o" / "out").read_text() == "made"
    piped = gaoler("run", "--lang", "bash", "-", stdin="kill -TERM $$", GAOLER_IMAGE_DIR=str(image_dir))
    assert piped.returncode == 128 + 15
    assert {path for mount in set(mount_points().values()) for path in mount.iterdir()} == before


@pytest.mark.root
@pytest.mark.whole_host
def test_doctor_tries_everything_and_leaves_nothing(image_dir: Path) -> None:
    before = {path for mount in set(mount_points().values()) for path in mount.iterdir()}
    done = gaoler("doctor", "--json", GAOLER_IMAGE_DIR=str(image_dir))
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert {"root", "kernel", "namespaces", "cgroups", "nsjail", "policy default", "runtime image", "sandbox"} <= set(
        findings
    )
    assert done.returncode == 0, [finding for finding in findings.values() if finding["status"] == "fail"]
    assert {path for mount in set(mount_points().values()) for path in mount.iterdir()} == before


def test_doctor_says_how_to_mend_what_is_missing(tmp_path: Path) -> None:
    done = gaoler("doctor", GAOLER_IMAGE_DIR=str(tmp_path / "none"))
    assert done.returncode == 1
    assert "gaoler image build" in done.stdout


def test_the_configuration_page_is_current() -> None:
    root = Path(__file__).resolve().parent.parent.parent
    done = subprocess.run(
        [sys.executable, "-c", "import runpy; print(runpy.run_path('docs/generate.py')['configuration'](), end='')"],
        cwd=root,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == (root / "docs" / "configuration.md").read_text(), "run: python docs/generate.py"


@pytest.mark.root
def test_run_in_a_tier_that_is_not_to_be_had_is_refused_with_the_reason(image_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "p.sh").write_text("echo ran")
    done = gaoler("run", "--tier", "microvm", str(tmp_path / "p.sh"), GAOLER_IMAGE_DIR=str(image_dir))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("gaoler: tier microvm is not to be had here: ")
    assert "microvm.enabled" in done.stderr
    fine = gaoler("run", "--tier", "nsjail", str(tmp_path / "p.sh"), GAOLER_IMAGE_DIR=str(image_dir))
    assert (fine.returncode, fine.stdout) == (0, "ran\n")


def test_a_key_of_a_tier_needs_the_tier_switched_on(tmp_path: Path) -> None:
    command = ("keys", "add", "strict", "--tier", "microvm", "--state-dir", str(tmp_path))
    refused = gaoler(*command)
    assert refused.returncode == 78
    assert "set microvm.enabled first" in refused.stderr
    assert gaoler(*command, GAOLER_MICROVM_ENABLED="true").stdout.startswith("gk-")
    assert gaoler("keys", "add", "plain", "--state-dir", str(tmp_path)).returncode == 0
    listed = json.loads(gaoler("keys", "list", "--json", "--state-dir", str(tmp_path)).stdout)
    assert [(each["name"], each["tier"]) for each in listed] == [("strict", "microvm"), ("plain", "nsjail")]


def test_settings_show_other_servers_names_as_the_daemon_reads_them() -> None:
    done = gaoler("settings", "--json", PORT="9000", MAX_MEMORY_MB="512", REDIS_PORT="tcp://10.0.0.1:6379")
    tree = json.loads(done.stdout)
    assert (tree["bind"]["value"], tree["bind"]["origin"]) == ("127.0.0.1:9000", "environment PORT")
    assert tree["limits.memory_bytes"]["value"] == 512 << 20
    shown = gaoler("settings", PORT="9000", API_RELOAD="true")
    assert "PORT is read as bind; GAOLER_BIND is its name here" in shown.stderr
    assert "API_RELOAD is not read: " in shown.stderr

"""deploy/google-cloud: what the scripts would do, compared with the settings. Nothing is called."""

from __future__ import annotations

import os
import re
import shlex
import subprocess

import pytest

from tests.deploy.reading import DEPLOY, FILLED, VARIABLES, environment_file, parses, settings_of

FOLDER = DEPLOY / "google-cloud"
GATEWAY = FOLDER / "deploy-gateway.sh"
WORKER = (FOLDER / "worker-startup.sh").read_text()
GIVEN = {
    "PROJECT": "a-project",
    "REGION": "europe-west1",
    "IMAGE": "europe-docker.pkg.dev/a-project/gaoler/gaoler-gateway:1",
    "NETWORK": "default",
    "SUBNET": "default",
    "SERVICE_ACCOUNT": "gateway@a-project.iam.gserviceaccount.com",
    "REDIS_HOST": "10.1.2.3",
    "BUCKET": "gaoler-bytes",
    "KEY_ID": "2026-11",
}


def deploy(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"]} | variables
    return subprocess.run([GATEWAY, *arguments], env=environment, capture_output=True, text=True, check=False)


def options(**variables: str) -> dict[str, str]:
    """Give the options of the one command that a dry run prints."""
    (line,) = deploy("--dry-run", **(GIVEN | variables)).stdout.splitlines()
    words = shlex.split(line)
    assert words[:4] == ["gcloud", "run", "deploy", "gaoler-gateway"]
    following = [*words[5:], "--"]
    return {word: after for word, after in zip(words[4:], following, strict=True) if word.startswith("--")}


def gateway_environment(**variables: str) -> dict[str, str]:
    found = options(**variables)
    delimiter, settings = found["--set-env-vars"][1], found["--set-env-vars"][3:]
    secrets = dict(each.split("=", 1) for each in found["--set-secrets"].split(","))
    filled = {name: FILLED for name in secrets if not name.startswith("/")}
    return filled | dict(each.split("=", 1) for each in settings.split(delimiter))


def test_the_gateway_is_given_what_its_role_needs() -> None:
    environment = gateway_environment(PUBLIC_URL="https://code.example.org")
    assert set(environment) <= VARIABLES
    settings = settings_of(environment)
    assert settings.fleet.role == "gateway"
    assert settings.http.public_url == "https://code.example.org"
    assert settings.s3.url == "https://storage.googleapis.com"
    assert settings.s3.path_style
    assert settings.redis.url.startswith("rediss://")


def test_files_that_settings_name_are_mounted_from_secrets() -> None:
    settings = settings_of(gateway_environment())
    mounted = {each.split("=", 1)[0] for each in options()["--set-secrets"].split(",")}
    assert {settings.fleet.signing_key, settings.redis.ca} <= mounted


def test_no_secret_is_in_a_plain_variable() -> None:
    plain = options()["--set-env-vars"]
    assert not re.search(r"(API_KEY|SECRET|TOKEN|PASSWORD|ACCESS_KEY)=", plain)


def test_the_port_is_the_one_that_is_listened_on() -> None:
    assert settings_of(gateway_environment()).bind == f"0.0.0.0:{options()['--port']}"


def test_gateways_work_between_requests_too() -> None:
    # Heartbeats, and answers of workers, come at any time.
    assert "--no-cpu-throttling" in options()
    assert int(options()["--min-instances"]) >= 1


@pytest.mark.parametrize("name", sorted(GIVEN))
def test_a_missing_variable_is_refused_by_its_name(name: str) -> None:
    done = deploy("--dry-run", **{key: value for key, value in GIVEN.items() if key != name})
    assert done.returncode == 64
    assert done.stderr.startswith(f"not set: {name};")
    assert not done.stdout


def test_a_key_id_that_is_no_file_name_is_refused() -> None:
    assert deploy("--dry-run", **(GIVEN | {"KEY_ID": "a,b=c"})).returncode == 64


def test_help_names_all_that_is_needed() -> None:
    done = deploy("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in GIVEN)


def worker_environment() -> dict[str, str]:
    block = WORKER.split("<<SETTINGS\n")[1].split("\nSETTINGS\n")[0]
    answers = {
        "metadata gaoler-redis-host": "10.1.2.3",
        "metadata gaoler-bucket": "gaoler-bytes",
        "metadata gaoler-concurrent": "8",
    }

    def answer(match: re.Match[str]) -> str:
        return answers.get(match[1].partition(" ||")[0], FILLED)

    return dict(re.sub(r"\$\(([^)]*)\)", answer, line).split("=", 1) for line in block.splitlines())


def test_the_worker_is_given_what_its_role_needs_and_the_same_stores() -> None:
    environment = worker_environment()
    assert set(environment) <= VARIABLES
    worker, gateway = settings_of(environment), settings_of(gateway_environment())
    assert worker.fleet.role == "worker"
    assert (worker.redis.url, worker.s3.url, worker.s3.bucket) == (gateway.redis.url, gateway.s3.url, gateway.s3.bucket)


def test_the_worker_has_the_time_to_drain() -> None:
    stop = int(re.findall(r"TimeoutStopSec=(\d+)", WORKER)[0])
    assert worker_settings_drain() + 15 <= stop < 90


def worker_settings_drain() -> float:
    return settings_of(worker_environment()).fleet.drain_seconds


def test_the_worker_builds_its_image_with_options_that_exist() -> None:
    commands = re.findall(r"^/opt/gaoler/bin/gaoler (.*)$", WORKER, re.MULTILINE)
    assert commands == ["image build --languages all"]
    assert all(parses(command.split()) for command in commands)


def test_packages_come_with_their_hashes() -> None:
    installs = re.findall(r"pip install (.*)$", WORKER, re.MULTILINE)
    assert len(installs) == 2
    assert all("--require-hashes" in each or "--no-deps" in each for each in installs)


def test_examples_elsewhere_have_no_name_that_is_none_of_ours() -> None:
    for example in DEPLOY.rglob("*.env.example"):
        names = {name for name in environment_file(example) if name.startswith("GAOLER_")}
        assert names - VARIABLES <= {"GAOLER_GATEWAY_IMAGE", "GAOLER_WORKER_IMAGE"}, example

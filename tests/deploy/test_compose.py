"""deploy/compose: what is started where, with which settings and which rights."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner
from redis.backoff import NoBackoff
from redis.retry import Retry

from supervisor.cli import main
from supervisor.errors import ConfigurationError
from tests.deploy.reading import (
    DEPLOY,
    FILLED,
    VARIABLES,
    environment_file,
    interpolated,
    parsed,
    parses,
    references,
    seconds,
    settings_of,
)
from tests.kept_port import kept_address
from tests.redis_server import server_program

FILE = DEPLOY / "compose" / "compose.yaml"
EXAMPLE = environment_file(DEPLOY / "compose" / ".env.example")
SECRETS = {name: FILLED for name, value in EXAMPLE.items() if not value and not name.startswith("GAOLER_HTTP_PUBLIC")}
COMPLETE = EXAMPLE | SECRETS | {"GAOLER_MCP_ALLOWED_HOSTS": ""}
RAW = parsed(FILE)
SERVICES: dict[str, dict[str, Any]] = interpolated(RAW, COMPLETE)["services"]
GATEWAYS = [name for name in SERVICES if name.startswith("gateway")]
WITH_SANDBOXES = ["all-in-one", "worker"]
CAPABILITIES = {"SYS_ADMIN", "CHOWN", "DAC_OVERRIDE", "KILL", "SETGID", "SETUID", "SETPCAP"}


def in_profile(profile: str) -> list[str]:
    return [name for name, service in SERVICES.items() if profile in service["profiles"]]


def test_all_in_one_is_one_container() -> None:
    assert in_profile("all-in-one") == ["all-in-one"]
    assert "depends_on" not in SERVICES["all-in-one"]


def test_scaled_has_two_gateways_three_workers_and_their_stores() -> None:
    assert in_profile("scaled") == ["gateway-1", "gateway-2", "worker", "redis", "garage"]
    assert SERVICES["worker"]["deploy"]["replicas"] == 3


def test_every_service_belongs_to_a_profile_so_that_nothing_starts_unasked() -> None:
    assert all(service["profiles"] for service in SERVICES.values())


@pytest.mark.parametrize(("name", "role"), [("all-in-one", "all"), ("gateway-1", "gateway"), ("worker", "worker")])
def test_what_is_given_to_a_container_is_what_its_role_needs(name: str, role: str) -> None:
    environment = SERVICES[name]["environment"]
    assert set(environment) <= VARIABLES
    settings = settings_of(environment)
    assert settings.fleet.role == role
    assert not settings.fleet.name


def test_gateways_and_workers_share_stores_and_secret() -> None:
    gateway, worker = (settings_of(SERVICES[name]["environment"]) for name in ("gateway-1", "worker"))
    assert (gateway.redis, gateway.s3, gateway.fleet.secret) == (worker.redis, worker.s3, worker.fleet.secret)
    assert SERVICES["gateway-1"]["environment"] == SERVICES["gateway-2"]["environment"]


@pytest.mark.parametrize("name", ["gateway-1", "worker"])
def test_an_env_file_that_was_not_filled_in_is_refused_by_the_daemon_itself(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings_of(interpolated(RAW, EXAMPLE)["services"][name]["environment"])
    assert caught.value.field in {"s3.access_key", "fleet.secret", "redis.url"}


def test_all_in_one_starts_without_any_env_file() -> None:
    assert settings_of(interpolated(RAW, {})["services"]["all-in-one"]["environment"]).fleet.role == "all"


def test_the_example_names_every_variable_and_no_other() -> None:
    assert references(RAW) == set(EXAMPLE)


def test_a_worker_sees_neither_callers_keys_nor_the_key_that_signs() -> None:
    environment = SERVICES["worker"]["environment"]
    assert "GAOLER_API_KEY" not in environment
    assert "GAOLER_FLEET_SIGNING_KEY" not in environment
    assert "keys" not in {volume.get("source") for volume in SERVICES["worker"]["volumes"]}


@pytest.mark.parametrize("name", [*GATEWAYS, "keygen", "redis", "garage"])
def test_who_makes_no_sandboxes_has_no_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["read_only"] is True
    assert service["security_opt"] == ["no-new-privileges:true"]
    if name != "garage":  # its image has root only
        assert not service["user"].startswith("0")


@pytest.mark.parametrize("name", WITH_SANDBOXES)
def test_who_makes_sandboxes_has_the_rights_for_that_and_no_other(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert set(service["cap_add"]) == CAPABILITIES
    assert set(service["security_opt"]) == {"seccomp:unconfined", "apparmor:unconfined"}
    assert service["cgroup"] == "private"


def test_nobody_is_privileged_or_shares_a_namespace_or_a_file_with_the_host() -> None:
    for service in SERVICES.values():
        assert not {"privileged", "pid", "ipc", "userns_mode", "devices"} & set(service)
        assert service.get("network_mode") in {None, "none"}
        for volume in service.get("volumes", ()):
            source = volume.get("source", "") if isinstance(volume, dict) else volume
            assert not source.startswith(("/", ".", "~"))


def test_only_doors_are_published_and_by_default_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"all-in-one", *GATEWAYS}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert len({ports[0] for name, ports in published.items() if name in GATEWAYS}) == len(GATEWAYS)


def test_workers_and_stores_have_no_way_to_the_internet() -> None:
    assert RAW["networks"]["stores"] == {"internal": True}
    assert all(SERVICES[name]["networks"] == ["stores"] for name in ("worker", "redis", "garage"))


def test_a_worker_has_the_time_to_drain() -> None:
    settings = settings_of(SERVICES["worker"]["environment"])
    assert seconds(SERVICES["worker"]["stop_grace_period"]) >= settings.fleet.drain_seconds + 15


@pytest.mark.parametrize("name", [*GATEWAYS, *WITH_SANDBOXES])
def test_health_is_asked_by_the_program_of_the_image(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"] == ["CMD", "/opt/gaoler/bin/healthy"]
    assert (DEPLOY / "container" / "healthy").exists()


def test_the_daemons_command_line_takes_what_is_given() -> None:
    ours = {name: service for name, service in SERVICES.items() if name not in {"redis", "garage"}}
    commands = [service["command"] for service in ours.values() if "command" in service]
    assert commands == [["fleet", "keygen", "--id", "first", "/keys"]]
    assert all(parses(command) for command in commands)


def test_the_key_that_is_made_is_the_one_that_gateways_are_told_of(tmp_path: Path) -> None:
    *command, directory = SERVICES["keygen"]["command"]
    done = CliRunner().invoke(main, [*command, str(tmp_path)])
    assert done.exit_code == 0, done.output
    told = settings_of(interpolated(RAW, EXAMPLE | SECRETS)["services"]["gateway-1"]["environment"]).fleet.signing_key
    assert (tmp_path / Path(told).relative_to(directory)).exists()
    assert (tmp_path / "public" / Path(told).name).exists()


def ready(command: list[str | Path]) -> subprocess.Popen[str]:
    """Start Redis and wait for its own word that it serves."""
    server = subprocess.Popen(command, executable=server_program(), stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    lines: list[str] = []
    for line in server.stdout:
        lines.append(line)
        if "Ready to accept connections" in line:
            return server
    raise AssertionError("".join(lines))


def test_redis_asks_for_the_password_keeps_a_log_and_forgets_nothing(tmp_path: Path) -> None:
    with kept_address() as address:
        redis_keeps_its_promises(tmp_path, int(address.rpartition(":")[2]))


def redis_keeps_its_promises(tmp_path: Path, port: int) -> None:
    text = interpolated(RAW, COMPLETE)["configs"]["redis"]["content"].replace("dir /data", f"dir {tmp_path}")
    (tmp_path / "redis.conf").write_text(text)
    server = ready(["redis-server", tmp_path / "redis.conf", "--port", str(port), "--bind", "127.0.0.1"])
    try:
        with redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        with redis.Redis(port=port, password=FILLED, decode_responses=True) as client:
            assert client.config_get("appendonly", "maxmemory-policy", "appendfsync") == {
                "appendonly": "yes",
                "maxmemory-policy": "noeviction",
                "appendfsync": "everysec",
            }
    finally:
        server.terminate()
        server.communicate()


def test_garage_has_the_region_the_key_and_the_bucket_that_the_daemons_use() -> None:
    configuration = tomllib.loads(interpolated(RAW, COMPLETE)["configs"]["garage"]["content"])
    s3 = settings_of(SERVICES["worker"]["environment"]).s3
    assert configuration["s3_api"]["s3_region"] == s3.region
    assert s3.url.endswith(configuration["s3_api"]["api_bind_addr"].rpartition("]")[2])
    environment = SERVICES["garage"]["environment"]
    assert (environment["GARAGE_DEFAULT_BUCKET"], environment["GARAGE_DEFAULT_ACCESS_KEY"]) == (
        s3.bucket,
        s3.access_key,
    )
    assert s3.path_style

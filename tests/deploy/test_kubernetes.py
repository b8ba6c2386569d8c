"""deploy/kubernetes: each pod has what it needs and no right more."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.reading import (
    DEPLOY,
    FILLED,
    VARIABLES,
    documents,
    environment_file,
    parsed,
    parses,
    settings_of,
)
from tests.deploy.test_compose import CAPABILITIES

FOLDER = DEPLOY / "kubernetes"
KUSTOMIZATION = parsed(FOLDER / "kustomization.yaml")
EVERYTHING: list[dict[str, Any]] = [each for name in KUSTOMIZATION["resources"] for each in documents(FOLDER / name)]
PARTS = ["gateway", "worker", "redis"]


def of_kind(kind: str, name: str) -> dict[str, Any]:
    (found,) = (each for each in EVERYTHING if each["kind"] == kind and each["metadata"]["name"] == name)
    return found


def pod(part: str) -> dict[str, Any]:
    workload: dict[str, Any] = of_kind("Deployment" if part == "gateway" else "StatefulSet", part)
    return workload["spec"]["template"]["spec"]  # type: ignore[no-any-return]


def container(part: str) -> dict[str, Any]:
    (only,) = pod(part)["containers"]
    return only  # type: ignore[no-any-return]


def environment(part: str) -> dict[str, str]:
    """Give what the container's environment would be, with every secret filled in."""
    namespace = "gaoler" if part == "gateway" else "gaoler-workers"
    (stores,) = (
        each["data"]
        for each in EVERYTHING
        if each["kind"] == "ConfigMap" and each["metadata"] == {"name": "stores", "namespace": namespace}
    )
    secrets = dict.fromkeys(environment_file(FOLDER / f"{part}.env.example"), FILLED)
    found: dict[str, str] = stores | secrets | {each["name"]: each["value"] for each in container(part)["env"]}
    return found


@pytest.mark.parametrize("part", ["gateway", "worker"])
def test_what_a_pod_is_given_is_what_its_role_needs(part: str) -> None:
    given = environment(part)
    assert set(given) <= VARIABLES
    settings = settings_of(given)
    assert settings.fleet.role == part
    assert not settings.fleet.name


def test_both_parts_have_the_same_stores_and_the_same_names_of_secrets() -> None:
    gateway, worker = (settings_of(environment(part)) for part in ("gateway", "worker"))
    assert (gateway.redis, gateway.s3, gateway.fleet.drain_seconds) == (
        worker.redis,
        worker.s3,
        worker.fleet.drain_seconds,
    )
    assert set(environment_file(FOLDER / "gateway.env.example")) == {
        "GAOLER_API_KEY",
        *environment_file(FOLDER / "worker.env.example"),
    }


@pytest.mark.parametrize("part", PARTS)
def test_nobody_has_a_way_to_the_cluster_itself(part: str) -> None:
    account = of_kind("ServiceAccount", part)
    assert account["automountServiceAccountToken"] is False
    assert pod(part)["serviceAccountName"] == part
    assert pod(part)["automountServiceAccountToken"] is False
    assert not [each for each in EVERYTHING if "Role" in each["kind"]]


@pytest.mark.parametrize("part", ["gateway", "redis"])
def test_who_makes_no_sandboxes_has_no_rights(part: str) -> None:
    assert pod(part)["securityContext"]["runAsNonRoot"] is True
    assert pod(part)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(part)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_a_worker_has_the_rights_to_make_sandboxes_and_no_other() -> None:
    context = container("worker")["securityContext"]
    assert context["privileged"] is False
    assert context["capabilities"]["drop"] == ["ALL"]
    assert set(context["capabilities"]["add"]) == CAPABILITIES
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod("worker"))


def test_no_pod_sees_files_of_its_node() -> None:
    for part in PARTS:
        assert not [volume for volume in pod(part)["volumes"] if "hostPath" in volume]


def test_namespaces_say_what_their_pods_may_be() -> None:
    levels = {
        each["metadata"]["name"]: each["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for each in EVERYTHING
        if each["kind"] == "Namespace"
    }
    assert levels == {"gaoler": "restricted", "gaoler-workers": "privileged"}
    assert of_kind("StatefulSet", "worker")["metadata"]["namespace"] == "gaoler-workers"


def test_a_worker_has_the_time_to_drain() -> None:
    drain = settings_of(environment("worker")).fleet.drain_seconds
    assert pod("worker")["terminationGracePeriodSeconds"] >= drain + 15


def test_probes_ask_what_there_is_to_ask() -> None:
    gateway, worker = container("gateway"), container("worker")
    assert gateway["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert gateway["livenessProbe"]["httpGet"]["path"] == "/health"
    assert settings_of(environment("gateway")).bind.endswith(f":{gateway['ports'][0]['containerPort']}")
    # A worker's listener is for its own container.
    assert settings_of(environment("worker")).bind.startswith("127.0.0.1:")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert worker[probe]["exec"]["command"][0] == "/opt/gaoler/bin/healthy"
    assert parses(gateway["args"])
    assert parses(worker["args"])


def test_everything_is_forbidden_and_then_what_is_needed_allowed() -> None:
    policies = [each for each in EVERYTHING if each["kind"] == "NetworkPolicy"]
    closed = [each for each in policies if each["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}]
    assert {each["metadata"]["namespace"] for each in closed} == {"gaoler", "gaoler-workers"}
    rules = {each["metadata"]["name"]: each["spec"] for each in policies if each not in closed}
    assert set(rules) == set(PARTS)
    assert "ingress" not in rules["worker"]
    assert "egress" not in rules["redis"]
    for part in ("gateway", "worker"):
        ports = sorted({port["port"] for rule in rules[part]["egress"] for port in rule["ports"]})
        assert ports == [53, 443, 6379]
    assert [port["port"] for port in rules["gateway"]["ingress"][0]["ports"]] == [8000]


def test_selectors_find_their_pods() -> None:
    for part in PARTS:
        workload = of_kind("Deployment" if part == "gateway" else "StatefulSet", part)
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert workload["spec"]["selector"]["matchLabels"] == labels
        selectors = [
            each["spec"]["selector"].get("matchLabels", each["spec"]["selector"])
            for each in EVERYTHING
            if each["kind"] in {"Service", "PodDisruptionBudget"} and each["metadata"]["name"] == part
        ]
        assert all(selector == labels for selector in selectors)


def test_redis_forgets_nothing() -> None:
    lines = of_kind("ConfigMap", "redis")["data"]["redis.conf"].splitlines()
    assert {"appendonly yes", "maxmemory-policy noeviction"} <= set(lines)


def test_generated_names_are_used() -> None:
    generated = {each["name"] for each in [*KUSTOMIZATION["secretGenerator"], *KUSTOMIZATION["configMapGenerator"]]}
    used = {
        source[kind]["name"]
        for part in ("gateway", "worker")
        for source in container(part)["envFrom"]
        for kind in source
    }
    used |= {volume["secret"]["secretName"] for volume in pod("gateway")["volumes"] if "secret" in volume}
    used |= {volume["configMap"]["name"] for volume in pod("worker")["volumes"] if "configMap" in volume}
    used |= {container("redis")["env"][0]["valueFrom"]["secretKeyRef"]["name"]}
    assert generated <= used
    assert {image["name"] for image in KUSTOMIZATION["images"]} == {
        container(part)["image"] for part in ("gateway", "worker")
    }


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_builds_it(tmp_path: Path) -> None:
    folder = tmp_path / "kubernetes"
    shutil.copytree(FOLDER, folder)
    for example in folder.glob("*.env.example"):
        example.with_name(example.name.removesuffix(".example")).write_text(example.read_text())
    (folder / "keys" / "public").mkdir(parents=True)
    for key in ("keys/gateway.pem", "keys/public/gateway.pem"):
        (folder / key).write_text("a key")
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "image: registry.example.org/gaoler-worker:0.1" in done.stdout

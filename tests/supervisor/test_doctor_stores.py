"""``gaoler doctor`` about Redis, S3 and roles, against real servers: what is well, what is not, and what to do."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
import trustme

from supervisor.doctor import stores
from supervisor.doctor.host import Finding, as_text, examine
from supervisor.doctor.stores import examine_stores
from supervisor.settings.loading import load
from supervisor.settings.tree import Settings
from tests.daemon import nobodys_port
from tests.redis_server import RedisServer, Tls, redis_server, run_cluster, run_redis, run_sentinel
from tests.s3_server import ACCESS_KEY, SECRET_KEY, S3Server

__all__ = ["redis_server"]


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="gt-"))
    yield path
    shutil.rmtree(path)


def settings(**given: Any) -> Settings:
    return load(
        file=None, environment={}, flags={key.replace("__", "."): value for key, value in given.items()}
    ).settings


def found(**given: Any) -> dict[str, Finding]:
    return {each.name: each for each in examine_stores(settings(**given))}


def of_s3(server: S3Server, **given: Any) -> dict[str, Any]:
    return {"s3__url": server.url, "s3__access_key": ACCESS_KEY, "s3__secret_key": SECRET_KEY, **given}


def test_a_daemon_on_its_own_has_nothing_to_try() -> None:
    assert [each.status for each in examine_stores(settings())] == ["ok"]


def test_a_redis_and_an_s3_that_are_well_are_said_to_be(redis_server: RedisServer, s3_server: S3Server) -> None:
    bucket = s3_server.new_bucket()
    told = found(redis__url=redis_server.url, **of_s3(s3_server, s3__bucket=bucket))
    assert {each.status for each in told.values()} == {"ok"}, told
    assert {"redis", "redis keys", "redis persistence", "clock", "s3", "s3 objects", "s3 parts"} <= told.keys()
    # It leaves nothing.
    assert "Contents" not in s3_server.client().list_objects_v2(Bucket=bucket)
    assert "Uploads" not in s3_server.client().list_multipart_uploads(Bucket=bucket)
    assert redis_server.command("KEYS", "*gaoler-doctor*") == []


@pytest.mark.parametrize(("off", "takes", "status"), [(0.0, 5.0, "ok"), (3.0, 0.0, "note"), (-9.0, 5.0, "note")])
def test_a_clock_is_wrong_only_by_more_than_the_answer_took(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, off: float, takes: float, status: str
) -> None:
    ahead = [off]
    clock = SimpleNamespace(time=lambda: time.time() + ahead[0], perf_counter=time.perf_counter)
    asked = redis.Redis.time

    def slowly(client: redis.Redis) -> object:
        answer = asked(client)
        ahead[0] += takes
        return answer

    monkeypatch.setattr(stores, "time", clock)
    monkeypatch.setattr(redis.Redis, "time", slowly)
    assert found(redis__url=redis_server.url)["clock"].status == status


def test_what_is_dangerous_in_a_redis_is_said_with_its_setting(directory: Path) -> None:
    options = {"appendonly": "no", "maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}
    with run_redis(directory, options=options) as server:
        told = found(redis__url=server.url, redis__replicas=1)
    assert told["redis persistence"].status == "note"
    assert "appendonly yes" in told["redis persistence"].fix
    assert told["redis eviction"].status == "fail"
    assert "noeviction" in told["redis eviction"].fix
    assert told["redis replicas"].status == "fail"


def test_a_redis_that_does_not_answer_or_wants_a_password_is_said(directory: Path) -> None:
    with nobodys_port() as port:
        assert found(redis__host="127.0.0.1", redis__port=port)["redis"].status == "fail"
    with run_redis(directory, password="a-password") as server:
        wrong = found(redis__host="127.0.0.1", redis__port=server.port, redis__password="another-password")
        right = found(redis__host="127.0.0.1", redis__port=server.port, redis__password="a-password")
    assert wrong["redis"].status == "fail"
    assert "redis.password" in wrong["redis"].fix
    assert "another-password" not in str(wrong)
    assert right["redis"].status == "ok"


def test_tls_is_tried_with_the_authorities_of_the_settings(directory: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    ca, own, key = (directory / name for name in ("ca.pem", "certificate.pem", "key.pem"))
    authority.cert_pem.write_to_path(str(ca))
    certificate.cert_chain_pems[0].write_to_path(str(own))
    certificate.private_key_pem.write_to_path(str(key))
    with run_redis(directory / "server", tls=Tls(own, key, ca)) as server:
        trusted, unknown = found(redis__url=server.url, redis__ca=str(ca)), found(redis__url=server.url)
    assert "with TLS" in trusted["redis"].found
    assert trusted["redis"].status == "ok"
    assert unknown["redis"].status == "fail"


def test_where_sentinels_lead_has_to_be_named(directory: Path) -> None:
    with (
        run_redis(directory / "primary") as primary,
        run_sentinel(directory / "sentinel", primary, "main", replicas=0) as sentinel,
    ):
        url = f"redis+sentinel://127.0.0.1:{sentinel.server.port}/main"
        unnamed = found(redis__url=url)
        named = found(redis__url=url, redis__nodes=f"127.0.0.1/32:{primary.port}")
    assert unnamed["redis nodes"].status == "fail"
    assert f"127.0.0.1:{primary.port}" in unnamed["redis nodes"].fix
    assert "redis nodes" not in named
    assert named["redis"].status == "ok"


def test_where_a_cluster_leads_has_to_be_named(directory: Path) -> None:
    with run_cluster(directory) as cluster:
        url = f"redis+cluster://127.0.0.1:{cluster.primaries[0].port}"
        unnamed = found(redis__url=url)
        nodes = ",".join(f"127.0.0.1:{each.port}" for each in cluster.primaries)
        named = found(redis__url=url, redis__nodes=nodes)
    assert unnamed["redis nodes"].status == "fail"
    assert "redis nodes" not in named
    assert named["redis keys"].status == "ok", named


def test_a_bucket_that_is_not_there_is_said_with_what_to_do(s3_server: S3Server) -> None:
    told = found(**of_s3(s3_server, s3__bucket="there-is-none"))
    assert told["s3"].status == "fail"
    assert "make the bucket there-is-none" in told["s3"].fix


def test_an_s3_that_does_not_answer_is_said() -> None:
    with nobodys_port() as port:
        told = found(s3__url=f"http://127.0.0.1:{port}", s3__access_key="a", s3__secret_key="b")
    assert told["s3"].status == "fail"


def test_a_place_that_is_none_ends_it_there() -> None:
    told = found(redis__url="redis://a", redis__nodes="everywhere")
    assert told["places to dial"].fix == "mend redis.nodes"
    assert "redis" not in told


def test_of_a_gateway_only_what_a_gateway_needs_is_tried(
    directory: Path, redis_server: RedisServer, s3_server: S3Server
) -> None:
    given = {
        "fleet__role": "gateway",
        "fleet__secret": "s" * 32,
        "fleet__service_token": "t" * 32,
        "fleet__signing_key": str(directory / "one.pem"),
        "api_key": "k" * 20,
        "redis__url": redis_server.url,
    }
    findings = examine(settings(**given, **of_s3(s3_server, s3__bucket=s3_server.new_bucket())))
    assert not {"root", "sandbox", "runtime image"} & {each.name for each in findings}
    missing = next(each for each in findings if each.name == "role gateway")
    assert (missing.status, missing.fix) == ("fail", "set fleet.signing_key")
    well = [each for each in findings if each.status != "fail"]
    assert as_text(well).endswith("whether it could run sandboxes was not tried.")

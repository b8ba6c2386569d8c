"""What ``gaoler doctor`` says of Redis, S3 and the fleet: tried with real calls, from this very process.

A daemon reaches them by its connector, so what the settings let that dial is looked at as well.
"""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote

import boto3
import botocore.config
import botocore.exceptions
import redis
import redis.sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry

from supervisor.connector.allowlist import Allowed
from supervisor.connector.named_places import named_places
from supervisor.doctor.host import Finding
from supervisor.errors import ConfigurationError
from supervisor.network.authority import HOST_AUTHORITIES
from supervisor.preparation.remote import read_remote_files
from supervisor.settings.fleet import RedisSettings, S3Settings
from supervisor.settings.rules import check_fleet
from supervisor.settings.tree import Settings

OLDEST_REDIS: Final = (7, 0)
PART_BYTES: Final = 5 << 20
"""The least that S3 takes as a part that is not the last."""
CLOCK_SECONDS: Final = 1.0
_TRIAL: Final = "gaoler-doctor"
_LOST: Final = (redis.RedisError, OSError, ssl.SSLError)


def examine_stores(settings: Settings) -> Iterator[Finding]:
    """Try Redis, S3 and what the role needs. What it writes it removes."""
    yield from _role(settings)
    try:
        allowed = named_places(settings.redis, settings.s3, settings.tracing.url)
    except ConfigurationError as error:
        yield Finding("places to dial", "fail", error.message, f"mend {error.field}")
        return
    if not allowed.places:
        return
    shown = [f"{host}:{port}" if port else host for host, port in (*sorted(allowed.places), *sorted(allowed.networks))]
    yield Finding("places to dial", "ok", ", ".join(shown))
    if settings.redis.url or settings.redis.host:
        yield from _redis(settings.redis, allowed)
    if settings.s3.url:
        yield from _s3(settings.s3)


def _role(settings: Settings) -> Iterator[Finding]:
    fleet = settings.fleet
    try:
        check_fleet(settings)
        read_remote_files(settings)
    except ConfigurationError as error:
        yield Finding(f"role {fleet.role}", "fail", error.message, f"set {error.field}")
        return
    if fleet.role == "all" and not (settings.redis.url or settings.redis.host or settings.s3.url):
        yield Finding("stores", "ok", "this host's own: SQLite and a directory")
        return
    yield Finding(f"role {fleet.role}", "ok", "nothing is missing")
    if settings.s3.url and not (settings.redis.url or settings.redis.host):
        fix = "set redis.url too, if another daemon is to find the same sessions"
        yield Finding("stores", "note", "bytes in S3, sessions on this host", fix)


def _redis(settings: RedisSettings, allowed: Allowed) -> Iterator[Finding]:
    try:
        client, led_to = _redis_client(settings)
    except (ValueError, *_LOST) as error:
        yield Finding("redis", "fail", _one_line(error), "look at redis.url, redis.ca and redis.certificate")
        return
    for host, port in led_to:
        if not allowed.permits(host, port):
            fix = f"add {host}:{port}, or a network with its port, to redis.nodes"
            yield Finding("redis nodes", "fail", f"{host}:{port} is where we are led, and may not be dialled", fix)
    try:
        yield from _examine_redis(client, settings)
    except redis.AuthenticationError as error:
        yield Finding("redis", "fail", _one_line(error), "set redis.password, and redis.username if it has users")
    except redis.exceptions.NoPermissionError as error:
        yield Finding("redis", "fail", _one_line(error), "allow it to this user, for all keys of redis.prefix")
    except _LOST as error:
        yield Finding("redis", "fail", _one_line(error), "is the server running, and reachable from this host?")
    finally:
        client.close()


def _examine_redis(client: Any, settings: RedisSettings) -> Iterator[Finding]:
    started = time.perf_counter()
    client.ping()
    took = (time.perf_counter() - started) * 1000
    facts: dict[str, Any] = _of_one(client.info())
    version = str(facts.get("redis_version", "0"))
    good = tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) >= OLDEST_REDIS
    encrypted = "with TLS" if settings.url.startswith("rediss") else "without TLS"
    fix = f"Redis {'.'.join(map(str, OLDEST_REDIS))} or newer is needed"
    yield Finding("redis", "ok" if good else "fail", f"{version}, answers in {took:.1f} ms, {encrypted}", fix)
    remote = [host for host, _ in named_places(settings, S3Settings()).places if not _is_local(host)]
    if remote and not settings.url.startswith("rediss"):
        yield Finding("redis TLS", "note", "passwords and sessions cross the network as they are", "use rediss://")
    yield _round_trip(client, settings)
    offset, unsure = _clock_offset(client)
    shown = f"{offset:+.3f} s from Redis'"
    fix = "nothing depends on it but the times in logs and links: run an NTP client"
    yield Finding("clock", "ok" if abs(offset) - unsure <= CLOCK_SECONDS else "note", shown, fix)
    kept = (
        "append-only file" if facts.get("aof_enabled") else f"snapshots, the last at {facts.get('rdb_last_save_time')}"
    )
    fix = "a restart of Redis loses what was acknowledged since: set appendonly yes, and appendfsync everysec or always"
    yield Finding("redis persistence", "ok" if facts.get("aof_enabled") else "note", kept, fix)
    policy = str(facts.get("maxmemory_policy", "unknown"))
    fix = "under memory pressure Redis would forget sessions: set maxmemory-policy noeviction"
    yield Finding("redis eviction", "ok" if policy in ("noeviction", "unknown") else "fail", policy, fix)
    replicas = int(facts.get("connected_slaves", 0))
    if settings.replicas > replicas:
        fix = "start more replicas, or lower redis.replicas: until then every write is refused with 503"
        yield Finding("redis replicas", "fail", f"{replicas} of redis.replicas = {settings.replicas}", fix)


def _round_trip(client: Any, settings: RedisSettings) -> Finding:
    """Write, read and remove a key of our prefix, by a script too, and look whether streams are there."""
    key = f"{{{settings.prefix}}}:{_TRIAL}:{os.urandom(8).hex()}"
    client.set(key, b"tried", ex=60)
    script = "local was = redis.call('GET', KEYS[1]); redis.call('DEL', KEYS[1]); return was"
    same = client.eval(script, 1, key) == b"tried"
    client.xadd(key, {"a": b"b"})
    client.expire(key, 60)
    client.delete(key)
    fix = "look at the server's log"
    return Finding("redis keys", "ok" if same else "fail", "written, read by a script, removed; streams", fix)


def _clock_offset(client: Any) -> tuple[float, float]:
    """Give how far our clock is before Redis', and by how much that may be wrong: half of what the answer took."""
    before = time.time()
    seconds, microseconds = _of_one(client.time(), kind=tuple)
    after = time.time()
    return (before + after) / 2 - (float(seconds) + float(microseconds) / 1e6), (after - before) / 2


def _of_one(answer: Any, kind: type = dict) -> Any:
    """Of a cluster, which answers for each node: the first one's."""
    if isinstance(answer, dict) and kind is tuple:
        return next(iter(answer.values()))
    if isinstance(answer, dict) and answer and all(isinstance(each, dict) for each in answer.values()):
        first = next(iter(answer.values()))
        return first if "redis_version" in first else answer
    return answer


def _redis_client(settings: RedisSettings) -> tuple[Any, list[tuple[str, int]]]:
    """Make a client of redis-py's own kind; give the places too to which sentinels or the cluster lead."""
    url = settings.url
    scheme = url.partition("://")[0]
    more: dict[str, Any] = {
        "socket_timeout": settings.socket_seconds,
        "socket_connect_timeout": settings.connect_seconds,
        "retry": Retry(NoBackoff(), 0),
    }
    more |= {name: value for name in ("username", "password") if (value := getattr(settings, name))}
    if not url:
        return redis.Redis(host=settings.host, port=settings.port, db=settings.db, **more), []
    if "+" not in scheme:
        more |= {} if scheme == "unix" else _tls(settings)
        return redis.Redis.from_url(url, **more), []
    # redis-py has no words for the other two.
    places = sorted(named_places(RedisSettings(url=url), S3Settings()).places)
    user, _, rest = url.partition("://")[2].rpartition("@")
    name, _, password = user.partition(":")
    more |= {key: unquote(value) for key, value in (("username", name), ("password", password)) if value}
    tls = _tls(settings) | ({"ssl": True} if scheme.startswith("rediss") else {})
    if scheme.endswith("+cluster"):
        nodes = [redis.cluster.ClusterNode(host, port) for host, port in places]  # type: ignore[no-untyped-call]
        cluster = redis.RedisCluster(startup_nodes=nodes, **more, **tls)
        return cluster, [(node.host, node.port) for node in cluster.get_nodes()]  # type: ignore[no-untyped-call]
    secret: dict[str, Any] = {"password": settings.sentinel_password} if settings.sentinel_password else {}
    secret |= tls | {"socket_timeout": settings.socket_seconds}
    asked: Any = redis.sentinel.Sentinel(places, sentinel_kwargs=secret, **more, **tls)  # type: ignore[no-untyped-call]
    main = [*re.split(r"[/?]", rest), ""][1]
    return asked.master_for(main), [asked.discover_master(main)]


def _tls(settings: RedisSettings) -> dict[str, Any]:
    if not settings.url.startswith("rediss"):
        return {}
    own = {"ssl_certfile": settings.certificate, "ssl_keyfile": settings.certificate_key}
    return {"ssl_ca_certs": settings.ca or str(HOST_AUTHORITIES), **(own if settings.certificate else {})}


def _s3(settings: S3Settings) -> Iterator[Finding]:
    client = _s3_client(settings)
    name = f"{settings.prefix}{_TRIAL}-{os.urandom(8).hex()}"
    where: dict[str, Any] = {"Bucket": settings.bucket, "Key": name}
    sealed = _encryption(settings)
    try:
        started = time.perf_counter()
        client.head_bucket(Bucket=settings.bucket)
        took = (time.perf_counter() - started) * 1000
        encrypted = "with TLS" if settings.url.startswith("https:") else "without TLS"
        yield Finding("s3", "ok", f"bucket {settings.bucket}, answers in {took:.1f} ms, {encrypted}")
        client.put_object(**where, Body=b"tried", **sealed)
        same = client.get_object(**where)["Body"].read() == b"tried"
        client.delete_object(**where)
        yield Finding("s3 objects", "ok" if same else "fail", "written, read, removed", "another object came back")
        yield _in_parts(client, where, sealed)
    except botocore.exceptions.ClientError as error:
        yield Finding("s3", "fail", _one_line(error), _what_to_do(error, settings))
    except (botocore.exceptions.BotoCoreError, OSError) as error:
        fix = "is the server running, and reachable from this host? s3.url, s3.ca"
        yield Finding("s3", "fail", _one_line(error), fix)
    finally:
        client.close()


def _in_parts(client: Any, where: dict[str, Any], sealed: dict[str, Any]) -> Finding:
    """Upload an object in two parts, and give another one up in the middle."""
    for complete in (True, False):
        upload = client.create_multipart_upload(**where, **sealed)["UploadId"]
        parts: list[dict[str, Any]] = []
        for number, body in enumerate((bytes(PART_BYTES), b"end"), start=1):
            told = client.upload_part(**where, UploadId=upload, PartNumber=number, Body=body)
            parts.append({"ETag": told["ETag"], "PartNumber": number})
        if complete:
            client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})
        else:
            client.abort_multipart_upload(**where, UploadId=upload)
    size = client.head_object(**where)["ContentLength"]
    client.delete_object(**where)
    good = size == PART_BYTES + 3
    return Finding("s3 parts", "ok" if good else "fail", f"uploaded in parts ({size} bytes), given up, removed")


def _what_to_do(error: botocore.exceptions.ClientError, settings: S3Settings) -> str:
    code = str(error.response.get("Error", {}).get("Code", ""))
    if code in ("404", "NoSuchBucket"):
        return f"make the bucket {settings.bucket}, or set s3.bucket"
    if code in (
        "401",
        "403",
        "AccessDenied",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "AuthorizationHeaderMalformed",
    ):
        return "look at s3.access_key, s3.secret_key, s3.region, and what the key may do with the bucket"
    return "look at the server's log"


def _encryption(settings: S3Settings) -> dict[str, Any]:
    if not settings.encryption:
        return {}
    key = {"SSEKMSKeyId": settings.kms_key} if settings.kms_key else {}
    return {"ServerSideEncryption": settings.encryption, **key}


def _s3_client(settings: S3Settings) -> Any:
    config = botocore.config.Config(
        s3={"addressing_style": "path" if settings.path_style else "virtual"},
        connect_timeout=settings.connect_seconds,
        read_timeout=settings.read_seconds,
        retries={"total_max_attempts": 1},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        proxies={},
    )
    return boto3.session.Session().client(
        "s3",
        endpoint_url=settings.url,
        region_name=settings.region,
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.secret_key,
        aws_session_token=settings.session_token or None,
        verify=settings.ca or (str(HOST_AUTHORITIES) if HOST_AUTHORITIES.exists() else None),
        config=config,
    )


def _is_local(host: str) -> bool:
    return host.startswith(("unix:", "127.")) or host in ("localhost", "::1")


def _one_line(error: BaseException) -> str:
    """Give what it says; redis-py and botocore put no secret into that."""
    return " ".join(str(error).split())[:300] or type(error).__name__

"""Settings of everything beyond one machine: Redis, S3, saved states, and the fleet of gateways and workers."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Struct

from supervisor.settings.meta import FILE_RULE, SECRET, meta

_ENDPOINT_RULE: Final = r"^$|^https?://[A-Za-z0-9._-]+(:[0-9]{1,5})?$|^https?://\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?$"


class RedisSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[redis]``: sessions and metadata beyond one machine, instead of SQLite. On when ``url`` or ``host`` is set."""

    url: Annotated[
        str,
        meta(
            "redis://, rediss:// (TLS), redis+sentinel://HOST:PORT,.../NAME, redis+cluster://HOST:PORT,...; "
            "rediss+sentinel://, rediss+cluster:// with TLS; unix:///path; empty: see host",
            extra=SECRET,
        ),
    ] = ""
    host: Annotated[str, meta("instead of a url; empty: no Redis", pattern=r"^[A-Za-z0-9._:-]*$")] = ""
    port: Annotated[int, meta("of host", ge=1, le=65_535)] = 6379
    db: Annotated[int, meta("number of the database, unless the url says it", ge=0, le=1 << 16)] = 0
    username: Annotated[str, meta("for the password, unless the url says it")] = ""
    password: Annotated[str, meta("unless the url says it", extra=SECRET)] = ""
    sentinel_password: Annotated[str, meta("of the sentinels themselves", extra=SECRET)] = ""
    prefix: Annotated[
        str,
        meta("of every key; daemons with different ones know nothing of each other", pattern=r"^[A-Za-z0-9_.-]{1,64}$"),
    ] = "gaoler"
    connections: Annotated[int, meta("at once, for calls that do not wait", ge=1, le=4096)] = 20
    socket_seconds: Annotated[float, meta("longest wait for an answer", gt=0, le=600)] = 5.0
    connect_seconds: Annotated[float, meta("longest wait for a connection", gt=0, le=600)] = 5.0
    retry_seconds: Annotated[
        float, meta("a call is tried again for so long while no server answers, then refused with 503", ge=0, le=600)
    ] = 10.0
    ca: Annotated[str, meta("file with certificate authorities (PEM); empty: the host's", pattern=FILE_RULE)] = ""
    certificate: Annotated[str, meta("file with our certificate (PEM), if the server asks", pattern=FILE_RULE)] = ""
    certificate_key: Annotated[str, meta("file with its key (PEM)", pattern=FILE_RULE)] = ""
    nodes: Annotated[
        str,
        meta(
            "where sentinels and clusters may lead us beside the hosts of the url: NETWORK/BITS:PORT or HOST:PORT, "
            "separated by commas",
        ),
    ] = ""
    replicas: Annotated[
        int, meta("what was acknowledged has reached so many replicas; 0: only the primary", ge=0, le=16)
    ] = 0
    replica_seconds: Annotated[float, meta("longest wait for them, then 503", gt=0, le=60)] = 1.0


class S3Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[s3]``: bytes beyond one machine, instead of the state directory. On when ``url`` is set."""

    url: Annotated[str, meta("https://HOST:PORT of any S3-compatible server; empty: no S3", pattern=_ENDPOINT_RULE)] = (
        ""
    )
    bucket: Annotated[str, meta("of everything; it has to exist", pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")] = (
        "code-interpreter-files"
    )
    prefix: Annotated[str, meta("of every object's name", pattern=r"^([A-Za-z0-9_.-]+/)*$")] = ""
    region: Annotated[str, meta("as the server calls it", pattern=r"^[A-Za-z0-9-]{1,64}$")] = "garage"
    access_key: Annotated[str, meta("name of the key", extra=SECRET)] = ""
    secret_key: Annotated[str, meta("the key", extra=SECRET)] = ""
    session_token: Annotated[str, meta("with keys that last a short time", extra=SECRET)] = ""
    path_style: Annotated[bool, meta("the bucket is in the path, not in the host's name")] = True
    encryption: Annotated[
        Literal["", "AES256", "aws:kms"], meta("the server keeps every object encrypted so; empty: as it likes")
    ] = ""
    kms_key: Annotated[str, meta("id of the key for aws:kms; empty: the server's own")] = ""
    ca: Annotated[str, meta("file with certificate authorities (PEM); empty: the host's", pattern=FILE_RULE)] = ""
    connections: Annotated[int, meta("at once", ge=1, le=1024)] = 16
    connect_seconds: Annotated[float, meta("longest wait for a connection", gt=0, le=600)] = 5.0
    read_seconds: Annotated[float, meta("longest wait for an answer, or for more of it", gt=0, le=3600)] = 30.0
    attempts: Annotated[int, meta("a request that failed is tried so often in all", ge=1, le=20)] = 4
    part_bytes: Annotated[
        int, meta("of a file that is sent in parts; held in memory for each upload", ge=5 << 20, le=1 << 30)
    ] = 8 << 20


class StateSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[state]``: saved interpreters, where Redis and S3 are used. How long in all: ``live.archive_hours``."""

    hot_bytes: Annotated[int, meta("larger ones go to S3 at once; 0: all of them", ge=0, le=1 << 32)] = 100 << 20
    hot_seconds: Annotated[
        float, meta("without archive: kept so long after the last use; with it: in S3 by then", gt=0, le=366 * 86_400)
    ] = 7200.0
    archive: Annotated[bool, meta("move unused ones from Redis to S3; otherwise they go after hot_seconds")] = True
    archive_after_seconds: Annotated[float, meta("unused so long", gt=0, le=366 * 86_400)] = 3600.0
    archive_check_seconds: Annotated[float, meta("how often those are looked for", gt=0, le=86_400)] = 300.0
    snapshot_seconds: Annotated[
        float,
        meta("with a fleet: a session is saved so long after each execution, for when its worker dies", gt=0, le=3600),
    ] = 1.0


Role = Literal["all", "gateway", "worker"]


class FleetSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[fleet]``: gateways and workers that share one Redis and one S3."""

    role: Annotated[
        Role, meta("gateway: takes requests; worker: runs them; all: both in one, without a queue between them")
    ] = "all"
    name: Annotated[
        str, meta("of this process, unique in the fleet; empty: made at start", pattern=r"^[A-Za-z0-9_.-]{0,64}$")
    ] = ""
    secret: Annotated[
        str,
        meta("the same for all of a fleet, at least 32 characters: links, ids and tokens come from it", extra=SECRET),
    ] = ""
    service_token: Annotated[
        str, meta("who shows it may use /internal; at least 32 characters; empty: nobody may", extra=SECRET)
    ] = ""
    signing_key: Annotated[
        str, meta("file KID.pem with the gateway's Ed25519 private key; its name is the key's id", pattern=FILE_RULE)
    ] = ""
    trusted_keys: Annotated[
        str, meta("directory with files KID.pem, the public keys of gateways that a worker obeys", pattern=FILE_RULE)
    ] = ""
    places: Annotated[int, meta("executions that a worker takes at once; 0: execution.concurrent", ge=0, le=1024)] = 0
    heartbeat_seconds: Annotated[float, meta("how often each says that it lives", gt=0, le=60)] = 2.0
    lost_seconds: Annotated[float, meta("who has not said so for so long is gone", gt=0, le=600)] = 10.0
    lease_seconds: Annotated[float, meta("a session belongs to a worker so long after its last word", gt=0, le=600)] = (
        15.0
    )
    queue_length: Annotated[int, meta("jobs that wait for a worker; more are refused with 429", ge=1, le=1_000_000)] = (
        1000
    )
    queue_age_seconds: Annotated[
        float, meta("when the oldest waits longer, more are refused with 429", gt=0, le=3600)
    ] = 20.0
    ledger_seconds: Annotated[float, meta("what became of each job is kept so long", gt=0, le=366 * 86_400)] = 3600.0
    drain_seconds: Annotated[
        float, meta("a worker that is told to leave has so long to finish what it runs", gt=0, le=86_400)
    ] = 120.0

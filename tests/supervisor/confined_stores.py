"""A program that becomes what a daemon is, view, network and filter, and then talks to Redis and S3 by its connector.

In: settings by key, as JSON; out: what came of it, as JSON.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import boto3
import botocore.awsrequest
import botocore.config
import redis

from supervisor.dialling import Dial
from supervisor.jailer import kernel
from supervisor.jailer.setup import become_ordinary_user
from supervisor.prepare import code_directories, own_filters, told_of_names
from supervisor.prepare_remote import read_remote_files, start_way_out
from supervisor.settings import Settings, load

LARGE = bytes(range(256)) * (16 << 10)


def use_redis(settings: Settings, dial: Dial) -> dict[str, Any]:
    wanted, url = settings.redis, settings.redis.url

    class Dialled(redis.connection.Connection):
        def _connect(self) -> socket.socket:
            return dial(self.host, self.port, 5)

    class DialledTls(redis.connection.SSLConnection):
        def _connect(self) -> Any:
            return self._wrap_socket_with_ssl(dial(self.host, self.port, 5))  # type: ignore[no-untyped-call]

    tls = {"ssl_ca_certs": wanted.ca, "ssl_certfile": wanted.certificate, "ssl_keyfile": wanted.certificate_key}
    more: dict[str, Any] = tls if url.startswith("rediss") else {}
    kind = DialledTls if more else Dialled
    client = redis.Redis(connection_pool=redis.ConnectionPool.from_url(url, connection_class=kind, **more))
    client.set("large", LARGE)
    threads = [threading.Thread(target=lambda: client.incrby("sum", 7)) for _ in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    answer = {"same": client.get("large") == LARGE, "sum": int(client.get("sum") or 0)}
    client.close()
    return answer


def use_s3(settings: Settings, dial: Dial) -> dict[str, Any]:
    wanted = settings.s3

    def connect(self: Any) -> socket.socket:
        return dial(self.host, self.port, 5)

    botocore.awsrequest.AWSHTTPConnection._new_conn = connect
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=wanted.url,
        aws_access_key_id=wanted.access_key,
        aws_secret_access_key=wanted.secret_key,
        region_name="us-east-1",
        config=botocore.config.Config(s3={"addressing_style": "path"}, proxies={}),
    )
    client.put_object(Bucket=wanted.bucket, Key="a", Body=LARGE)
    same = client.get_object(Bucket=wanted.bucket, Key="a")["Body"].read() == LARGE
    upload = client.create_multipart_upload(Bucket=wanted.bucket, Key="b")["UploadId"]
    part = client.upload_part(Bucket=wanted.bucket, Key="b", UploadId=upload, PartNumber=1, Body=LARGE)
    parts = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]}
    client.complete_multipart_upload(Bucket=wanted.bucket, Key="b", UploadId=upload, MultipartUpload=parts)
    size = client.head_object(Bucket=wanted.bucket, Key="b")["ContentLength"]
    return {"same": same, "size": size}


def refused(attempt: Any) -> str:
    try:
        attempt()
    except OSError as error:
        return type(error).__name__
    return "done"


def main() -> None:
    settings = load(file=None, environment={}, flags=json.load(sys.stdin)).settings
    filters, remote = own_filters(settings), read_remote_files(settings)
    connector = start_way_out(settings, filters["connector"], code_directories(), told_of_names(), as_root=True)
    assert connector is not None
    become_ordinary_user(settings.jailer.daemon_uid, settings.state_path / "root", code_directories(), [])
    ca = settings.redis.ca
    settings = remote.shown(settings)
    kernel.install_seccomp(filters["daemon"], all_threads=True)
    told: dict[str, Any] = {
        "new socket": refused(socket.socket),
        "files of root": refused(lambda: Path(ca).read_bytes()) if ca else "",
        "elsewhere": refused(lambda: connector.dial("127.0.0.1", 1, 5)),
        "redis": use_redis(settings, connector.dial),
    }
    if settings.s3.url:
        told["s3"] = use_s3(settings, connector.dial)
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()

"""A fleet in a test's virtual machine, from its units: Redis there, a server of the S3 protocol outside, one host for all.

Settings are one file for both roles; keys are made by ``gaoler fleet keygen``, secrets are credentials of systemd. What the
machine knows of the outside is one network, without a way on: the loopback of this host is ``store`` there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.s3_server import ACCESS_KEY, SECRET_KEY, S3Server
from tests.systemd.machine import Machine

GATEWAY: Final = "gaoler-gateway.service"
WORKER: Final = "gaoler-worker.service"
REDIS: Final = "redis-server.service"
# Without a dot: of a longer name the server takes the first part for a bucket.
_S3_HOST: Final = "store"
_NETWORK: Final = f"""
link=$(basename /sys/class/net/e*)
ip link set $link up && ip address add 10.0.2.15/24 dev $link && echo 10.0.2.2 {_S3_HOST} >> /etc/hosts
"""
_PASSWORD: Final = "password-of-redis-0123456789"
_SECRETS: Final = {
    "fleet.secret": "secret-of-the-fleet-0123456789abcdef",
    "fleet.service_token": "service-token-of-the-fleet-0123456789",
    "redis.password": _PASSWORD,
    "s3.access_key": ACCESS_KEY,
    "s3.secret_key": SECRET_KEY,
}
_SETTINGS: Final = """
[redis]
host = "127.0.0.1"
[s3]
url = "http://{host}:{port}"
bucket = "{bucket}"
region = "us-east-1"
[fleet]
trusted_keys = "/etc/gaoler/keys/public"
# An emulated processor, shared with others.
lost_seconds = 60
lease_seconds = 90
"""
_GATEWAY_DROP_IN: Final = """[Service]
LoadCredential=gateway-1.pem:/etc/gaoler/keys/gateway-1.pem
Environment=GAOLER_FLEET_SIGNING_KEY=%d/gateway-1.pem
"""
_WORKER_DROP_IN: Final = """[Service]
Environment=GAOLER_BIND=127.0.0.1:8001
"""
_NOTE: Final = """
group=/sys/fs/cgroup$(systemctl show -P ControlGroup {unit})
find $group -name cgroup.procs -exec cat {{}} + | sort -n > /tmp/processes
for each in $(cat /tmp/processes); do readlink /proc/$each/ns/*; done | sort -u > /tmp/theirs
readlink /proc/1/ns/* | sort -u | comm -13 - /tmp/theirs > /tmp/namespaces
awk '{{print $5}}' /proc/1/mountinfo | grep -F {unit} > /tmp/mounts
find $group -type d > /tmp/groups
wc -l < /tmp/processes; wc -l < /tmp/namespaces; wc -l < /tmp/mounts; wc -l < /tmp/groups
"""
_LEFT: Final = """
for each in $(cat /tmp/processes); do test ! -e /proc/$each || echo process $each; done
readlink /proc/[0-9]*/ns/* | sort -u | comm -12 - /tmp/namespaces
awk '{print $5}' /proc/1/mountinfo | grep -Fx -f /tmp/mounts
awk '{print $5}' /proc/1/mountinfo | grep -e nsjail -e gaoler/root -e gaoler/run
for each in $(cat /tmp/groups); do test ! -e $each || echo $each; done
ps -e -ww -o pid=,uid=,cgroup:200=,args= | awk '$2 >= 199999 && $3 !~ /gaoler-gateway.service/'
true
"""


@dataclass
class Fleet:
    """What is outside of the machine, and what tests tell each other: they go through it in order."""

    s3: S3Server
    bucket: str
    session: str = ""
    """Of a live interpreter, in which something is kept."""

    @property
    def objects(self) -> int:
        """How many there are in the bucket."""
        return int(self.s3.client().list_objects_v2(Bucket=self.bucket)["KeyCount"])


def put(machine: Machine, path: str, text: str, mode: str = "644") -> None:
    """Write a file in the machine."""
    machine.run(f"install -D -m {mode} /dev/stdin {path} <<'END'\n{text}\nEND")


def lay_out(machine: Machine, fleet: Fleet) -> None:
    """Write all that an operator writes, and start Redis. Neither gateway nor worker is started."""
    machine.run(_NETWORK)
    machine.run(f"echo requirepass {_PASSWORD} >> /etc/redis/redis.conf && systemctl start {REDIS}")
    machine.run("/opt/gaoler/bin/gaoler fleet keygen --id gateway-1 /etc/gaoler/keys")
    for name, secret in _SECRETS.items():
        put(machine, f"/etc/credstore/gaoler.{name}", secret, "600")
    put(machine, "/tmp/fleet.toml", _SETTINGS.format(host=_S3_HOST, port=fleet.s3.port, bucket=fleet.bucket))
    machine.run("cat /tmp/fleet.toml >> /etc/gaoler/gaoler.toml")
    put(machine, f"/etc/systemd/system/{GATEWAY}.d/fleet.conf", _GATEWAY_DROP_IN)
    put(machine, f"/etc/systemd/system/{WORKER}.d/fleet.conf", _WORKER_DROP_IN)
    machine.run("systemctl daemon-reload")


def note(machine: Machine, unit: str) -> None:
    """Note what the kernel holds for a unit that runs: some of each, or :func:`left` could find nothing."""
    counts = [int(count) for count in machine.run(_NOTE.format(unit=unit)).split()]
    assert len(counts) == 4, counts
    assert min(counts) > 0, counts


def left(machine: Machine) -> str:
    """Give what is left of that: processes, namespaces, mounts, cgroups; nobody of our range but the gateway's."""
    return machine.run(_LEFT)

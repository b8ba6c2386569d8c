#!/bin/bash
# Startup script of a worker on Compute Engine (Debian 12, x86-64): installs Gaoler as a host service. No container: the
# daemon gives up root by itself, and systemd gives it its cgroups. Runs at every boot; the second time it changes nothing.
#
#   gcloud compute instance-templates create ... --metadata-from-file startup-script=worker-startup.sh \
#       --metadata gaoler-release=gs://BUCKET/gaoler.tar.gz,gaoler-redis-host=...,gaoler-bucket=...
#
# Metadata: gaoler-release (a tar of the repository), gaoler-redis-host, gaoler-bucket, gaoler-concurrent (8).
# Secrets, which the instance's service account may read: gaoler-fleet-secret, gaoler-service-token, gaoler-redis-auth,
# gaoler-redis-ca, gaoler-s3-access-key, gaoler-s3-secret-key; gaoler-trusted-key, and its id in metadata gaoler-key-id.
set -euo pipefail

metadata() {
    curl -fsS -H 'Metadata-Flavor: Google' "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}
secret() {
    gcloud secrets versions access latest --secret "$1"
}

if ! [[ -x /opt/gaoler/bin/gaoler ]]; then
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends python3 python3-venv catatonit
    release=$(mktemp -d)
    gcloud storage cat "$(metadata gaoler-release)" | tar -xz -C "$release" --strip-components 1
    python3 -m venv /opt/gaoler
    /opt/gaoler/bin/pip install -q --require-hashes -r "$release/requirements.lock"
    install -m 0644 "$release/systemd/gaoler.service" /etc/systemd/system/gaoler.service
    # Last: it is what is looked for above.
    /opt/gaoler/bin/pip install -q --no-deps "$release"
    rm -rf "$release"
fi

umask 077
mkdir -p /etc/gaoler/trusted
secret gaoler-redis-ca >/etc/gaoler/redis-ca.pem
secret gaoler-trusted-key >"/etc/gaoler/trusted/$(metadata gaoler-key-id).pem"
# Read by systemd, as root, before the service starts.
cat >/etc/gaoler/environment <<SETTINGS
GAOLER_FLEET_ROLE=worker
GAOLER_BIND=127.0.0.1:8000
GAOLER_FLEET_SECRET=$(secret gaoler-fleet-secret)
GAOLER_FLEET_SERVICE_TOKEN=$(secret gaoler-service-token)
GAOLER_FLEET_TRUSTED_KEYS=/etc/gaoler/trusted
GAOLER_FLEET_DRAIN_SECONDS=60
GAOLER_EXECUTION_CONCURRENT=$(metadata gaoler-concurrent || echo 8)
GAOLER_REDIS_URL=rediss://$(metadata gaoler-redis-host):6378/0
GAOLER_REDIS_PASSWORD=$(secret gaoler-redis-auth)
GAOLER_REDIS_CA=/etc/gaoler/redis-ca.pem
GAOLER_S3_URL=https://storage.googleapis.com
GAOLER_S3_BUCKET=$(metadata gaoler-bucket)
GAOLER_S3_REGION=auto
GAOLER_S3_ACCESS_KEY=$(secret gaoler-s3-access-key)
GAOLER_S3_SECRET_KEY=$(secret gaoler-s3-secret-key)
SETTINGS
# Compute Engine gives a machine that is stopped some 90 seconds: draining has to fit in.
mkdir -p /etc/systemd/system/gaoler.service.d
cat >/etc/systemd/system/gaoler.service.d/worker.conf <<UNIT
[Service]
EnvironmentFile=/etc/gaoler/environment
TimeoutStopSec=80
UNIT
/opt/gaoler/bin/gaoler image build --languages all
systemctl daemon-reload
systemctl enable --now gaoler.service

#!/bin/bash
# Deploy a gateway to Cloud Run. Workers run elsewhere (worker-startup.sh): Cloud Run can make no sandboxes.
#
#   deploy-gateway.sh [--dry-run]
#
# Needed in the environment:
#   PROJECT REGION IMAGE         of the service; IMAGE as built by deploy/container/build-images and pushed
#   NETWORK SUBNET               from which Redis is reached
#   SERVICE_ACCOUNT              with the right to read the secrets below, and no other
#   REDIS_HOST                   address of Memorystore (TLS, port 6378)
#   BUCKET                       in Cloud Storage; it has to exist
#   KEY_ID                       id of the signing key, as `gaoler fleet keygen` has named it
# Secrets that have to exist in Secret Manager (names; each can be changed by the variable in brackets):
#   gaoler-api-key [API_KEY_SECRET]            gaoler-fleet-secret [FLEET_SECRET]
#   gaoler-service-token [TOKEN_SECRET]        gaoler-signing-key [SIGNING_KEY_SECRET]
#   gaoler-redis-auth [REDIS_AUTH_SECRET]      gaoler-redis-ca [REDIS_CA_SECRET]
#   gaoler-s3-access-key [ACCESS_KEY_SECRET]   gaoler-s3-secret-key [SECRET_KEY_SECRET]
# May be set:
#   SERVICE (gaoler-gateway)  INGRESS (internal)  MIN_INSTANCES (2)  MAX_INSTANCES (20)  CONCURRENCY (40)
#   PUBLIC_URL (where callers reach it; links to files lead there)
set -euo pipefail

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"
}

dry=
case ${1:-} in
    --help | -h) usage; exit 0 ;;
    --dry-run) dry=yes ;;
    "") ;;
    *) echo "unknown option $1; see --help" >&2; exit 64 ;;
esac

missing=()
for each in PROJECT REGION IMAGE NETWORK SUBNET SERVICE_ACCOUNT REDIS_HOST BUCKET KEY_ID; do
    [[ -n ${!each:-} ]] || missing+=("$each")
done
if [[ ${#missing[@]} -gt 0 ]]; then
    echo "not set: ${missing[*]}; see --help" >&2
    exit 64
fi
if ! [[ $KEY_ID =~ ^[A-Za-z0-9_.-]+$ ]]; then
    echo "KEY_ID is the name of a key: letters, digits, _ . -" >&2
    exit 64
fi

run() {
    if [[ -n $dry ]]; then
        printf '%q ' "$@"
        echo
    else
        "$@"
    fi
}

join() {
    local IFS='|'
    echo "^|^$*"
}

settings=(
    GAOLER_FLEET_ROLE=gateway
    GAOLER_BIND=0.0.0.0:8000
    GAOLER_STATE_DIR=/tmp/gaoler
    GAOLER_FLEET_SIGNING_KEY="/keys/$KEY_ID.pem"
    GAOLER_REDIS_URL="rediss://$REDIS_HOST:6378/0"
    GAOLER_REDIS_CA=/redis-ca/ca.pem
    GAOLER_S3_URL=https://storage.googleapis.com
    GAOLER_S3_BUCKET="$BUCKET"
    GAOLER_S3_REGION=auto
    GAOLER_S3_PATH_STYLE=true
)
[[ -z ${PUBLIC_URL:-} ]] || settings+=(GAOLER_HTTP_PUBLIC_URL="$PUBLIC_URL")
secrets=(
    GAOLER_API_KEY="${API_KEY_SECRET:-gaoler-api-key}:latest"
    GAOLER_FLEET_SECRET="${FLEET_SECRET:-gaoler-fleet-secret}:latest"
    GAOLER_FLEET_SERVICE_TOKEN="${TOKEN_SECRET:-gaoler-service-token}:latest"
    GAOLER_REDIS_PASSWORD="${REDIS_AUTH_SECRET:-gaoler-redis-auth}:latest"
    GAOLER_S3_ACCESS_KEY="${ACCESS_KEY_SECRET:-gaoler-s3-access-key}:latest"
    GAOLER_S3_SECRET_KEY="${SECRET_KEY_SECRET:-gaoler-s3-secret-key}:latest"
    "/keys/$KEY_ID.pem=${SIGNING_KEY_SECRET:-gaoler-signing-key}:latest"
    "/redis-ca/ca.pem=${REDIS_CA_SECRET:-gaoler-redis-ca}:latest"
)

# gen2: a whole kernel, on which our system-call filters are compiled and put on. CPU always: a gateway says that it lives and
# reads answers between requests too. Who calls is asked by the gateway itself (API key, LibreChat's tokens).
run gcloud run deploy "${SERVICE:-gaoler-gateway}" \
    --project "$PROJECT" --region "$REGION" --image "$IMAGE" --service-account "$SERVICE_ACCOUNT" \
    --execution-environment gen2 --no-cpu-throttling --cpu 1 --memory 1Gi --port 8000 \
    --min-instances "${MIN_INSTANCES:-2}" --max-instances "${MAX_INSTANCES:-20}" \
    --concurrency "${CONCURRENCY:-40}" --timeout 900 --session-affinity \
    --network "$NETWORK" --subnet "$SUBNET" --vpc-egress private-ranges-only \
    --ingress "${INGRESS:-internal}" --allow-unauthenticated \
    --set-env-vars "$(join "${settings[@]}")" --set-secrets "$(IFS=,; echo "${secrets[*]}")"

#!/bin/sh
# Makes the secrets that docker/compose.yaml mounts, once, in docker/secrets/ or the folder given.
# None of it is committed: the folder ignores itself.
set -eu
umask 077

folder=${1:-$(dirname "$0")/secrets}
if [ -e "$folder" ]; then
    echo "make-secrets: $folder is there already, nothing changed" >&2
    exit 1
fi
command -v openssl >/dev/null || { echo "make-secrets: openssl is needed" >&2; exit 1; }
draft=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$draft"' EXIT

password() { openssl rand -hex 24; }

redis=$(password)
echo "redis://:$redis@redis:6379/0" >"$draft/redis-url"
echo "requirepass $redis" >"$draft/redis.conf"

mongo=$(password)
echo "mongodb://dossier:$mongo@mongo:27017/?replicaSet=rs0&authSource=admin" >"$draft/mongo-url"
password >"$draft/mongo-root-password"
openssl rand -base64 741 >"$draft/mongo-keyfile"

password >"$draft/minio-root-password"
password >"$draft/s3-secret-key"

openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$draft/jwt-es256.pem"
openssl rand -base64 32 >"$draft/secret-keys"

# Keys between programs: give them to those who call (api-key: X-API-Key; private-token: Private-Token).
password >"$draft/api-key"
password >"$draft/private-token"
echo "whsec_$(openssl rand -base64 32)" >"$draft/scan-signing-secret"

# Compose mounts each file as it is and the servers run as different users, so each may read it in its container.
# On this machine the folder, which only its owner may enter, keeps everybody else out.
chmod 0444 "$draft"/*
echo '*' >"$draft/.gitignore"
mv "$draft" "$folder"
echo "make-secrets: made $folder"

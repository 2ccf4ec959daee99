#!/bin/sh
# Keys and certificates for compose.yaml: compose/secrets.sh [NODE]. The image must have been built.
#
# auth/kept is an auth directory (`tabard auth list --dir`): keep it, and keep it secret. Beside it are
# copies for each container's user. Run again after a change in auth/kept.
set -eu
node=${1:-${TABARD_NODE:-node-1}}
auth=${TABARD_AUTH:-$(cd "$(dirname "$0")" && pwd)/auth}
mkdir -p "$auth"
docker run --rm --network none --user 0:0 --volume "$auth:/auth" "${TABARD_IMAGE:-tabard}" sh -euc '
  umask 077
  cd /auth
  if [ ! -e kept/book.json ]; then
    tabard auth init kept --node "$1" --server nats-1=nats-1,127.0.0.1 \
      --server nats-2=nats-2,127.0.0.1 --server nats-3=nats-3,127.0.0.1
  fi
  mkdir -p shared tabard root
  install -m 0644 kept/ca.pem kept/accounts.conf shared
  for file in kept/servers/*.pem kept/servers/*.key kept/keys/*.seed; do
    case $file in
      kept/keys/agent.*) ;;
      *) install -o tabard -g tabard -m 0600 "$file" tabard ;;
    esac
  done
  install -m 0600 "kept/keys/agent.$1.seed" root/agent.seed
' sh "$node"

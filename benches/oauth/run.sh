#!/usr/bin/env bash
# Steward's token endpoint beside Flask with Authlib and npm's oidc-provider, in one run; prints Markdown.
# Builds Steward in the release profile (long, once) and installs the peers below the cache, at fixed versions.
# Environment: ROUNDS (3), SECONDS_EACH (8), CONNECTIONS (16), STEWARD_CACHE, CARGO_TARGET_DIR.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=docker/setup.sh
source docker/setup.sh
setup

for tool in wrk node npm openssl; do
  has "$tool" || die "$tool is missing; Debian's packages are wrk, nodejs, npm and openssl"
done

cargo build --locked --release --bin steward
peers=$STEWARD_CACHE/bench-oauth
mkdir -p "$peers"
[ -x "$peers/venv/bin/gunicorn" ] || python3 -m venv "$peers/venv"
"$peers/venv/bin/pip" install --quiet flask==3.1.3 authlib==1.9.9 gunicorn==27.0.1 cryptography==50.0.2
[ -d "$peers/node/node_modules/oidc-provider" ] || npm install --silent --no-audit --no-fund --prefix "$peers/node" oidc-provider@9.13.3

STEWARD=$CARGO_TARGET_DIR/release/steward PEER_VENV=$peers/venv PEER_NODE_MODULES=$peers/node/node_modules \
  exec python3 benches/oauth/bench.py

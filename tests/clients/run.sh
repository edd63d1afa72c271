#!/usr/bin/env bash
# OAuth clients that we did not write, unchanged, against a running Steward: Authlib, FastAgency's OpenAPI client,
# npm's openid-client and oauth4webapi. Installs them below the cache, starts a Steward of its own on loopback, and stops it.
#   tests/clients/run.sh [authlib|fastagency|openid]…
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=docker/setup.sh
source docker/setup.sh
setup
for tool in node npm openssl; do
  has "$tool" || die "$tool is missing; Debian's packages are nodejs, npm and openssl"
done

cargo build --locked --bin steward
steward=$CARGO_TARGET_DIR/debug/steward
scripts=$PWD/tests/clients
installed=$STEWARD_CACHE/clients
mkdir -p "$installed/node"
[ -x "$installed/venv/bin/python" ] || python3 -m venv "$installed/venv"
"$installed/venv/bin/pip" install --quiet --disable-pip-version-check -r "$scripts/requirements.txt"
cp "$scripts/package.json" "$scripts"/*.mjs "$installed/node/"
npm install --silent --no-audit --no-fund --prefix "$installed/node"
export PYTHON=$installed/venv/bin/python PYTHONPATH=$scripts PYTHONWARNINGS=ignore PYTHONDONTWRITEBYTECODE=1

data=$(mktemp -d)
server=
stop() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$data"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export STEWARD__DATA_DIR=$data STEWARD__SERVER__LISTEN=127.0.0.1:$port STEWARD__AUTH__PASSWORD_GRANT=true
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$data/signer.pem" 2>/dev/null
"$PYTHON" - "$data/signer.pem" >"$data/signer.jwks" <<'END'
import json, sys
from authlib.jose import JsonWebKey
key = JsonWebKey.import_key(open(sys.argv[1]).read(), {"kty": "EC"})
print(json.dumps({"keys": [{**key.as_dict(is_private=False), "alg": "ES256", "use": "sig"}]}))
END

scopes="semantic:read sql:generate sql:run actions:read rag:read rag:write"
redirect=http://127.0.0.1/callback
"$steward" client create --json --name machine --scopes "$scopes" >"$data/machine.json"
"$steward" client create --json --name signer --scopes "$scopes" --authentication private_key_jwt --jwks-file "$data/signer.jwks" >"$data/signer.json"
"$steward" client create --json --name app --scopes "$scopes" --authentication none --redirect-uri "$redirect" \
  --grant-type authorization_code --grant-type refresh_token >"$data/app.json"
"$steward" client create --json --name agent --scopes "$scopes" --grant-type token_exchange >"$data/agent.json"
"$steward" user create --json --scopes "$scopes" ann >"$data/user.json"
"$PYTHON" - "$data" "http://127.0.0.1:$port" "$redirect" "$scripts" >"$data/setting.json" <<'END'
import json, sys
data, issuer, redirect, scripts = sys.argv[1:]
setting = {name: json.load(open(f"{data}/{name}.json")) for name in ("machine", "signer", "app", "agent", "user")}
setting["signer"]["private_key"] = f"{data}/signer.pem"
setting["app"]["redirect_uri"] = redirect
print(json.dumps(setting | {"issuer": issuer, "scripts": scripts}))
END

"$steward" serve >"$data/log" 2>&1 &
server=$!
until curl -sf -o /dev/null --noproxy '*' "http://127.0.0.1:$port/health/ready"; do
  kill -0 "$server" 2>/dev/null || { cat "$data/log" >&2; die "the service ended"; }
  sleep 0.1
done

[ $# -gt 0 ] || set -- authlib fastagency openid
for client in "$@"; do
  case $client in
    authlib) "$PYTHON" "$scripts/authlib_client.py" "$data/setting.json" ;;
    fastagency) "$PYTHON" "$scripts/fastagency_client.py" "$data/setting.json" 2>"$data/fastagency.log" || { cat "$data/fastagency.log" >&2; exit 1; } ;;
    openid) node "$installed/node/openid_client.mjs" "$data/setting.json" ;;
    *) die "there is no client $client here; there are authlib, fastagency and openid" ;;
  esac
done
say "all of $* work"

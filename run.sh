#!/usr/bin/env bash
# Builds Steward and starts it with a demo that agents can be pointed at.
#
#   ./run.sh [--no-demo] [--release] [-- arguments of `steward serve`]
#
#   --no-demo   an empty service: its semantic, actions and indexes folders are made under .steward/
#   --release   optimised build (takes longer, once)
#
# Environment: STEWARD_LISTEN (127.0.0.1:8080), STEWARD_DEMO_API_LISTEN (127.0.0.1:8090), STEWARD_CACHE (~/.cache/steward),
# CARGO_TARGET_DIR, STEWARD_START_SECONDS (120). Ctrl-C stops everything.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=docker/setup.sh
source docker/setup.sh

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' run.sh; }

demo=true
profile=()
folder=debug
while [ $# -gt 0 ]; do
  case $1 in
    --no-demo) demo=false ;;
    --release) profile=(--release) folder=release ;;
    -h | --help) usage; exit 0 ;;
    --) shift; break ;;
    *) say "unknown argument $1"; usage >&2; exit 2 ;;
  esac
  shift
done

listen=${STEWARD_LISTEN:-127.0.0.1:8080}
api_listen=${STEWARD_DEMO_API_LISTEN:-127.0.0.1:8090}
state=.steward

# address → one that can be connected to: nothing connects to "any address".
reachable() {
  local host=${1%:*} port=${1##*:}
  case $host in
    0.0.0.0) host=127.0.0.1 ;;
    '[::]') host='[::1]' ;;
  esac
  echo "$host:$port"
}

free_port() { # address, variable that changes it, who wants it
  local address host port=${1##*:}
  [[ $1 == *:* && $port =~ ^[0-9]+$ && $port -ge 1 && $port -le 65535 ]] || die "$2=$1 is not host:port, for example $2=127.0.0.1:8081"
  address=$(reachable "$1")
  host=${address%:*}
  host=${host#[}
  if (exec 3<>"/dev/tcp/${host%]}/$port") 2>/dev/null; then
    die "$1, which $3 needs, is taken by another program. Stop that one, or choose another: $2=127.0.0.1:$((port < 65535 ? port + 1 : port - 1)) ./run.sh"
  fi
}

free_port "$listen" STEWARD_LISTEN "the service"
if $demo; then
  [ "${listen##*:}" != "${api_listen##*:}" ] || die "the service and the demo API cannot share port ${listen##*:}: set STEWARD_LISTEN or STEWARD_DEMO_API_LISTEN to another"
  free_port "$api_listen" STEWARD_DEMO_API_LISTEN "the demo API"
fi

setup

[ -d "$CARGO_TARGET_DIR/$folder/deps" ] || say "first build: 700 crates, ten to twenty minutes on two cores (with --release up to an hour); later ones take seconds"
cargo build --locked ${profile[@]+"${profile[@]}"} --bin steward || die "the build failed (reason above)"
steward=$CARGO_TARGET_DIR/$folder/steward

pids=()
names=()
stop() {
  local pid tries
  trap '' INT TERM HUP
  for pid in ${pids[@]+"${pids[@]}"}; do kill -TERM "$pid" 2>/dev/null || true; done
  for pid in ${pids[@]+"${pids[@]}"}; do
    for ((tries = 0; tries < 150; tries++)); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
  done
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

start() { # name, command …
  names+=("$1")
  shift
  "$@" &
  pids+=($!)
}

# Ends the script when one of the processes has ended.
check_alive() {
  local i status
  for i in "${!pids[@]}"; do
    kill -0 "${pids[i]}" 2>/dev/null && continue
    status=0
    wait "${pids[i]}" || status=$?
    say "${names[i]} has ended with status $status (its message is above); stopping"
    exit $((status == 0 ? 1 : status))
  done
}

wait_for() { # name, curl arguments …
  local name=$1 deadline=$((SECONDS + ${STEWARD_START_SECONDS:-120}))
  shift
  until curl --silent --output /dev/null --noproxy '*' --max-time 2 "$@"; do
    check_alive
    [ "$SECONDS" -lt "$deadline" ] || die "$name did not answer within ${STEWARD_START_SECONDS:-120} seconds; its log is above (STEWARD_START_SECONDS allows more)"
    sleep 0.1
  done
  # Another program may have taken the port meanwhile, and have answered.
  check_alive
}

mkdir -p "$state"
chmod 700 "$state"
url=http://$(reachable "$listen")

if $demo; then
  key_file=$state/demo-weather-key
  if [ ! -s "$key_file" ]; then
    (umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$key_file.new" && mv "$key_file.new" "$key_file")
  fi
  credentials=$state/demo-agent.json
  (
    umask 077
    # The credentials name the token endpoint, so the address must be the one that is served below.
    STEWARD__SERVER__LISTEN=$listen "$steward" client create --if-absent --name demo-agent \
      --scopes "semantic:read sql:generate sql:run actions:read actions:call rag:read rag:write" \
      --credentials-file "$credentials"
  ) || die "the demo's client could not be made (reason above)"
  [ -s "$credentials" ] ||
    die "$credentials is gone, and the secret of the client demo-agent cannot be read back. Revoke that client (steward client --help), or move $state away, then start again"

  weather_key=$(<"$key_file")
  WEATHER_API_KEY=$weather_key start "the demo API" "$steward" demo-api --listen "$api_listen"
  WEATHER_API_KEY=$weather_key WEATHER_API_URL=http://$(reachable "$api_listen") start "the service" "$steward" serve --listen "$listen" "$@"
  wait_for "the demo API" "http://$(reachable "$api_listen")/"
else
  mkdir -p "$state"/{semantic,actions,indexes}
  STEWARD__SEMANTIC__DIR=$state/semantic STEWARD__ACTIONS__DIR=$state/actions STEWARD__INDEXES__DIR=$state/indexes \
    start "the service" "$steward" serve --no-demo --listen "$listen" "$@"
fi
wait_for "the service" --fail "$url/health/ready"

echo
echo "Steward answers: $url/docs"
if $demo; then
  # The secret goes from the file to curl through a pipe: it is in no argument list, and on no screen.
  cat <<END

Paste into another terminal:

1. a token
   TOKEN=\$(python3 -c 'import json, sys; c = json.load(open(sys.argv[1])); print("user = \"%s:%s\"" % (c["client_id"], c["client_secret"]))' $(printf %q "$PWD/$credentials") | curl -sS -K - -d grant_type=client_credentials $url/oauth/token | python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])')

2. what data there is
   curl -sS -H "Authorization: Bearer \$TOKEN" $url/v1/semantic/datasets

3. who flies from New York
   curl -sS -H "Authorization: Bearer \$TOKEN" -H 'Content-Type: application/json' -d '{"sql": "SELECT carrier, count(*) AS flights FROM flights.flights GROUP BY carrier ORDER BY flights DESC LIMIT 5"}' $url/v1/sql/run
END
fi
echo
echo "Ctrl-C stops it."

# Returns when the first process ends; a signal's trap interrupts it.
wait -n "${pids[@]}" || true
check_alive

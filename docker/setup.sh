# shellcheck shell=bash
# What run.sh, test.sh and .ci/run have in common; sourced by them from the top of the checkout.
#
#   setup            everything below, in order; cheap when nothing is missing
#   setup_system     the system packages that the build and the scripts need; installs them when root, else names the command
#   setup_rust       the Rust toolchain that Cargo.toml asks for
#   setup_postgres   PostgreSQL for the tests that start one; installs it when root, else says what is skipped (test.sh calls it)
#   setup_warehouses ADBC drivers and servers that answer as Snowflake and S3 do, for tests; says what is skipped without (test.sh calls it)
#   setup_model      the embedding model and ONNX Runtime (docker/model/prepare.sh), and the variables that point to them
#
# Everything that is made lies in $STEWARD_CACHE (by default ~/.cache/steward), outside the checkout.
# cmake is not among the packages: aws-lc-sys builds without it.

STEWARD_CACHE=${STEWARD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/steward}
export STEWARD_CACHE
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$STEWARD_CACHE/target}

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$@"; exit 1; }

has() { command -v "$1" >/dev/null 2>&1; }

# The well-known .proto files lie beside protoc; Debian packs them apart from it.
has_wellknown_protos() {
  local protoc
  [ -z "${PROTOC_INCLUDE:-}" ] || return 0
  protoc=$(readlink -f "$(command -v "${PROTOC:-protoc}")") || return 1
  [ -e "${protoc%/bin/*}/include/google/protobuf/any.proto" ]
}

# Debian's names of the packages that are missing, one a line.
missing_packages() {
  if ! has cc || ! has c++ || ! has make; then echo build-essential; fi
  has pkg-config || echo pkg-config
  if ! has "${PROTOC:-protoc}"; then
    printf '%s\n' protobuf-compiler libprotobuf-dev
  elif ! has_wellknown_protos; then
    echo libprotobuf-dev
  fi
  if ! has python3; then
    printf '%s\n' python3 python3-venv
  elif ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    echo python3-venv
  fi
  has curl || echo curl
  [ -e "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" ] || [ -e /etc/pki/tls/certs/ca-bundle.crt ] || echo ca-certificates
}

setup_system() {
  local packages still
  mapfile -t packages < <(missing_packages)
  [ ${#packages[@]} -gt 0 ] || return 0
  has apt-get || die "missing; install with your package manager (these are Debian's names): ${packages[*]}"
  [ "$(id -u)" = 0 ] ||
    die "missing system packages. Run this, then start again:
  sudo apt-get update && sudo apt-get install -y --no-install-recommends ${packages[*]}"
  say "installing ${packages[*]}"
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}"; } >&2 ||
    die "apt-get could not install ${packages[*]} (reason above); check the network and apt's sources"
  hash -r
  still=$(missing_packages | tr '\n' ' ')
  [ -z "$still" ] || die "still missing after apt-get: $still(is another python3 or protoc first in PATH?)"
}

# Where tests/it/postgres_server.rs looks.
has_postgres() {
  local folder
  if has initdb && has pg_ctl && has postgres; then return 0; fi
  for folder in /usr/lib/postgresql/*/bin; do
    [ -x "$folder/initdb" ] && [ -x "$folder/pg_ctl" ] && [ -x "$folder/postgres" ] && return 0
  done
  return 1
}

# Never fails: without PostgreSQL, the tests that need it say that they are skipped.
setup_postgres() {
  local conf=/etc/postgresql-common/createcluster.conf
  has_postgres && return 0
  if ! has apt-get || [ "$(id -u)" != 0 ]; then
    say "the tests on PostgreSQL are skipped: it is not installed (Debian: apt-get install postgresql)"
    return 0
  fi
  say "installing postgresql"
  {
    apt-get update -q &&
      DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends postgresql-common &&
      # The tests start servers of their own: no cluster of the system's is made or started.
      if [ -e "$conf" ]; then sed -i 's/^#\{0,1\}create_main_cluster.*/create_main_cluster = false/' "$conf"; fi &&
      DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends postgresql
  } >&2 || say "apt-get could not install postgresql (reason above); the tests that need it are skipped"
  hash -r
}

# Never fails: without them, the tests that need them say that they are skipped.
setup_warehouses() {
  local folder=$STEWARD_CACHE/warehouses
  if docker/warehouses/prepare.sh "$folder"; then
    export STEWARD_ADBC_DRIVERS=${STEWARD_ADBC_DRIVERS:-$folder/drivers}
    export STEWARD_FAKESNOW=${STEWARD_FAKESNOW:-$folder/fakesnow/bin/fakesnow}
    export STEWARD_MOTO=${STEWARD_MOTO:-$folder/moto/bin/moto_server}
  else
    say "the tests on ADBC drivers, Snowflake and S3 are skipped (reason above)"
  fi
}

setup_rust() {
  local wanted found
  has cargo || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
  wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
  if ! has cargo || ! has rustc; then
    die "Rust $wanted or later is needed, none was found. Install rustup (https://rustup.rs), then: rustup toolchain install stable"
  fi
  found=$(rustc --version | awk '{ print $2 }')
  if [ "$(printf '%s\n' "$wanted" "${found%%-*}" | sort -V | head -n 1)" != "$wanted" ]; then
    if has rustup; then
      die "Rust $wanted or later is needed, this is $found. Run: rustup update stable && rustup default stable"
    fi
    die "Rust $wanted or later is needed, this is $found. Install rustup (https://rustup.rs), which has newer ones than the distribution"
  fi
}

setup_model() {
  docker/model/prepare.sh "$STEWARD_CACHE/models" || exit 1
  export ORT_DYLIB_PATH=${ORT_DYLIB_PATH:-$STEWARD_CACHE/onnxruntime/libonnxruntime.so}
  export STEWARD_MODELS_DIR=${STEWARD_MODELS_DIR:-$STEWARD_CACHE/models}
}

setup() {
  setup_system
  setup_rust
  setup_model
}

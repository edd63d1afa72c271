#!/usr/bin/env bash
# TPC-H on DataFusion alone and through Steward's guard, with PyPI's duckdb and roapi beside them, in one run; prints Markdown.
# Builds Steward and its bench in the release profile (long, once), installs the peers at fixed versions and makes the data,
# below the cache or in the folder that is given: benches/tpch/run.sh [FOLDER]
# Environment: SCALE (1), ROUNDS (5, of everybody in turns), ROUNDS_EACH (3, of one in a row), PROFILE (release; dev for a
# quick look that proves nothing), STEWARD_CACHE, CARGO_TARGET_DIR.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=docker/setup.sh
source docker/setup.sh
# shellcheck source=benches/tpch/prepare.sh
source benches/tpch/prepare.sh
setup
bench_venv
data=${1:-$STEWARD_CACHE/bench-tpch/sf${SCALE:-1}}
tpch_data "$data"

# Says where cargo put the two; the build's own messages go to stderr.
made=$(cargo build --locked --profile "${PROFILE:-release}" --bench tpch --bin steward --message-format=json-render-diagnostics |
  python3 -c 'import json, sys
for message in map(json.loads, sys.stdin):
    if message.get("executable") and message["target"]["name"] in ("tpch", "steward"):
        print(message["target"]["name"].upper() + "=" + message["executable"])')
bench=$(sed -n 's/^TPCH=//p' <<<"$made")
steward=$(sed -n 's/^STEWARD=//p' <<<"$made")
if ! [ -x "$bench" ] || ! [ -x "$steward" ]; then
  die "cargo built no bench; run: cargo build --release --bench tpch --bin steward"
fi

STEWARD_BENCH=$bench STEWARD=$steward DATA=$data exec "$BENCH_VENV/bin/python" benches/tpch/bench.py

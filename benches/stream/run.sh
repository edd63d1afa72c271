#!/usr/bin/env bash
# What a result of more than 1 GB takes of the service's memory, streamed in each format over HTTP; prints Markdown.
# Builds Steward in the release profile (long, once) and makes TPC-H data as benches/tpch/run.sh does, below the cache or in
# the folder that is given: benches/stream/run.sh [FOLDER]
# Environment: SCALE (1), LEAST_BYTES (1000000000), PROFILE (release; dev for a quick look that proves nothing),
# STEWARD_CACHE, CARGO_TARGET_DIR.
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

steward=$(cargo build --locked --profile "${PROFILE:-release}" --bin steward --message-format=json-render-diagnostics |
  python3 -c 'import json, sys
for message in map(json.loads, sys.stdin):
    if message.get("executable") and message["target"]["name"] == "steward":
        print(message["executable"])')
[ -x "$steward" ] || die "cargo built no steward; run: cargo build --release --bin steward"

STEWARD=$steward DATA=$data exec "$BENCH_VENV/bin/python" benches/stream/bench.py

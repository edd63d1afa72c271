#!/usr/bin/env bash
# Semantic models loaded and metrics compiled, Steward beside PyPI's wren-core-py and metricflow, in one run; prints Markdown.
# Builds Steward's bench in the release profile (long, once) and installs the peers below the cache, at fixed versions.
# Environment: SIZES ("100 1000", numbers of datasets), ROUNDS (3), SECONDS_EACH (5), TIME_LIMIT_S (900, a process),
# PROFILE (bench; dev for a quick look that proves nothing), STEWARD_CACHE, CARGO_TARGET_DIR.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=docker/setup.sh
source docker/setup.sh
setup

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "wren-core-py needs Python 3.11 or later"

# Says where cargo put the bench; the build's own messages go to stderr.
bench=$(cargo bench --locked --bench semantic --no-run --profile "${PROFILE:-bench}" --message-format=json-render-diagnostics |
  python3 -c 'import json, sys
for message in map(json.loads, sys.stdin):
    if message.get("target", {}).get("name") == "semantic" and message.get("executable"):
        print(message["executable"])')
[ -x "$bench" ] || die "cargo built no bench; run: cargo bench --bench semantic --no-run"

venv=$STEWARD_CACHE/bench-semantic/venv
mkdir -p "${venv%/*}"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check wren-core-py==0.8.2 metricflow==0.213.0 pyyaml==6.0.3 pydantic==2.14.3

STEWARD_BENCH=$bench exec "$venv/bin/python" benches/semantic/bench.py

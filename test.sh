#!/usr/bin/env bash
# Runs the tests; arguments go to the runner: ./test.sh guard, ./test.sh --release
# With cargo-nextest (faster: a process a test, in parallel) where it is installed, with cargo test elsewhere.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=docker/setup.sh
source docker/setup.sh
setup
setup_postgres
setup_warehouses

# Unoptimised query plans recurse deeply; a thread's usual 2 MB are too few.
export RUST_MIN_STACK=${RUST_MIN_STACK:-8388608}

if cargo nextest --version >/dev/null 2>&1; then
  # nextest does not run the examples in the documentation. First, so that the summary of the tests comes last.
  [ $# -gt 0 ] || cargo test --locked --quiet --doc
  exec cargo nextest run --locked "$@"
fi
exec cargo test --locked "$@"

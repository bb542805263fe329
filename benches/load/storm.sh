#!/usr/bin/env bash
# How much slower pulls from the cache are while thousands of images are pulled for the first time.
#
#   benches/load/storm.sh            # three storms of 2,000 images
#   benches/load/storm.sh 500 5      # five of 500
#   ONE_CORE=1 benches/load/storm.sh # the gate alone on one core, everything else on another
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --quiet --release --bin pullgate --example storm
target=${CARGO_TARGET_DIR:-target}/release
ulimit -n "$(ulimit -H -n)"
if [ -n "${ONE_CORE:-}" ]; then
  first=$(taskset -cp $$ | sed 's/.*: //; s/[,-].*//')
  export STORM_RUN_WITH="taskset -c $first"
  exec taskset -c $((first + 1)) "$target/examples/storm" "$target/pullgate" "$@"
fi
exec "$target/examples/storm" "$target/pullgate" "$@"

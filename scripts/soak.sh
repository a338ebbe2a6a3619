#!/usr/bin/env bash
# Long campaigns, one after the other: every simulation and every fuzz target, MINUTES each (default 10).
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=${MINUTES:-10}

cargo build --release --quiet --bin ashlar
for protocol in object handoff; do
    echo "== simulate $protocol for $minutes minutes"
    target/release/ashlar sim "$protocol" --minutes "$minutes"
done

command -v cargo-fuzz >/dev/null || cargo install --quiet --locked cargo-fuzz
# The sanitizer is not a stable feature; the stable compiler has it all the same.
export RUSTC_BOOTSTRAP=1
for target in $(cargo fuzz list); do
    echo "== fuzz $target for $minutes minutes"
    cargo fuzz run "$target" -- -max_total_time=$((60 * minutes)) -print_final_stats=1 -verbosity=0
done

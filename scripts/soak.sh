#!/usr/bin/env bash
# Long campaigns, one after the other: every simulation, every campaign against hand-off and replication (as root;
# docs/testing.md) and every fuzz target, about MINUTES each (default 10).
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=${MINUTES:-10}

cargo build --release --quiet --bin ashlar
for protocol in object handoff vr; do
    echo "== simulate $protocol for $minutes minutes"
    target/release/ashlar sim "$protocol" --minutes "$minutes"
done

echo "== hand-off, seed ${ASHLAR_TEST_SEED:=$RANDOM}"
export ASHLAR_TEST_SEED
(
    # A node needs a descriptor for each connection.
    ulimit -n "$(ulimit -Hn)"
    ASHLAR_TEST_REQUESTS=100000 ASHLAR_TEST_STORM_REQUESTS=$((6000 * minutes)) ASHLAR_TEST_CONNECTIONS=20000 \
        cargo test --release --quiet --locked -p ashlar --test hand_off -- --include-ignored --skip client_program \
        --nocapture --test-threads 1
)
echo "== replication, $minutes minutes each"
ASHLAR_TEST_CAMPAIGN_SECONDS=$((60 * minutes)) cargo test --release --quiet --locked -p ashlar --test replication -- \
    --include-ignored --nocapture --test-threads 1

if [ "$(id -u)" = 0 ]; then
    echo "== other people's clients"
    scripts/clients.sh
else
    echo "soak: run as root for the clients" >&2
fi

command -v cargo-fuzz >/dev/null || cargo install --quiet --locked cargo-fuzz
# The sanitizer is not a stable feature; the stable compiler has it all the same.
export RUSTC_BOOTSTRAP=1
for target in $(cargo fuzz list); do
    echo "== fuzz $target for $minutes minutes"
    cargo fuzz run "$target" -- -max_total_time=$((60 * minutes)) -print_final_stats=1 -verbosity=0
done

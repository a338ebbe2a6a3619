#!/usr/bin/env bash
# All that `make test` and CI check, in the order of what fails fastest. Never writes to the sources.
set -euo pipefail
cd "$(dirname "$0")/.."

# Tests that need root and kernel features run at least this often where they can; fewer is a failure,
# so that a test that silently skips is noticed.
kernel_tests_min=$(grep -v '^#' scripts/kernel-tests-min)
readonly kernel_tests_min
[[ $kernel_tests_min =~ ^[0-9]+$ ]] || { echo "test: scripts/kernel-tests-min holds no number" >&2; exit 1; }

step() { printf '\n== %s\n' "$*"; }

step "format"
cargo fmt --all --check

step "layers: cores import no shells"
scripts/check-layers.sh

step "lints"
cargo clippy --quiet --workspace --all-targets --locked -- -D warnings

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --quiet --workspace --no-deps --document-private-items --locked

step "tests"
ledger=$(mktemp)
trap 'rm -f "$ledger"' EXIT
ASHLAR_TEST_LEDGER=$ledger cargo test --quiet --workspace --locked

step "tests that need root and kernel features"
ran=$(grep -c '^ran ' "$ledger" || true)
skipped=$(grep -c '^skipped ' "$ledger" || true)
grep '^skipped ' "$ledger" || true
echo "kernel tests: $ran passed, 0 failed, $skipped skipped"
if [ "$ran" -lt "$kernel_tests_min" ]; then
    if [ "${CI:-}" = true ] || [ "$(id -u)" = 0 ]; then
        echo "test: only $ran of at least $kernel_tests_min kernel tests ran" >&2
        exit 1
    fi
    echo "test: run as root to run all $kernel_tests_min of them" >&2
fi

#!/usr/bin/env bash
# Cores decide, shells act. A core depends on no shell and on no crate that does I/O, and its sources touch no socket, file,
# clock, thread or randomness of their own. Arrows run downward only: ashlar -> node -> shells -> cores -> wire.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly cores=(fastpath handoff object vr wire)
readonly forbidden_crates='^(ashlar-(kernel|storage|replica|net|node|sim|lab|bench)|ashlar|tokio|hyper|rustix|libc|socket2|redb|aya|rand|getrandom)$'
readonly forbidden_code='std::(net|fs|thread|process|env)\b|Instant::now|SystemTime::now|\brand::'
status=0

dependencies_of() { # CRATE: its direct dependencies that are not for tests only
    cargo tree --quiet --locked --package "ashlar-$1" --edges normal,build --depth 1 --prefix none |
        tail -n +2 | cut -d' ' -f1
}

for core in "${cores[@]}"; do
    if bad=$(dependencies_of "$core" | grep -E "$forbidden_crates"); then
        echo "check-layers: the core $core depends on: ${bad//$'\n'/ }" >&2
        status=1
    fi
    if grep -rnE "$forbidden_code" "crates/$core/src"; then
        echo "check-layers: the core $core reaches for the outside world in the lines above" >&2
        status=1
    fi
done

# Nothing but the command line depends on what is above the shells.
for crate in kernel storage net replica sim lab node; do
    if bad=$(dependencies_of "$crate" | grep -E '^(ashlar|ashlar-bench)$'); then
        echo "check-layers: $crate depends upwards on: $bad" >&2
        status=1
    fi
done
exit $status

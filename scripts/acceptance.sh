#!/usr/bin/env bash
# A real cluster on loopback, real files, a killed storage node, a killed cluster: what was acknowledged must come back byte for byte.
#
#   scripts/acceptance.sh [DIRECTORY]    default: the Rust toolchain's documentation, or 12,000 made-up files
#
# FILES=12000 limits how many files are taken; BIG_BYTES=4400000000 is the size of the one large object.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."
files=${FILES:-12000} big_bytes=${BIG_BYTES:-4400000000}
ashlar=$PWD/target/release/ashlar
work=$(mktemp -d)
declare -A pids=()

finish() {
    for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT
fail() { echo "acceptance: $*" >&2; exit 1; }
say() { printf '== %s\n' "$*"; }

cluster() { # the part of the configuration that is the same everywhere
    local n
    printf '[cluster]\nid = "acceptance"\nreplicas = 3\n'
    for n in 1 2 3; do
        printf '[[cluster.storage]]\nname = "s%s"\nhttp = "127.0.0.1:2181%s"\npeer = "127.0.0.1:2182%s"\n' $n $n $n
    done
}

configure() {
    for n in 1 2 3; do
        { cluster; printf '[node]\nname = "s%s"\ndata = "s%s"\nthreads = 1\n[admin]\nlisten = "127.0.0.1:2183%s"\n[log]\nlevel = "warn"\n[storage]\nengine = "disk"\n' $n $n $n; } >"$work/s$n.toml"
    done
    { cluster; printf '[node]\nname = "fe"\nthreads = 1\n[admin]\nlisten = "127.0.0.1:21830"\n[log]\nlevel = "warn"\n[front_end]\nhttp = "127.0.0.1:21800"\n'; } >"$work/fe.toml"
}

start() { # NAME ADMIN_PORT
    "$ashlar" node --config "$work/$1.toml" 2>>"$work/$1.log" &
    pids[$1]=$!
    disown
}

ready() { # ADMIN_PORT...
    for port in "$@"; do
        for _ in $(seq 300); do
            curl --silent --fail --output /dev/null "http://127.0.0.1:$port/readyz" && continue 2
            sleep 0.1
        done
        fail "the node at admin port $port is not ready: $(tail -n 3 "$work"/*.log)"
    done
}

kill_node() { kill -9 "${pids[$1]}"; unset "pids[$1]"; }

say "files"
tree=$work/tree
mkdir "$tree"
source=${1:-$(rustc --print sysroot)/share/doc}
if [ -d "$source" ]; then
    (cd "$source" && find . -type f -print0 | { sort --zero-terminated || true; } | head --zero-terminated --lines "$files" |
        xargs -0 cp --parents --target-directory "$tree")
else
    for n in $(seq "$files"); do head -c $((n * 7919 % 60000)) /dev/urandom >"$tree/file-$n"; done
fi
head -c "$big_bytes" /dev/urandom >"$tree/big"
digests() { # DIRECTORY: one sorted line for each file
    (cd "$1" && find . -type f -print0 | xargs -0 sha256sum | sort)
}
digests "$tree" >"$work/expected"
total=$(wc -l <"$work/expected")
echo "$total files, $(du -sh "$tree" | cut -f1)"

say "store them, with a storage node killed in the middle"
configure
for node in s1 s2 s3 fe; do start $node; done
ready 21831 21832 21833 21830
export ASHLAR_ENDPOINT=http://127.0.0.1:21800
"$ashlar" obj put --recursive "$tree" files/ 2>"$work/put.log" &
put=$!
sleep 2
kill_node s2
kill -0 "$put" 2>/dev/null || fail "everything was stored before the node was killed: take more FILES"
sleep 3
start s2
ready 21832
if wait "$put"; then
    echo "the client rode it out by trying again"
else
    echo "refused or unknown: $(wc -l <"$work/put.log") lines of errors; storing again"
    "$ashlar" obj get --recursive files/ "$work/partial" 2>/dev/null || true
    # Whatever is there must be whole, acknowledged or not.
    digests "$work/partial" >"$work/found"
    torn=$(comm -13 "$work/expected" "$work/found")
    [ -z "$torn" ] || fail "torn objects: $torn"
    rm -rf "$work/partial"
    "$ashlar" obj put --recursive "$tree" files/
fi

say "kill everything, start again, list, read back"
for node in s1 s2 s3 fe; do kill_node $node; done
for node in s1 s2 s3 fe; do start $node; done
ready 21831 21832 21833 21830
listed=$("$ashlar" obj ls files/ --all --json | wc -l)
[ "$listed" -ge "$total" ] || fail "only $listed of $total objects are listed"
"$ashlar" obj get --recursive files/ "$work/back"
digests "$work/back" >"$work/found"
diff "$work/expected" "$work/found" >/dev/null || fail "what came back differs"

say "every replica has every byte"
for node in s1 s2 s3 fe; do kill -TERM "${pids[$node]}"; done
for node in s1 s2 s3 fe; do
    while kill -0 "${pids[$node]}" 2>/dev/null; do sleep 0.1; done
    unset "pids[$node]"
done
for n in 1 2 3; do "$ashlar" obj scrub --data "$work/s$n"; done
echo "acceptance: $total files came back with equal SHA-256"

#!/usr/bin/env bash
# Clients that others wrote, over HTTP and HTTPS, against a store whose connections all move: curl, wrk, Python's requests, urllib3 and
# botocore, and headless Chromium. Each must get right bytes, and its connections must have moved. As root; installs the clients.
#
#   scripts/clients.sh [CLIENT...]    default: curl wrk python chromium
#
# ASHLAR=FILE names the program; default: target/release/ashlar. OBJECTS=1000 is how many small objects there are.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
. "$here/packages.sh"
ashlar=${ASHLAR:-$here/../target/release/ashlar}
objects=${OBJECTS:-1000}
lab=clients
address=10.77.0.10
[ $# -gt 0 ] || set -- curl wrk python chromium

fail() { echo "clients: $*" >&2; exit 1; }
on() { "$ashlar" lab exec --name "$lab" "$@"; }
work=$(mktemp -d)
finish() {
    "$ashlar" lab down --name "$lab" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap finish EXIT

install_clients() {
    local client missing=()
    python=python3
    for client in "$@"; do
        case $client in
        curl) command -v curl >/dev/null || missing+=(curl) ;;
        wrk) command -v wrk >/dev/null || missing+=(wrk) ;;
        chromium) command -v chromium >/dev/null || missing+=(chromium) ;;
        python)
            python3 -c 'import requests, urllib3, botocore' 2>/dev/null || {
                python=/usr/bin/python3
                $python -c 'import requests, urllib3, botocore' 2>/dev/null ||
                    missing+=(python3-requests python3-urllib3 python3-botocore)
            }
            ;;
        *) fail "unknown client $client" ;;
        esac
    done
    [ ${#missing[@]} = 0 ] || install_packages "the clients" "${missing[@]}"
}

# Small objects, four large ones, and what their digests are.
make_objects() {
    mkdir "$work/tree"
    local n
    for n in $(seq 0 $((objects - 1))); do
        head -c $((n * 7919 % 40000)) /dev/urandom >"$work/tree/small-$n"
    done
    for n in 1 2 3 4; do head -c $((n * 1500000)) /dev/urandom >"$work/tree/large-$n"; done
    (cd "$work/tree" && sha256sum *) >"$work/digests"
    on client -- "$ashlar" obj --endpoint "http://$address" put --recursive "$work/tree" o >/dev/null
}

# How many times connections have moved so far.
moved() {
    local host n=21 total=0
    for host in fe s1 s2 s3 s4 s5; do
        local at=$address
        [ $host = fe ] || { at=10.77.0.$n; n=$((n + 1)); }
        total=$((total + $(on $host -- curl -sf "http://$at:9900/metrics" |
            awk '/^ashlar_hand_offs_moved_total/ { sum += $2 } END { print sum + 0 }')))
    done
    echo "$total"
}

with_curl() { # URL
    local url=$1 out=$work/out
    rm -rf "$out"; mkdir "$out"
    # All objects over one connection.
    while read -r _ name; do printf 'url = "%s/o/%s"\noutput = "%s/%s"\n' "$url" "$name" "$out" "$name"; done \
        <"$work/digests" >"$work/config"
    on client -- curl -sSfk --http1.1 -K "$work/config" -w '%{num_connects}\n' >"$work/connects"
    (cd "$out" && sha256sum *) | cmp -s - "$work/digests" || fail "curl got other bytes"
    [ "$(awk '{ sum += $1 } END { print sum }' "$work/connects")" = 1 ] || fail "curl needed more than one connection"
    on client -- curl -sSfk --limit-rate 3M "$url/o/large-4" | cmp - "$work/tree/large-4"
    on client -- curl -sSfk -r 1000000-1999999 "$url/o/large-2" | cmp - <(tail -c +1000001 "$work/tree/large-2" | head -c 1000000)
    on client -- curl -sSfk -r -777 "$url/o/large-3" | cmp - <(tail -c 777 "$work/tree/large-3")
    # Two uploads, with a length and chunked, and both back, over one connection.
    on client -- curl -sSfk -T "$work/tree/large-4" "$url/up/1" -o /dev/null --next \
        -sSfk -T - -H 'Transfer-Encoding: chunked' "$url/up/2" -o /dev/null --next \
        -sSfk "$url/up/1" -o "$work/up1" --next -sSfk "$url/up/2" -o "$work/up2" <"$work/tree/large-1"
    cmp "$work/up1" "$work/tree/large-4"
    cmp "$work/up2" "$work/tree/large-1"
}

with_wrk() { # URL
    on client -- wrk -t1 -c50 -d5 -s "$here/clients/objects.lua" "$1" -- "$objects" >"$work/wrk" || fail "wrk: $(cat "$work/wrk")"
    if grep -E 'Socket errors|Non-2xx' "$work/wrk"; then fail "wrk met errors"; fi
    grep -q 'Requests/sec' "$work/wrk" || fail "wrk: $(cat "$work/wrk")"
}

with_python() { # URL
    on client -- "$python" "$here/clients/pools.py" "$1" "$work/digests" "$work/tree"
}

with_chromium() { # URL
    local url=$1 key=result-$RANDOM
    "$here/clients/page.sh" "$work/digests" "$key" >"$work/page.html"
    on client -- curl -sSfk -T "$work/page.html" -H 'Content-Type: text/html' "$url/page.html" -o /dev/null
    on client -- chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-background-networking \
        --no-first-run --ignore-certificate-errors --unsafely-treat-insecure-origin-as-secure="$url" \
        --user-data-dir="$work/chromium" --remote-debugging-port=0 "$url/page.html" >"$work/chromium.log" 2>&1 &
    local browser=$! n
    for n in $(seq 120); do
        on client -- curl -sfk "$url/$key" -o "$work/result" && break
        kill -0 $browser 2>/dev/null || break
        sleep 0.5
    done
    kill $browser 2>/dev/null || true
    wait $browser 2>/dev/null || true
    rm -rf "$work/chromium" || true
    [ -s "$work/result" ] || fail "no word from the page: $(tail -n 5 "$work/chromium.log")"
    [ "$(cat "$work/result")" = "right $((objects + 4))" ] || fail "the page says: $(head -c 500 "$work/result")"
    rm "$work/result"
}

install_clients "$@"
"$ashlar" lab down --name "$lab" >/dev/null 2>&1 || true
"$ashlar" lab up --name "$lab" --storage-nodes 5 --https --mode handoff --threshold-bytes 0 >/dev/null
make_objects
for client in "$@"; do
    for url in "http://$address" "https://$address"; do
        before=$(moved) started=$SECONDS
        "with_$client" "$url"
        moves=$(($(moved) - before))
        [ "$moves" -gt 0 ] || fail "$client over $url: no connection moved"
        echo "clients: $client over ${url%%:*}: right, $moves moves, $((SECONDS - started)) s"
    done
done

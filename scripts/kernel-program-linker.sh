#!/usr/bin/env bash
# The linker that scripts/build-kernel-programs.sh gives to rustc for the kernel's target.
#
# With fat link-time optimisation and one codegen unit, rustc hands over a single object file of LLVM bitcode in which everything
# is linked already. Code generation is all that is left, so no linker that knows the kernel's format is needed.
# ASHLAR_LLVM_MAJOR: the major version of rustc's LLVM.
set -euo pipefail

readonly major=${ASHLAR_LLVM_MAJOR:?set by build-kernel-programs.sh}

output=
inputs=()
while [ $# -gt 0 ]; do
    case "$1" in
        -o | --output) output=$2; shift ;;
        # Options with a value, meant for bpf-linker.
        -L | --cpu | --cpu-features | --export | --export-symbols | --output-type) shift ;;
        # rustc also passes objects that hold only metadata: bitcode starts with "BC".
        *.o) if [ "$(head --bytes=2 "$1")" = BC ]; then inputs+=("$1"); fi ;;
    esac
    shift
done

bitcode=$(mktemp --suffix=.bc)
trap 'rm -f "$bitcode"' EXIT
"llvm-link-$major" "${inputs[@]}" -o "$bitcode"
# v3: 32-bit arithmetic, bounded loops and atomics with a result, in every kernel that has TCX (6.6).
"llc-$major" -march=bpfel -mcpu=v3 -filetype=obj -o "$output" "$bitcode"

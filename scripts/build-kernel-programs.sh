#!/usr/bin/env bash
# Compiles kernel-programs/ to target/kernel-programs/ashlar.bpf.o, which the build script of crates/kernel embeds into the binary.
# Incremental. Where no toolchain can do it, says so and exits 0: the binary is then built without kernel programs.
set -euo pipefail

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly scripts root=${scripts%/*}
# A fixed place, whatever CARGO_TARGET_DIR says: crates/kernel looks for the object there.
readonly object=$root/target/kernel-programs/ashlar.bpf.o
# Beside it, not inside: a change of the object's directory makes cargo rebuild what embeds the object.
readonly build_directory=$root/target/kernel-programs-build
readonly target=bpfel-unknown-none

say() { printf 'build-kernel-programs: %s\n' "$*" >&2; }

# The surroundings are those of the host's build; its flags and wrappers are not for this target.
unset CARGO_TARGET_DIR CARGO_BUILD_TARGET CARGO_BUILD_TARGET_DIR CARGO_ENCODED_RUSTFLAGS RUSTFLAGS RUSTC_WRAPPER RUSTUP_TOOLCHAIN

read -r toolchain llvm_major <<<"$("$scripts/setup-kernel-toolchain.sh" --which)"
cargo_flags=(build --quiet --release --locked --target "$target" --target-dir "$build_directory")
strip=()
case "$toolchain" in
    debian)
        # RUSTC_BOOTSTRAP: aya-ebpf needs inline assembly for this target, which is not stable yet.
        export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
        export ASHLAR_LLVM_MAJOR=$llvm_major
        export CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER=$scripts/kernel-program-linker.sh
        strip=("llvm-strip-$llvm_major" --strip-debug)
        cargo=(cargo)
        ;;
    nightly)
        cargo=(cargo +nightly)
        cargo_flags+=(-Z build-std=core)
        ;;
    none)
        say "no toolchain for kernel programs here: leaving them out (scripts/setup-kernel-toolchain.sh installs one)"
        # An object of older sources would be worse than none.
        rm -f "$object"
        exit 0
        ;;
esac
# Both must agree on the instruction set: the code generator takes it from the bitcode where a function names it.
export CARGO_TARGET_BPFEL_UNKNOWN_NONE_RUSTFLAGS='-C target-cpu=v3'

cd "$root/kernel-programs"
"${cargo[@]}" "${cargo_flags[@]}"

# Replaced in one step, and only if it changed: its time stamp makes cargo rebuild what embeds it.
built=$build_directory/$target/release/ashlar
candidate=$(mktemp "$build_directory/ashlar.XXXXXX")
trap 'rm -f "$candidate"' EXIT
cp "$built" "$candidate"
if [ ${#strip[@]} -gt 0 ]; then "${strip[@]}" "$candidate"; fi
chmod 644 "$candidate"
if ! cmp --silent "$candidate" "$object"; then
    mkdir -p "${object%/*}"
    mv "$candidate" "$object"
    say "wrote ${object#"$root/"} ($(stat --format=%s "$object") bytes, $toolchain toolchain)"
fi

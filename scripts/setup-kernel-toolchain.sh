#!/usr/bin/env bash
# Installs what compiles the in-kernel programs, once. Quiet when nothing is to do.
#
#   scripts/setup-kernel-toolchain.sh          install what is missing; exit 0 even if this host cannot have it
#   scripts/setup-kernel-toolchain.sh --which  install nothing; print "debian N" (N: major version of LLVM),
#                                              "nightly" or "none"
#
# Two ways lead to a kernel program, tried in this order:
#   debian   Debian's rustc-web ships a core library that is compiled for the kernel's instruction set; llvm-N generates the code.
#   nightly  rustup's nightly with rust-src (the core library is compiled on the spot), linked by bpf-linker.
# ASHLAR_KERNEL_TOOLCHAIN=debian|nightly|none allows only that way.
set -euo pipefail

readonly debian_rustc=/usr/bin/rustc
readonly debian_packages=(rustc-web libstd-rust-web-dev-bpf)
readonly target=bpfel-unknown-none
readonly wanted=${ASHLAR_KERNEL_TOOLCHAIN:-any}

# shellcheck source=scripts/packages.sh
. "$(dirname "$0")/packages.sh"

# The compiler and the code generator exchange LLVM bitcode, so their major versions must agree.
debian_llvm_major() {
    "$debian_rustc" -vV 2>/dev/null | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p'
}

debian_ready() {
    [ -x "$debian_rustc" ] || return 1
    compgen -G "/usr/lib/rustlib/$target/lib/libcore-*.rlib" >/dev/null || return 1
    local major
    major=$(debian_llvm_major)
    [ -n "$major" ] && [ -x "/usr/bin/llc-$major" ] && [ -x "/usr/bin/llvm-link-$major" ]
}

nightly_ready() {
    command -v rustup >/dev/null && command -v bpf-linker >/dev/null || return 1
    # `rustup which` answers without installing a missing toolchain.
    rustup which --toolchain nightly rustc >/dev/null 2>&1 || return 1
    [ -f "$(rustup run nightly rustc --print sysroot)/lib/rustlib/src/rust/library/core/Cargo.toml" ]
}

which_toolchain() {
    if [[ $wanted =~ ^(any|debian)$ ]] && debian_ready; then
        echo "debian $(debian_llvm_major)"
    elif [[ $wanted =~ ^(any|nightly)$ ]] && nightly_ready; then
        echo nightly
    else
        echo none
    fi
}

install_debian() {
    install_packages "a Rust compiler with a core library for the kernel's instruction set" "${debian_packages[@]}" || return 1
    install_packages "turns the compiler's output into a kernel object" "llvm-$(debian_llvm_major)"
}

main() {
    [[ $wanted =~ ^(any|debian|nightly|none)$ ]] || {
        say "ASHLAR_KERNEL_TOOLCHAIN: expected debian, nightly or none, found '$wanted'"
        exit 2
    }
    case "${1:-}" in
        --which) which_toolchain; exit ;;
        '') ;;
        *) say "usage: setup-kernel-toolchain.sh [--which]"; exit 2 ;;
    esac
    [ "$(which_toolchain)" = none ] || exit 0
    if [[ $wanted =~ ^(any|debian)$ ]] && install_debian && debian_ready; then
        say "ready"
        exit 0
    fi
    say "kernel programs will be LEFT OUT of the build: everything else works, 'ashlar doctor' says what is missing."
    say "  Debian 12: ${debian_packages[*]} and llvm-N, as root"
    say "  elsewhere: rustup toolchain install nightly --component rust-src && cargo install bpf-linker"
}

main "$@"

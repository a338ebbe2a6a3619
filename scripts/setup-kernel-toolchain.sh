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

say() { printf 'setup-kernel-toolchain: %s\n' "$*" >&2; }

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

# Runs a command as root: directly, or by sudo, which may ask for a password only where somebody can answer.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif [ -t 0 ]; then
        sudo "$@"
    else
        sudo --non-interactive "$@"
    fi
}

can_become_root() {
    [ "$(id -u)" = 0 ] && return
    command -v sudo >/dev/null || return 1
    [ -t 0 ] || sudo --non-interactive true 2>/dev/null
}

debian_offers() {
    [ -n "$(apt-cache --quiet=2 madison "$1" 2>/dev/null)" ]
}

install_debian() {
    command -v apt-get >/dev/null || { say "no apt-get here"; return 1; }
    can_become_root || { say "neither root nor a usable sudo"; return 1; }
    # An archive directory of our own: another apt-get run's clean-up hook may empty the shared one under our feet.
    local archives
    archives=$(mktemp -d)
    # apt downloads as the user _apt, which must be able to enter the directory.
    chmod 755 "$archives"
    # shellcheck disable=SC2064  # expand now: the variable is local
    trap "as_root rm -rf '$archives'" EXIT
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
    local install=("${apt[@]}" -o "Dir::Cache::archives=$archives" -o Dpkg::Use-Pty=0
        install --yes --no-install-recommends)
    say "installing ${debian_packages[*]}: a Rust compiler with a core library for the kernel's instruction set"
    # The first try spares a run of `update` where the package lists are fresh.
    if ! { debian_offers "${debian_packages[1]}" && as_root "${install[@]}" "${debian_packages[@]}" >/dev/null; }; then
        say "reading the package lists again"
        as_root "${apt[@]}" update || return 1
        debian_offers "${debian_packages[1]}" || { say "this distribution has no ${debian_packages[1]}"; return 1; }
        as_root "${install[@]}" "${debian_packages[@]}" >/dev/null || return 1
    fi
    local major
    major=$(debian_llvm_major)
    say "installing llvm-$major: turns the compiler's output into a kernel object"
    as_root "${install[@]}" "llvm-$major" >/dev/null || return 1
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

#!/bin/sh
# Installs what the build needs beyond git, make, curl and cargo. Does nothing when all is there.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
. "$here/packages.sh"

command -v cargo >/dev/null 2>&1 || {
    say "cargo is missing: install Rust's stable toolchain with rustup first"
    exit 1
}
command -v cc >/dev/null 2>&1 || install_packages "the linker and C compiler that cargo calls" gcc libc6-dev
command -v ip >/dev/null 2>&1 || install_packages "network namespaces for tests and the lab" iproute2 || true
"$here/setup-kernel-toolchain.sh"
"$here/build-kernel-programs.sh"

# Sourced: install_packages WHY PACKAGE... as root, or through sudo.

install_packages() {
    why=$1
    shift
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "setup: needs $* ($why): install them with this system's package manager" >&2
        return 1
    fi
    if [ "$(id -u)" = 0 ]; then
        as_root=
    elif command -v sudo >/dev/null 2>&1; then
        as_root=sudo
    else
        echo "setup: needs $* ($why): run as root: apt-get install $*" >&2
        return 1
    fi
    echo "setup: installing $* ($why)" >&2
    log=$(mktemp)
    if ! { $as_root apt-get -o DPkg::Lock::Timeout=300 update -qq &&
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 \
            install -y -qq --no-install-recommends "$@"; } >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

# Sourced by scripts for sh and bash: installs a distribution's packages.

say() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; }

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
    command -v sudo >/dev/null 2>&1 || return 1
    [ -t 0 ] || sudo --non-interactive true 2>/dev/null
}

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 \
        -o Dpkg::Use-Pty=0 -o "Dir::Cache::archives=$scratch" "$@"
}

# install_packages WHY PACKAGE...: says what fails and shows apt-get's words about it; quiet otherwise.
install_packages() (
    why=$1
    shift
    if ! command -v apt-get >/dev/null 2>&1; then
        say "needs $* ($why): install them with this system's package manager"
        exit 1
    fi
    if ! can_become_root; then
        say "needs $* ($why): run as root: apt-get install $*"
        exit 1
    fi
    # Downloads go to a directory of our own: another apt-get run's clean-up hook may empty the shared one under our feet.
    scratch=$(mktemp -d)
    trap 'as_root rm -rf "$scratch"' EXIT
    # apt downloads as the user _apt, which must be able to enter the directory.
    chmod 755 "$scratch"
    say "installing $* ($why)"
    # The first try spares a run of `update` where the package lists are fresh.
    apt_get install --yes --no-install-recommends "$@" >/dev/null 2>&1 && exit
    if ! { apt_get update && apt_get install --yes --no-install-recommends "$@"; } >"$scratch/log" 2>&1; then
        cat "$scratch/log" >&2
        exit 1
    fi
)

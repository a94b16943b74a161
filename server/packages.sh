# Sourced by server/run, tests/run and bench/run: which Debian packages a newcomer needs, and their installation.

# dpkg-dev and file are for cpack -G DEB.
PACKAGES_BUILD="gcc libc6-dev cmake ninja-build pkg-config ccache git ca-certificates dpkg-dev file
    liburcu-dev libjemalloc-dev liburing-dev libxxhash-dev libck-dev liblz4-dev liblzf-dev"
PACKAGES_TALK="redis-tools"
PACKAGES_TEST="clang libclang-rt-14-dev llvm-14 clang-format libcriterion-dev universal-ctags binutils
    python3 python3-pytest python3-redis redis-server redis-tools procps iproute2"
PACKAGES_BENCH="python3 redis-server valgrind"

# packages_missing <package>...: prints those that are not installed.
packages_missing() {
    local package
    for package in "$@"; do
        if [ "$(dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null)" != "ii " ]; then
            echo "$package"
        fi
    done
}

# packages_as_root <command>...: runs it as root, through sudo where needed.
packages_as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

packages_can_install() {
    command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || command -v sudo >/dev/null; }
}

# packages_install <log> <package>...: installs what is missing and touches nothing when nothing is; says what it does, and why it
# failed. A lock keeps two checkouts that start together from meeting in apt. Services that come along (redis-server) are
# neither started nor enabled: the port belongs to whoever has it now.
packages_install() {
    local log=$1 missing
    shift
    missing=$(packages_missing "$@")
    [ -n "$missing" ] || return 0
    if ! command -v apt-get >/dev/null; then
        echo "This machine has no apt-get. Install by hand what these Debian packages hold:" $missing >&2
        return 1
    fi
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
        echo "Packages are missing, and there is neither root nor sudo. Run as root:" >&2
        echo "    apt-get update && apt-get install --no-install-recommends" $missing >&2
        return 1
    fi
    (
        flock 9
        missing=$(packages_missing "$@")
        [ -n "$missing" ] || exit 0
        echo "Installing packages:" $missing
        packages_install_locked "$log" $missing && exit 0
        echo "The packages could not be installed; the end of $log:" >&2
        tail -n 15 "$log" | sed 's/^/    /' >&2
        exit 1
    ) 9>"/tmp/slotwise-packages-$(id -u).lock"
}

packages_install_locked() {
    local log=$1 policy=/usr/sbin/policy-rc.d made_policy="" failed=0
    shift
    : >"$log"
    # sudo asks for its password where that can be seen.
    [ "$(id -u)" = 0 ] || sudo -v || return 1
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | packages_as_root tee "$policy" >/dev/null
        packages_as_root chmod 755 "$policy"
        made_policy=yes
    fi
    progress_run "apt-get update" "$log" packages_as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -o DPkg::Lock::Timeout=300 update &&
        progress_run "apt-get install" "$log" packages_as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install --no-install-recommends "$@" || failed=1
    [ -z "$made_policy" ] || packages_as_root rm -f "$policy"
    case " $* " in
    *" redis-server "*)
        if [ -d /run/systemd/system ]; then
            packages_as_root systemctl disable redis-server >/dev/null 2>&1 || true
        fi
        ;;
    esac
    return $failed
}

# packages_prepare_build <root>: makes build/ in the checkout and sees to it that it and ccache's folder can be written. Another
# user (root, say) may have built there before.
packages_prepare_build() {
    local locked
    mkdir -p "$1/build" || return 1
    locked=$(find "$1/build" -maxdepth 1 ! -writable -print -quit)
    if [ -n "$locked" ]; then
        echo "$locked belongs to $(stat -c %U "$locked") and cannot be written by $(id -un): remove $1/build first." >&2
        return 1
    fi
    if [ -z "${CCACHE_DIR:-}" ] && ! [ -w "${HOME:-/nonexistent}" ]; then
        export CCACHE_DIR=$1/build/ccache
    fi
}

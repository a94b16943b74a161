# Sourced by server/run and tests/run: which Debian packages a newcomer needs, and their installation.

PACKAGES_BUILD="gcc libc6-dev cmake ninja-build pkg-config ccache git ca-certificates
    liburcu-dev libjemalloc-dev liburing-dev libxxhash-dev libck-dev liblz4-dev"
PACKAGES_TALK="redis-tools"
PACKAGES_TEST="clang libclang-rt-14-dev llvm-14 clang-format libcriterion-dev universal-ctags
    python3 python3-pytest python3-redis redis-server redis-tools procps dpkg-dev file"

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

# packages_install <package>...: installs what is missing and touches nothing when nothing is. A lock keeps two checkouts that
# start together from meeting in apt. Services that come along (redis-server) are neither started nor enabled: the port
# belongs to whoever has it now.
packages_install() {
    local missing
    missing=$(packages_missing "$@")
    [ -n "$missing" ] || return 0
    if ! command -v apt-get >/dev/null; then
        echo "This machine has no apt-get. Install by hand what these Debian packages hold:" $missing >&2
        return 1
    fi
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
        echo "Neither root nor sudo. Run as root: apt-get update && apt-get install" $missing >&2
        return 1
    fi
    (
        flock 9
        missing=$(packages_missing "$@")
        [ -n "$missing" ] || exit 0
        echo "Installing packages:" $missing
        packages_install_locked $missing
    ) 9>/tmp/slotwise-packages-$(id -u).lock
}

packages_install_locked() {
    local policy=/usr/sbin/policy-rc.d made_policy="" failed=0
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | packages_as_root tee "$policy" >/dev/null
        packages_as_root chmod 755 "$policy"
        made_policy=yes
    fi
    packages_as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 update &&
        packages_as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
            -o Dpkg::Use-Pty=0 install --no-install-recommends "$@" || failed=1
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

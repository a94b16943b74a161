# Sourced by server/run: where a server with these arguments will listen, for the hint to the user. It reads the configuration file
# and its includes as the server does, as far as the hint needs it: port, unixsocket, bind, requirepass.

where_port=6379
where_socket=""
where_host=""
where_password=""
where_unknown=""

# where_set <directive> <value>...
where_set() {
    local name=$1 address addresses=()
    shift
    case $name in
    port) where_port=${1:-6379} ;;
    unixsocket) where_socket=${1:-} ;;
    requirepass) where_password=${1:-} ;;
    bind)
        where_host=""
        IFS=' ' read -ra addresses <<<"$*"
        for address in "${addresses[@]}"; do
            case ${address#-} in
            127.* | localhost | 0.0.0.0 | '*')
                where_host=""
                return
                ;;
            '::1' | '::' | '::*') ;;
            *) [ -n "$where_host" ] || where_host=${address#-} ;;
            esac
        done
        ;;
    include) where_read_include "$1" ;;
    esac
}

# where_read_include <pattern>: the pattern is the server's to expand, and may have blanks in it.
where_read_include() {
    local file IFS=
    for file in $1; do
        [ ! -f "$file" ] || where_read_file "$file" $((${where_depth:-0} + 1))
    done
}

# where_read_file <file> [<depth>]
where_read_file() {
    local line name value where_depth=${2:-0}
    [ "$where_depth" -lt 16 ] || return 0
    while IFS= read -r line || [ -n "$line" ]; do
        line=${line%$'\r'}
        [[ $line =~ ^[[:space:]]*([A-Za-z-]+)[[:space:]]+(.*[^[:space:]])[[:space:]]*$ ]] || continue
        name=${BASH_REMATCH[1],,}
        value=${BASH_REMATCH[2]}
        case $value in
        \"*\" | \'*\') value=${value:1:${#value}-2} ;;
        esac
        where_set "$name" "$value"
    done <"$1"
}

# where_read_arguments <argument of the server>...
where_read_arguments() {
    local name="" values=()
    case ${1:-} in
    "" | --*) ;;
    -)
        where_unknown=yes
        shift
        ;;
    *)
        if [ -r "$1" ]; then
            where_read_file "$1"
        fi
        shift
        ;;
    esac
    while [ $# -gt 0 ]; do
        case $1 in
        --*)
            [ -z "$name" ] || where_set "$name" "${values[*]:-}"
            name=${1#--}
            name=${name,,}
            values=()
            ;;
        -) where_unknown=yes ;;
        *) values+=("$1") ;;
        esac
        shift
    done
    [ -z "$name" ] || where_set "$name" "${values[*]:-}"
}

where_say() {
    local cli="redis-cli" benchmark="redis-benchmark" ask=""
    if [ -n "$where_unknown" ]; then
        echo "Where it listens is said by its configuration on standard input."
        return
    fi
    if [ "$where_port" != 0 ]; then
        echo "It listens on port $where_port${where_socket:+ and on the socket $where_socket}."
        cli+="${where_host:+ -h $where_host} -p $where_port"
        benchmark+="${where_host:+ -h $where_host} -p $where_port"
    elif [ -n "$where_socket" ]; then
        echo "It listens on the socket $where_socket."
        cli+=" -s $(printf %q "$where_socket")"
        benchmark+=" -s $(printf %q "$where_socket")"
    else
        return
    fi
    [ -z "$where_password" ] || ask=" --askpass"
    echo
    echo "Talk to it from another terminal:"
    echo "    $cli$ask"
    echo "    $cli$ask set greeting hello"
    [ -n "$where_password" ] || echo "    $benchmark -t get,set -n 100000 -P 16 -q"
    echo "Stop it with Ctrl-C here, or with: $cli$ask shutdown"
}

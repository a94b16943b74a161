# Sourced by server/run: six nodes of a cluster on loopback ports that follow each other, each with a folder of its own for its
# nodes.conf, RDB file and log. A node is known by its pid file and by the folder that its process works in, so nothing else is
# ever ended, whatever the pid file says.

cluster_first=7001 # the first port
cluster_folder=""  # of all nodes: build/cluster/<first port>
cluster_started=() # ports of the nodes that this run has started
cluster_count=6
cluster_bus_step=10000

# cluster_read_arguments <root> <argument>...: the first port, and what goes to each server.
cluster_read_arguments() {
    local root
    root=$(cd "$1" && pwd -P)
    shift
    cluster_stop_wanted=""
    cluster_arguments=()
    while [ $# -gt 0 ]; do
        case $1 in
        --stop) cluster_stop_wanted=yes ;;
        --port)
            cluster_first=${2:-}
            shift
            ;;
        *) cluster_arguments+=("$1") ;;
        esac
        [ $# = 0 ] || shift
    done
    if ! [[ $cluster_first =~ ^[1-9][0-9]{0,4}$ ]] ||
        [ $((cluster_first + cluster_count - 1 + cluster_bus_step)) -gt 65535 ]; then
        echo "--port is the first of $cluster_count ports, at most $((65536 - cluster_count - cluster_bus_step))" >&2
        return 1
    fi
    cluster_folder=$root/build/cluster/$cluster_first
}

cluster_ports() {
    seq "$cluster_first" $((cluster_first + cluster_count - 1))
}

# cluster_pid <port>: the process id of the node if it runs.
cluster_pid() {
    local folder=$cluster_folder/$1 pid=""
    [ -r "$folder/node.pid" ] && read -r pid <"$folder/node.pid" || return 1
    [[ $pid =~ ^[0-9]+$ ]] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = slotwise-server ] &&
        [ "$(readlink "/proc/$pid/cwd")" = "$folder" ] && echo "$pid"
}

cluster_ask() {
    local port=$1
    shift
    redis-cli -h 127.0.0.1 -p "$port" "$@" 2>/dev/null
}

# cluster_wait <seconds> <command>...: until the command succeeds.
cluster_wait() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}

cluster_answers() {
    [ "$(cluster_ask "$1" ping)" = PONG ]
}

cluster_is_up_or_dead() {
    ! kill -0 "$2" 2>/dev/null || { cluster_pid "$1" >/dev/null && cluster_answers "$1"; }
}

# cluster_start_node <server> <port>
cluster_start_node() {
    local server=$1 port=$2 folder=$cluster_folder/$2 pid
    mkdir -p "$folder" && rm -f "$folder/node.pid" || return 1
    (
        cd "$folder"
        exec setsid "$server" --port "$port" --bind 127.0.0.1 --cluster-enabled yes --cluster-node-timeout 5000 \
            --pidfile "$folder/node.pid" --logfile "$folder/node.log" ${cluster_arguments[@]+"${cluster_arguments[@]}"}
    ) </dev/null >>"$folder/node.log" 2>&1 9>&- &
    pid=$!
    cluster_wait 60 cluster_is_up_or_dead "$port" "$pid"
    if ! cluster_pid "$port" >/dev/null || ! cluster_answers "$port"; then
        kill "$pid" 2>/dev/null
        echo "The node on port $port did not start; the end of $folder/node.log:" >&2
        tail -n 5 "$folder/node.log" | sed 's/^/    /' >&2
        return 1
    fi
    cluster_started+=("$port")
}

cluster_is_gone() {
    ! kill -0 "$1" 2>/dev/null
}

# cluster_stop_nodes <port>...: all at once, and waits for their ends.
cluster_stop_nodes() {
    local port pid pids=()
    for port in "$@"; do
        if pid=$(cluster_pid "$port"); then
            kill "$pid" && pids+=("$pid")
        fi
    done
    for pid in ${pids[@]+"${pids[@]}"}; do
        cluster_wait 60 cluster_is_gone "$pid" || { echo "Process $pid does not end" >&2; return 1; }
    done
    echo "Stopped ${#pids[@]} nodes."
}

# cluster_field <port> <name>: of CLUSTER INFO.
cluster_field() {
    cluster_ask "$1" cluster info | tr -d '\r' | sed -n "s/^$2://p"
}

cluster_is_ok() {
    local port
    for port in $(cluster_ports); do
        [ "$(cluster_field "$port" cluster_state)" = ok ] &&
            [ "$(cluster_field "$port" cluster_known_nodes)" -ge $cluster_count ] || return 1
    done
}

# The replicas are synchronised: one may take over.
cluster_is_whole() {
    local port
    for port in $(cluster_ports); do
        ! cluster_ask "$port" info replication | grep -q "^master_link_status:down" || return 1
    done
}

# cluster_join: redis-cli --cluster create, unless they have been joined before.
cluster_join() {
    local port addresses=() fresh=0
    for port in $(cluster_ports); do
        addresses+=("127.0.0.1:$port")
        if [ "$(cluster_field "$port" cluster_known_nodes)" = 1 ] && [ "$(cluster_field "$port" cluster_slots_assigned)" = 0 ]; then
            fresh=$((fresh + 1))
        fi
    done
    if [ $fresh = $cluster_count ]; then
        echo "Joining them: redis-cli --cluster create ${addresses[*]} --cluster-replicas 1"
        if ! redis-cli --cluster create "${addresses[@]}" --cluster-replicas 1 --cluster-yes >"$cluster_folder/create.log" 2>&1; then
            echo "They could not be joined; the end of $cluster_folder/create.log:" >&2
            tail -n 5 "$cluster_folder/create.log" | sed 's/^/    /' >&2
            return 1
        fi
    fi
    echo "Waiting until the cluster is ok and its replicas are synchronised"
    if ! cluster_wait 60 cluster_is_ok || ! cluster_wait 60 cluster_is_whole; then
        echo "The cluster is not ok: redis-cli --cluster check 127.0.0.1:$cluster_first says why." >&2
        echo "To begin with an empty one: server/run --cluster --stop; rm -r $cluster_folder" >&2
        return 1
    fi
}

# cluster_replica_of <port>: the port of a replica of this master, if it is one.
cluster_replica_of() {
    cluster_ask "$1" cluster nodes | awk -v port="$1" '
        { split($2, address, /[:@]/) }
        $3 ~ /myself,master/ { id = $1 }
        { primary[address[2]] = $4 }
        END { for (one in primary) if (id != "" && primary[one] == id) { print one; exit } }'
}

cluster_say() {
    local port master="" replica="" option="" here=$cluster_folder
    [ "$cluster_first" = 7001 ] || option=" --port $cluster_first"
    for port in $((cluster_first + 1)) $(cluster_ports); do
        if replica=$(cluster_replica_of "$port") && [ -n "$replica" ]; then
            master=$port
            break
        fi
    done
    echo
    echo "The cluster is ready on 127.0.0.1, ports $cluster_first to $((cluster_first + cluster_count - 1)):"
    echo "    redis-cli -c -p $cluster_first set greeting hello"
    echo "    redis-cli -c -p $cluster_first cluster info"
    echo "    redis-cli -c -p $cluster_first cluster nodes"
    if [ -n "$master" ]; then
        echo "Stop a master (kill -9 for a worse end), and see its replica on port $replica take over:"
        echo "    kill \$(cat $here/$master/node.pid)"
        echo "    tail -f $here/$replica/node.log"
        echo "    redis-cli -c -p $replica cluster nodes"
    fi
    echo "Start again what does not run:  server/run --cluster$option"
    echo "End all of it:                  server/run --cluster$option --stop"
    echo "Their files are in $here; without it the next cluster is an empty one."
}

# cluster_up <server>: starts what does not run, and joins them.
cluster_up() {
    local server=$1 port running=0
    for port in $(cluster_ports); do
        if cluster_pid "$port" >/dev/null; then
            running=$((running + 1))
        elif ! cluster_start_node "$server" "$port"; then
            [ ${#cluster_started[@]} = 0 ] || cluster_stop_nodes "${cluster_started[@]}" >&2
            return 1
        fi
    done
    [ $running = 0 ] || echo "$running nodes were running already."
    [ ${#cluster_started[@]} = 0 ] || echo "Started nodes on the ports ${cluster_started[*]}."
    cluster_join && cluster_say
}

# cluster_run up <server>, or stop: one at a time for these ports.
cluster_run() {
    mkdir -p "$cluster_folder" || return 1
    (
        flock 9
        if [ "$1" = stop ]; then
            cluster_stop_nodes $(cluster_ports)
        else
            cluster_up "$2"
        fi
    ) 9>"$cluster_folder/lock"
}

# Sourced by server/run, tests/run and bench/run: a long command runs with its output in a file, and now and then a line says how
# far it has come.

progress_reporter=""

# progress_mark <log>: the last count that ninja ("[12/86]") or pytest ("[ 45%]") wrote.
progress_mark() {
    tail -c 4000 "$1" 2>/dev/null | grep -aoE '\[ *[0-9]+(/[0-9]+|%)\]' | tail -n 1 | tr -d '[] ' || true
}

progress_stop() {
    if [ -n "$progress_reporter" ]; then
        kill "$progress_reporter" 2>/dev/null
        wait "$progress_reporter" 2>/dev/null
        progress_reporter=""
    fi
    return 0
}

# progress_begin <label> <log>...: until progress_stop.
progress_begin() {
    local label=$1 begin=$SECONDS
    shift
    (
        while sleep "${SLOTWISE_PROGRESS_SECONDS:-15}" </dev/null >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
            marks=""
            for log in "$@"; do
                mark=$(progress_mark "$log")
                marks+=${mark:+$mark, }
            done
            echo "    $label: $marks$((SECONDS - begin)) s"
        done
    ) &
    progress_reporter=$!
}

# progress_run <label> <log> <command>...: the log is appended to. Returns what the command returns.
progress_run() {
    local label=$1 log=$2 code=0
    shift 2
    progress_begin "$label" "$log"
    "$@" >>"$log" 2>&1 || code=$?
    progress_stop
    return $code
}

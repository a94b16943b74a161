"""Checkers of concurrent histories.

`find_order` is the general one (after Wing and Gong, with Lowe's memory of visited configurations): it looks for
an order of all operations that respects real time and each client's program order and that a sequential model
allows. Its cost grows with the concurrency, not the length, of the history.

`check_unique_writes` decides in O(n log n) for a register whose written values are all different (Gibbons and
Korach): each value's operations form a zone, and certain zones must not overlap.

Times are integers of one clock (CLOCK_MONOTONIC, which all processes of the machine share).
"""

import bisect
from collections import namedtuple

# One operation: who did it, between which times, what, and with which result.
Operation = namedtuple("Operation", "client invoked returned request result")


class TooHard(Exception):
    """The search visited more configurations than allowed; the history is neither right nor wrong."""


def find_order(history, step, initial, limit=2_000_000):
    """An order (list of operations) that explains `history`, or None if there is none.

    step(state, request, result) returns the state after the operation, or None where the model would not have
    given that result. States must be hashable. Operations of one client take effect in the order of the list even
    where their times overlap (a pipeline). A result of `Ellipsis` is an operation whose reply never came: it may
    have happened at any time after its invocation, or not at all.
    """
    clients = {}
    for operation in history:
        clients.setdefault(operation.client, []).append(operation)
    lanes = list(clients.values())
    lengths = tuple(len(lane) for lane in lanes)
    # earliest_return[l][i]: the smallest return time among lane l's operations from i on. An operation may come
    # next only if nothing that is still to come had returned before it was invoked.
    infinite = float("inf")
    earliest_return = []
    for lane in lanes:
        smallest, row = infinite, [infinite]
        for operation in reversed(lane):
            if operation.result is not Ellipsis:
                smallest = min(smallest, operation.returned)
            row.append(smallest)
        earliest_return.append(row[::-1])

    def successors(position, state):
        """The configurations that may follow, each with the operation that leads there (None: it never happened)."""
        horizon = min(earliest_return[lane][position[lane]] for lane in range(len(lanes)))
        for lane, at in enumerate(position):
            if at == lengths[lane] or lanes[lane][at].invoked > horizon:
                continue
            operation = lanes[lane][at]
            following = position[:lane] + (at + 1,) + position[lane + 1:]
            after = step(state, operation.request, operation.result)
            if after is not None:
                yield following, after, operation
            if operation.result is Ellipsis:
                yield following, state, None

    start = tuple(0 for _ in lanes)
    visited = {(start, initial)}
    stack = [(start, successors(start, initial), None)]
    while stack:
        position, choices, _ = stack[-1]
        if position == lengths:
            return [operation for _, _, operation in stack if operation is not None]
        for following, after, operation in choices:
            if (following, after) not in visited:
                visited.add((following, after))
                if len(visited) > limit:
                    raise TooHard(f"more than {limit} configurations")
                stack.append((following, successors(following, after), operation))
                break
        else:
            stack.pop()
    return None


def shortest_wrong_start(history, step, initial, limit=200_000):
    """The operations up to the first moment (bisected) at which a wrong history has become impossible to explain."""
    ends = sorted(operation.returned for operation in history)

    def until(time):
        return [operation if operation.returned <= time else operation._replace(result=Ellipsis)
                for operation in history if operation.invoked <= time]

    def wrong(time):
        try:
            return find_order(until(time), step, initial, limit) is None
        except TooHard:
            return False

    low, high = 0, len(ends) - 1
    while low < high:
        middle = (low + high) // 2
        if wrong(ends[middle]):
            high = middle
        else:
            low = middle + 1
    return sorted(until(ends[low]), key=lambda operation: operation.invoked)


def register_step(state, request, result):
    """Sequential semantics of some commands on one key; the state is its bytes or None."""
    after, expected = _apply(state, request)
    return after if result is Ellipsis or expected == result else None


_ABSENT = ("absent",)  # a state must not be None, which means "impossible"


def _apply(state, request):
    name, value = request[0], state if state != _ABSENT else None
    if name == "GET":
        return state, value
    if name == "SET":
        return request[1], "OK"
    if name == "GETSET":
        return request[1], value
    if name == "SETNX":
        return (request[1], 1) if value is None else (state, 0)
    if name == "DEL":
        return _ABSENT, 0 if value is None else 1
    if name == "GETDEL":
        return _ABSENT, value
    if name == "INCR":
        number = int(value or b"0") + 1
        return b"%d" % number, number
    if name == "APPEND":
        joined = (value or b"") + request[1]
        return joined, len(joined)
    if name == "EXISTS":
        return state, 0 if value is None else 1
    if name == "STRLEN":
        return state, len(value or b"")
    raise ValueError(name)


def several_step(state, request, result):
    """The same for several keys: the state is a tuple, requests are (name, index, ...) or multi-key commands.

    ("MGET", indexes) -> list; ("MSET", indexes, values) -> "OK"; ("MULTI", [request, ...]) -> list.
    """
    after, expected = _apply_several(state, request)
    if result is Ellipsis:
        return after
    return after if expected == result else None


def _apply_several(state, request):
    name = request[0]
    if name == "MGET":
        return state, [None if state[index] == _ABSENT else state[index] for index in request[1]]
    if name == "MSET":
        changed = list(state)
        for index, value in zip(request[1], request[2]):
            changed[index] = value
        return tuple(changed), "OK"
    if name == "MULTI":
        results = []
        for inner in request[1]:
            state, result = _apply_several(state, inner)
            results.append(result)
        return state, results
    index = request[1]
    after, result = _apply(state[index], (name,) + tuple(request[2:]))
    return state[:index] + (after,) + state[index + 1:], result


def absent_state(keys=None):
    """The state of a key that is not there, or of so many keys."""
    return _ABSENT if keys is None else (_ABSENT,) * keys


def check_unique_writes(history, initial=None):
    """A complaint about a history of ("SET", value) and ("GET",) on one register, or None.

    Every value is written at most once. `initial` counts as written before everything.
    """
    writes = {initial: (float("-inf"), float("-inf"))}
    reads = {}
    for operation in history:
        if operation.request[0] == "SET":
            value = operation.request[1]
            if value in writes:
                raise ValueError(f"{value!r} is written twice")
            writes[value] = (operation.invoked, operation.returned)
        else:
            reads.setdefault(operation.result, []).append((operation.invoked, operation.returned))
    for value, times in reads.items():
        if value not in writes:
            return f"{value!r} was read but never written"
        if min(returned for _, returned in times) < writes[value][0]:
            return f"{value!r} was read before it was written"
    forward, backward = [], []
    for value, (invoked, returned) in writes.items():
        times = reads.get(value, []) + [(invoked, returned)]
        first_end = min(end for _, end in times)
        last_begin = max(begin for begin, _ in times)
        # Forward: the value was certainly the current one from first_end to last_begin. Backward: all its
        # operations overlap one another, and it must have been current at some moment between them.
        if first_end < last_begin:
            forward.append((first_end, last_begin, value))
        else:
            backward.append((last_begin, first_end, value))
    forward.sort(key=lambda zone: zone[0])
    for (_, end, value), (begin, _, other) in zip(forward, forward[1:]):
        if begin < end:
            return f"{value!r} and {other!r} were both current: the one was read again after the other"
    starts = [zone[0] for zone in forward]
    for begin, end, value in backward:
        at = bisect.bisect_right(starts, begin) - 1
        if at >= 0 and forward[at][0] < begin and end < forward[at][1]:
            return f"{value!r} was written and read while {forward[at][2]!r} was current all the time"
    return None


def check_counter(history, initial=0):
    """A complaint about INCR results: (invoked, returned, result), or None. Results are unique and in real time."""
    ordered = sorted(history, key=lambda entry: entry[2])
    for position, (_, _, result) in enumerate(ordered):
        if result != initial + position + 1:
            return f"the results are not 1, 2, 3...: {result} is number {position + 1}"
    # In the order of results nothing may be invoked after a later one had returned.
    smallest_return_after = [float("inf")] * (len(ordered) + 1)
    for position in range(len(ordered) - 1, -1, -1):
        smallest_return_after[position] = min(smallest_return_after[position + 1], ordered[position][1])
    for position, (invoked, _, result) in enumerate(ordered):
        if smallest_return_after[position + 1] < invoked:
            return f"{result} was given to a command sent after a larger result had arrived"
    return None


def check_store_buffer(first, second):
    """A complaint about two clients that each repeat `write own counter; read the other's`, or None.

    first[i] is what the first client read after it had written i + 1, and the same for second. Whoever read less
    than j came before the other's write of j, so the other must have seen its write.
    """
    for i, seen in enumerate(first, 1):
        if seen < len(second) and second[seen] < i:
            return (f"after writing {i} the one saw {seen}, and after writing {seen + 1} the other saw "
                    f"{second[seen]}: each missed the other's write")
    return None


def check_message_passing(pairs):
    """A complaint about reads (y, then x) of a writer that sets x = i, then y = i, or None."""
    last_y = last_x = -1
    for y, x in pairs:
        if x < y:
            return f"saw y = {y}, and afterwards x = {x}, which had been written before"
        if y < last_y or x < last_x:
            return f"went back from {last_y}, {last_x} to {y}, {x}"
        last_y, last_x = y, x
    return None

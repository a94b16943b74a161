"""The checkers themselves: right histories pass and wrong ones are found."""

import random

import pytest

from linearizability import (Operation, absent_state, check_counter, check_message_passing, check_store_buffer,
                             check_unique_writes, find_order, register_step,
                             several_step, shortest_wrong_start)

SMOKE = True


def history(*rows):
    return [Operation(*row) for row in rows]


def accepted(operations):
    return find_order(operations, register_step, absent_state()) is not None


def test_sequential():
    assert accepted(history((0, 0, 1, ("SET", b"1"), "OK"), (0, 2, 3, ("GET",), b"1"), (0, 4, 5, ("DEL",), 1),
                            (1, 6, 7, ("GET",), None)))


def test_stale_read_is_found():
    operations = history((0, 0, 1, ("SET", b"1"), "OK"), (0, 2, 3, ("SET", b"2"), "OK"), (1, 4, 5, ("GET",), b"1"))
    assert not accepted(operations)
    assert check_unique_writes(operations)


def test_overlapping_operations_may_take_either_order():
    for value in (b"1", b"2"):
        operations = history((0, 0, 10, ("SET", b"1"), "OK"), (1, 0, 10, ("SET", b"2"), "OK"),
                             (2, 11, 12, ("GET",), value))
        assert accepted(operations)
        assert check_unique_writes(operations) is None


def test_two_readers_must_agree_on_the_order():
    operations = history((0, 0, 100, ("SET", b"1"), "OK"), (1, 0, 100, ("SET", b"2"), "OK"),
                         (2, 1, 2, ("GET",), b"1"), (2, 3, 4, ("GET",), b"2"),
                         (3, 5, 6, ("GET",), b"1"))
    assert not accepted(operations)
    assert check_unique_writes(operations)


def test_read_before_write_is_found():
    operations = history((0, 5, 6, ("SET", b"1"), "OK"), (1, 0, 1, ("GET",), b"1"))
    assert not accepted(operations)
    assert check_unique_writes(operations)


def test_value_inside_another_is_found():
    operations = history((0, 0, 1, ("SET", b"1"), "OK"), (1, 3, 4, ("SET", b"2"), "OK"), (0, 10, 11, ("GET",), b"1"))
    assert not accepted(operations)
    assert check_unique_writes(operations)


def test_program_order_of_a_pipeline():
    """Both are in flight at the same time, but the first sent must come first."""
    good = history((0, 0, 10, ("SET", b"1"), "OK"), (0, 0, 10, ("GET",), b"1"))
    bad = history((0, 0, 10, ("GET",), b"1"), (0, 0, 10, ("SET", b"1"), "OK"))
    assert accepted(good)
    assert not accepted(bad)


def test_lost_update_is_found():
    assert not accepted(history((0, 0, 10, ("INCR",), 1), (1, 0, 10, ("INCR",), 1)))
    assert accepted(history((0, 0, 10, ("INCR",), 1), (1, 0, 10, ("INCR",), 2)))


def test_missing_reply_may_have_happened_or_not():
    for value in (None, b"1"):
        assert accepted(history((0, 0, 1, ("SET", b"1"), Ellipsis), (1, 5, 6, ("GET",), value)))
    assert not accepted(history((0, 7, 8, ("SET", b"1"), Ellipsis), (1, 5, 6, ("GET",), b"1")))
    assert not accepted(history((0, 0, 1, ("SET", b"1"), Ellipsis), (1, 5, 6, ("GET",), b"1"),
                                (1, 7, 8, ("GET",), None)))


def test_torn_snapshot_is_found():
    write = Operation(0, 0, 10, ("MSET", (0, 1), (b"x", b"x")), "OK")
    for values, right in (([None, None], True), ([b"x", b"x"], True), ([b"x", None], False), ([None, b"x"], False)):
        read = Operation(1, 1, 9, ("MGET", (0, 1)), values)
        assert (find_order([write, read], several_step, absent_state(2)) is not None) == right


def test_store_buffer_is_found():
    def litmus(first, second):
        return find_order(history((0, 0, 10, ("SET", 0, b"1"), "OK"), (0, 0, 10, ("GET", 1), first),
                                  (1, 0, 10, ("SET", 1, b"1"), "OK"), (1, 0, 10, ("GET", 0), second)),
                          several_step, absent_state(2))

    assert litmus(None, None) is None
    assert litmus(b"1", None) is not None
    assert litmus(None, b"1") is not None
    assert litmus(b"1", b"1") is not None


def test_transaction_is_atomic():
    move = Operation(0, 0, 10, ("MULTI", [("SET", 0, b"0"), ("SET", 1, b"1")]), ["OK", "OK"])
    read = Operation(1, 0, 10, ("MULTI", [("GET", 0), ("GET", 1)]), [b"0", None])
    assert find_order([move, read], several_step, absent_state(2)) is None


def test_counter():
    assert check_counter([(0, 1, 1), (2, 3, 2)]) is None
    assert check_counter([(0, 1, 2), (2, 3, 1)])
    assert check_counter([(0, 5, 2), (0, 3, 1)]) is None
    assert check_counter([(0, 1, 1), (2, 3, 1)])
    assert check_counter([(0, 1, 1), (2, 3, 3)])


def test_both_checkers_agree():
    """Random small histories, most of them wrong: the search and the zones must say the same."""
    generator = random.Random(5)
    verdicts = [0, 0]
    for _ in range(3000):
        operations, number = [], 0
        for client in range(3):
            now = generator.randrange(4)
            for _ in range(generator.randrange(1, 4)):
                end = now + generator.randrange(1, 6)
                if generator.random() < 0.5:
                    number += 1
                    operations.append(Operation(client, now, end, ("SET", b"%d" % number), "OK"))
                else:
                    operations.append(Operation(client, now, end, ("GET",), generator.choice(
                        [None, b"1", b"2", b"3"])))
                now = end + generator.randrange(1, 3)
        by_search = accepted(operations)
        by_zones = check_unique_writes(operations) is None
        assert by_search == by_zones, (operations, check_unique_writes(operations))
        verdicts[by_search] += 1
    assert min(verdicts) > 100, verdicts


def test_store_buffer_of_counters():
    assert check_store_buffer([0, 1, 2], [1, 2, 3]) is None
    assert check_store_buffer([0], [0])
    assert check_store_buffer([0, 0], [1, 1])
    assert check_store_buffer([0, 0], [2, 2]) is None


def test_message_passing():
    assert check_message_passing([(0, 0), (1, 1), (1, 2), (5, 9)]) is None
    assert check_message_passing([(2, 1)])
    assert check_message_passing([(2, 3), (1, 3)])


def test_the_first_wrong_moment_is_found():
    operations = history((0, 0, 1, ("SET", b"1"), "OK"), (1, 2, 3, ("GET",), b"1"), (1, 4, 5, ("GET",), None),
                         (0, 6, 7, ("SET", b"2"), "OK"), (1, 8, 9, ("GET",), b"2"))
    assert shortest_wrong_start(operations, register_step, absent_state()) == operations[:3]

"""Promises of Unfinished: a connection whose message does not end is cut, and nobody else is."""

from __future__ import annotations

from ps.protocol.unfinished import LONGEST, MOST_GROWN, MOST_UNFINISHED, SEVERAL, WATCHED, Unfinished


def test_nobody_is_asked_for_while_little_comes() -> None:
    unfinished = Unfinished()
    for step in range(4):
        assert unfinished.look({4: step * WATCHED // 4, 5: 0}, [], step * MOST_GROWN) == (False, [])


def test_who_is_heard_may_bring_any_amount() -> None:
    unfinished, noted = Unfinished(), False
    for step in range(1000):
        noted, endless = unfinished.look({4: step * LONGEST}, [4] if noted else [], step * MOST_GROWN)
        assert not endless and noted == bool(step % 2)


def test_what_came_before_it_was_asked_who_is_heard_accuses_nobody() -> None:
    unfinished = Unfinished()
    unfinished.look({4: 0}, [], 0)
    assert unfinished.look({4: 9 * LONGEST}, [], 9 * MOST_GROWN) == (True, [])
    assert unfinished.look({4: 10 * LONGEST}, [], 9 * MOST_GROWN) == (True, [])
    assert unfinished.look({4: 10 * LONGEST + 1}, [], 9 * MOST_GROWN) == (True, [4])


def test_the_longest_message_may_take_its_time_whatever_memory_does() -> None:
    unfinished = Unfinished()
    unfinished.look({4: 0}, [], 0)
    for step in range(1, 100):
        came = WATCHED + (LONGEST - WATCHED) * step // 100
        _, endless = unfinished.look({4: came}, [], SEVERAL * came)
        assert not endless


def test_small_frames_without_an_end_are_cut_by_what_memory_grew_not_those_beside_them() -> None:
    unfinished, size = Unfinished(), 20 << 20
    unfinished.look({4: 0, 5: 0}, [], 0)
    unfinished.look({4: 2 * WATCHED, 5: 2 * WATCHED}, [], 0)
    received = {4: 2 * WATCHED + size, 5: 2 * WATCHED + size // 4}
    assert unfinished.look(received, [], MOST_GROWN) == (True, [])
    assert unfinished.look(received, [], MOST_GROWN + 1) == (True, [4])
    assert unfinished.look(received, [4], MOST_GROWN + 1) == (True, [5]), "the next in size, now that 4 was heard"
    assert unfinished.look(received, [5], MOST_GROWN + 1) == (False, [])


def test_a_number_that_is_another_connections_by_now_begins_anew() -> None:
    unfinished = Unfinished()
    unfinished.look({4: LONGEST}, [], 0)
    unfinished.look({4: 2 * LONGEST}, [], 0)
    assert unfinished.look({4: 5}, [], 0) == (False, [])
    assert unfinished.look({}, [], 0) == (False, [])
    assert unfinished.look({4: 4 * LONGEST}, [], 0) == (False, [])


def test_a_first_message_that_is_long_is_cut_once_all_that_ended_was_taken() -> None:
    unfinished = Unfinished()

    def look(count: int, drains: int) -> list[int]:
        return unfinished.look({4: count, 5: count}, [], 0, mute=lambda number: number == 4, drains=drains)[1]

    look(0, 7)
    assert look(WATCHED + 1, 7) == look(4 * WATCHED, 8) == [], "it may have been taken just before it was asked"
    assert look(4 * WATCHED, 9) == [4], "the other one has said something before"


def test_all_that_does_not_end_is_bounded_however_many_bring_it() -> None:
    unfinished, many = Unfinished(), range(MOST_UNFINISHED // LONGEST + 2)
    unfinished.look(dict.fromkeys(many, 0), [], 0)
    unfinished.look(dict.fromkeys(many, 2 * WATCHED), [], 0)
    most = {number: 2 * WATCHED + LONGEST - number for number in many}
    assert unfinished.look(most, [], 0)[1] == [0], "who has brought most"

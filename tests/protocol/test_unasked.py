"""Promises of Unasked: what no peer was asked for is bounded, and no honest peer is accused."""

from __future__ import annotations

import random

from ps.protocol.unasked import LOOKS, MOST_UNASKED, Unasked

MIB = 1 << 20


def found(unasked: Unasked, *looks: tuple[int, int, int, int]) -> list[bool]:
    """What each of several looks says."""
    return [unasked.look(*look) for look in looks]


def test_a_message_without_an_end_is_found_though_whole_ones_are_taken_beside_it() -> None:
    unasked = Unasked()
    unasked.connected(0)
    looks = [(number * 5 * MIB + number * 100, number * 100, number, 0) for number in range(7)]
    assert found(unasked, *looks) == [False] * 5 + [True] * 2


def test_whole_messages_that_wait_are_found_once_they_are_more_than_was_asked_for() -> None:
    unasked = Unasked()
    unasked.connected(0)
    assert found(unasked, *[(MOST_UNASKED + 40 * MIB, 0, 0, 40 * MIB)] * 3) == [False] * 3
    assert found(unasked, *[(MOST_UNASKED + 40 * MIB + 1, 0, 0, 40 * MIB)] * LOOKS) == [False, True]


def test_what_was_left_when_a_connection_broke_is_not_forgiven_before_it_is_taken() -> None:
    unasked, taken, drains = Unasked(), 0, 0
    unasked.connected(taken)
    found(unasked, (MOST_UNASKED, taken, drains, 0))
    unasked.connected(taken)
    assert found(unasked, *[(2 * MIB, taken, drains, 0)] * LOOKS) == [False, True]
    taken, drains = MOST_UNASKED + 2 * MIB, 1
    unasked.connected(taken)
    assert found(unasked, *[(MOST_UNASKED, taken, drains, 0)] * LOOKS) == [False] * LOOKS


def test_honest_answers_are_never_accused_however_they_and_breaks_of_the_connection_fall() -> None:
    for seed in range(300):
        dice, unasked = random.Random(seed), Unasked()
        unasked.connected(0)
        asked = here = received = taken = drains = 0
        for _ in range(200):
            event = dice.random()
            if event < 0.4:  # the script asks for as much as it likes
                asked += dice.randrange(200 * MIB)
            elif event < 0.6:  # some of it comes
                some = dice.randint(0, asked - here)
                here, received = here + some, received + some
            elif event < 0.8:  # and is taken
                some = dice.choice([here, dice.randint(0, here)])
                here, asked, taken = here - some, asked - some, taken + some
                drains += here == 0
            elif event < 0.82:  # it breaks: half an answer is lost, which is asked for again
                lost = min(here, dice.randrange(4 * MIB))
                here, received = here - lost, 0
                unasked.connected(taken)
            assert not unasked.look(received, taken, drains, asked), seed

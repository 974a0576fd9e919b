"""Promises of a Crowd: room is bounded, one host cannot take all of it, and who was there and spoke keeps its place."""

from __future__ import annotations

import random

from ps.protocol.crowd import MOST, MUTE, Crowd, room


def test_who_comes_when_there_is_no_room_is_cut_and_who_has_spoken_before_is_not() -> None:
    crowd = Crowd(4)
    for number in (1, 2, 3, 4):
        assert crowd.came(number, "a", 0.0, own=True) == []
    crowd.spoke([1, 2, 3, 4])
    assert crowd.came(5, "a", 1.0, own=True) == [5] and len(crowd) == 4
    crowd.went(2)
    assert crowd.came(6, "a", 1.0, own=True) == []


def test_of_those_that_are_too_many_who_has_said_nothing_goes_first_even_if_it_came_first() -> None:
    crowd = Crowd(3)
    for number in (1, 2, 3):
        crowd.came(number, "a", 0.0, own=True)
    crowd.spoke([2, 3])
    assert crowd.came(4, "a", 1.0, own=True) == [4], "it has just come"
    crowd.came(4, "b", 1.0, own=False)
    crowd.spoke([4])
    assert crowd.came(5, "b", 1.0, own=False) == [5] and len(crowd) == 3


def test_another_host_gets_half_of_the_room_and_this_one_all() -> None:
    crowd = Crowd(10)
    assert [crowd.came(number, "b", 0.0, own=False) for number in range(7)] == [[]] * 5 + [[5], [6]]
    assert [crowd.came(number, "a", 0.0, own=True) for number in range(10, 15)] == [[]] * 5
    assert crowd.came(20, "c", 0.0, own=False) == [4], "of the host that has most, who came last"
    assert crowd.came(21, "a", 0.0, own=True) == [21]


def test_who_says_nothing_is_cut_only_where_there_is_a_crowd() -> None:
    crowd = Crowd(10)
    for number in range(5):
        crowd.came(number, "a", 0.0, own=True)
    assert crowd.is_asked and crowd.mute(10 * MUTE) == []
    crowd.spoke([0, 1])
    crowd.came(5, "a", MUTE, own=True)
    assert crowd.mute(MUTE) == [] and crowd.mute(MUTE + 1) == [2, 3, 4] and len(crowd) == 3
    crowd.spoke([5])
    assert not crowd.is_asked


def test_a_number_that_is_used_again_is_another_connection() -> None:
    crowd = Crowd(10)
    crowd.came(7, "a", 0.0, own=True)
    crowd.spoke([7, 8])
    crowd.came(7, "b", 1.0, own=False)
    assert crowd.is_asked and len(crowd) == 1
    crowd.went(7)
    crowd.went(7)
    assert len(crowd) == 0 and not crowd.is_asked


def test_there_are_never_more_than_there_is_room_for_whoever_comes_and_goes() -> None:
    dice, crowd, there = random.Random(1), Crowd(50), set[int]()
    for step in range(5000):
        number = dice.randrange(200)
        match dice.randrange(4):
            case 0:
                crowd.went(number)
                there.discard(number)
            case 1:
                crowd.spoke(dice.sample(range(200), 5))
            case _:
                there.add(number)
                there -= set(crowd.came(number, dice.choice("abcdef"), step / 10, own=dice.random() < 0.1))
        there -= set(crowd.mute(step / 10))
        assert len(crowd) == len(there) <= 50


def test_the_room_is_that_of_open_files_and_bounded() -> None:
    assert room(1000) == 700 and room(1 << 30) == MOST

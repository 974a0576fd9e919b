"""Promises of a plan of faults: a seed's are the same, their number is as asked, and who is harmed is spread."""

from __future__ import annotations

import itertools
from collections import Counter

from ps.chaos.plan import ACTIONS, Fault, faults


def test_a_seed_plans_the_same_faults_and_other_actions_change_no_time() -> None:
    first, again = (list(itertools.islice(faults(7, 60.0, ACTIONS, 5.0), 50)) for _ in range(2))
    other = list(itertools.islice(faults(7, 60.0, ("kill",), 5.0), 50))
    assert first == again and [each.at for each in first] == [each.at for each in other]
    assert first != list(itertools.islice(faults(8, 60.0, ACTIONS, 5.0), 50))


def test_faults_are_so_far_apart_on_average_and_of_every_kind() -> None:
    found = list(itertools.islice(faults(1, 60.0, ACTIONS, 5.0), 4000))
    assert 55 < found[-1].at / len(found) < 65
    assert all(1200 < count < 1470 for count in Counter(each.action for each in found).values())
    assert all(2.5 <= each.seconds <= 7.5 for each in found)
    assert set(Counter(each.of(4) for each in found)) == {0, 1, 2, 3}


def test_a_choice_is_always_one_of_those_that_there_are() -> None:
    assert [Fault(0.0, "kill", choice, 1.0).of(3) for choice in (0.0, 0.34, 0.67, 0.999999)] == [0, 1, 2, 2]

"""Rates: what a worker says of the learning rate, step by step."""

from __future__ import annotations

from ps.protocol.codec import decode, encode
from ps.protocol.messages import Push
from ps.protocol.messages.rate import UNSAID, latest
from ps.protocol.ranges import MOST_STEPS
from ps.worker.rates import Rates


def test_nothing_is_said_before_anybody_has_set_a_rate() -> None:
    assert Rates(1, 1.0, 0.1).step() == ()


def test_a_new_rate_goes_with_each_step_until_it_has_come_back_and_is_known_then() -> None:
    rates = Rates(1, 1.0, 0.1)
    rates.set(0.5)
    assert rates.step() == (UNSAID, (1, 1, 0.5, 0.1))
    assert rates.step() == (UNSAID, (1, 1, 0.5, 0.1)), "what came too late is said again"
    rates.hear([(1, 1, 0.5, 0.1)])
    assert rates.step() == ((1, 1, 0.5, 0.1),)


def test_what_is_set_before_the_last_rate_came_back_is_newer_than_that() -> None:
    rates = Rates(1, 1.0, 0.1)
    rates.set(0.5)
    rates.step()
    rates.set(0.25)
    rates.hear([(1, 1, 0.5, 0.1)])
    assert rates.step() == ((1, 1, 0.5, 0.1), (2, 1, 0.25, 0.1))


def test_of_rates_for_one_step_that_of_the_lowest_rank_counts_and_a_later_one_before_both() -> None:
    assert latest([(3, 2, 0.1, 0.1), (3, 0, 0.2, 0.1), (2, 0, 0.3, 0.1)]) == (3, 0, 0.2, 0.1)
    rates = Rates(2, 1.0, 0.1)
    rates.set(0.1)
    rates.step()
    rates.hear([(1, 0, 0.2, 0.1)])
    assert rates.step() == ((1, 0, 0.2, 0.1),), "it was overruled"
    rates.set(0.3)
    assert rates.step() == ((1, 0, 0.2, 0.1), (2, 2, 0.3, 0.1))


def test_a_word_with_the_last_number_there_is_ends_nobody_who_says_another() -> None:
    last = (MOST_STEPS, 0, 0.2, 0.1)
    rates = Rates(2, 1.0, 0.1)
    rates.hear([last])
    rates.set(0.3)
    words = rates.step()
    assert words[0] == last
    assert decode(encode(Push(1, 2, 3, 4, 4, 1.0, 1.0, True, words))) == Push(1, 2, 3, 4, 4, 1.0, 1.0, True, words)

"""Promises of async: applied as it comes, each push once, staleness as the paper has it."""

from __future__ import annotations

import pytest

from ps.protocol.messages import Weights
from support.lone import Lone, told


def test_every_push_is_applied_and_answered_at_once() -> None:
    lone = Lone(3, mode="async")
    assert told(lone.push(3, 0, 1.0)) == ["3 Weights"]
    assert told(lone.push(3, 1, 1.0)) == ["3 Weights"]
    assert told(lone.push(1, 0, 1.0)) == ["1 Weights"]
    assert lone.value == -3.0


def test_a_push_sent_twice_counts_once_and_is_answered_twice() -> None:
    lone = Lone(2, mode="async")
    assert told(lone.push(1, 0, 1.0, request=9)) == told(lone.push(1, 0, 1.0, request=9)) == ["1 Weights"]
    assert lone.value == -1.0


@pytest.mark.parametrize(("scaling", "last"), [(False, 1.0), (True, 1.0 / 3)])
def test_staleness_is_the_number_of_updates_since_the_weights_were_read(scaling: bool, last: float) -> None:
    lone = Lone(2, mode="async", staleness_scaling=scaling)
    for clock in range(3):
        lone.push(1, clock, 1.0, version=clock)
    [reply] = lone.push(2, 0, 1.0, version=0)
    assert isinstance(reply.message, Weights) and reply.message.staleness == 3
    assert lone.value == pytest.approx(-3.0 - last)


def test_fresh_weights_have_no_staleness_and_keep_the_whole_learning_rate() -> None:
    lone = Lone(1, mode="async", staleness_scaling=True)
    [reply] = lone.push(1, 0, 1.0, version=0)
    assert isinstance(reply.message, Weights) and reply.message.staleness == 0
    assert lone.value == -1.0


def test_a_newcomer_begins_at_the_slowest_clock_and_at_the_reached_one_when_it_is_alone() -> None:
    lone = Lone(2, mode="async")
    for clock in range(5):
        lone.push(1, clock, 1.0)
    lone.push(2, 0, 1.0)
    lone.join(3)
    assert lone.attach(3) == 1
    lone.lose(1)
    lone.lose(2)
    lone.join(4)
    lone.lose(3)
    assert lone.attach(4) == 5

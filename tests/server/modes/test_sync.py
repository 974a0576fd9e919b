"""Promises of sync: one clock at a time, closed by those who are there."""

from __future__ import annotations

import pytest

from ps.errors import BadMessage
from ps.protocol.messages import Weights
from ps.protocol.ranges import MOST_AHEAD
from support.lone import Lone, told


def test_a_clock_is_closed_by_the_last_push_and_everybody_is_answered_then() -> None:
    lone = Lone(3)
    assert told(lone.push(1, 0, 1.0)) == []
    assert told(lone.push(3, 0, 3.0)) == []
    assert sorted(told(lone.push(2, 0, 2.0))) == ["1 Weights", "2 Weights", "3 Weights"]
    assert lone.value == -2.0


def test_a_push_without_pull_is_answered_without_weights_when_its_clock_is_closed() -> None:
    lone = Lone(2)
    assert told(lone.push(1, 0, 1.0, pull=False)) == []
    assert told(lone.push(2, 0, 1.0)) == ["1 Pushed", "2 Weights"]


def test_the_dead_are_not_waited_for_and_what_they_pushed_counts() -> None:
    lone = Lone(3)
    lone.push(1, 0, 3.0)
    lone.push(2, 0, 1.0)
    assert told(lone.lose(3)) == ["1 Weights", "2 Weights"]
    assert lone.value == -2.0
    lone.push(1, 1, 5.0)
    assert told(lone.lose(1)) == []
    assert told(lone.push(2, 1, 3.0)) == ["2 Weights"]
    assert lone.value == -2.0 - 4.0


def test_a_worker_that_retires_is_not_waited_for_until_it_starts_again() -> None:
    lone = Lone(2)
    lone.push(1, 0, 1.0)
    assert told(lone.retire(2)) == ["2 Ok", "1 Weights"]
    assert told(lone.push(1, 1, 1.0)) == ["1 Weights"]
    lone.start(2, 2)
    assert told(lone.push(1, 2, 1.0)) == []


def test_a_retired_worker_holds_up_no_clock_even_if_the_scheduler_never_says_that_it_is_gone() -> None:
    lone = Lone(2)
    lone.join(3)
    assert lone.attach(3) == 1
    lone.push(1, 0, 1.0)
    lone.push(2, 0, 1.0)
    lone.retire(3)
    lone.push(1, 1, 1.0)
    assert told(lone.push(2, 1, 1.0)) == ["1 Weights", "2 Weights"]


def test_a_late_worker_gets_the_weights_of_its_first_clock_before_that_can_be_closed() -> None:
    lone = Lone(2, backup_workers=1)
    lone.join(3)
    clock = lone.attach(3)
    lone.push(1, 0, 1.0)
    lone.start(3, clock)
    lone.retire(2)
    assert told(lone.push(1, 1, 1.0)) == []  # closed already, but for the hold
    [weights, other] = lone.pull(3, clock)
    assert isinstance(weights.message, Weights) and weights.message.version == clock == 1
    assert weights.loan is not None and weights.loan.weights[0] == -1.0  # not those of the clock closed right after
    assert told([other]) == ["1 Weights"] and lone.value == -2.0


def test_clocks_that_nobody_takes_part_in_are_passed_over() -> None:
    lone = Lone(2)
    lone.join(3)
    lone.attach(3)
    lone.start(3, 7)  # another server was that far
    assert lone.pull(3, 7) == []
    lone.lose(1)
    assert told(lone.lose(2)) == ["3 Weights"]
    assert lone.chunk.version == 7


def test_a_huge_start_clock_does_not_make_the_server_count() -> None:
    lone = Lone(1)
    lone.start(1, MOST_AHEAD)
    assert lone.chunk.version == MOST_AHEAD
    with pytest.raises(BadMessage, match="to start at clock 4611686018427387904, where 1048576 is the highest"):
        lone.start(1, 1 << 62)
    assert lone.chunk.version == MOST_AHEAD


def test_with_backup_workers_the_last_push_is_late_and_does_not_count() -> None:
    lone = Lone(3, backup_workers=1)
    lone.push(3, 0, 2.0)
    assert sorted(told(lone.push(2, 0, 4.0))) == ["2 Weights", "3 Weights"]
    assert told(lone.push(1, 0, 100.0)) == ["1 Late"]
    assert lone.value == -3.0


def test_a_late_worker_pushes_the_clock_that_is_collected_and_is_counted_on_all_the_while() -> None:
    lone = Lone(3, backup_workers=1)
    lone.push(2, 0, 1.0)
    lone.push(3, 0, 1.0)
    assert told(lone.push(1, 0, 1.0)) == ["1 Late"]
    assert told(lone.push(2, 1, 1.0)) == []  # all but one of three are two, late ones included
    assert told(lone.start(1, 1)) == ["1 Ok"]
    assert told(lone.pull(1, 1)) == ["1 Weights"]
    assert sorted(told(lone.push(1, 1, 3.0))) == ["1 Weights", "2 Weights"]
    assert lone.value == -1.0 - 2.0


def test_a_clock_that_a_late_worker_passes_over_does_without_it_and_with_all_others() -> None:
    lone = Lone(3, backup_workers=1)
    lone.start(1, 2)  # elsewhere clock 2 is collected
    assert lone.pull(1, 2) == []
    for clock in (0, 1):
        assert told(lone.push(2, clock, 1.0)) == []
        assert "3 Weights" in told(lone.push(3, clock, 1.0))
    assert lone.chunk.version == 2


def test_a_push_for_a_clock_that_is_not_there_yet_is_a_mistake() -> None:
    lone = Lone(2)
    with pytest.raises(BadMessage, match="a push for clock 1 while clock 0 is collected"):
        lone.push(1, 1, 1.0)
    assert lone.chunk.done[1] == 0 and not lone.chunk.pending


def test_attaching_twice_does_not_lose_the_first_clock() -> None:
    lone = Lone(2, seeded=False)
    assert lone.attach(1) == lone.attach(1) == 0
    assert lone.shard.participants[1].start == 0


def test_a_clock_that_was_named_to_a_newcomer_stays_open_when_it_asks_again_later() -> None:
    lone = Lone(2, backup_workers=1)
    lone.retire(1)
    lone.retire(2)
    lone.join(3)
    assert lone.attach(3) == 0
    lone.start(1, 0)
    assert lone.attach(3) == 0  # asked twice; the answer to the first may be the one it goes by
    assert told(lone.push(1, 0, 1.0)) == []


def test_workers_are_added_in_rank_order_whoever_comes_first() -> None:
    values = [1e8, 1.0, -1e8]  # in float32 the order decides the sum
    found = set()
    for order in ((1, 2, 3), (3, 2, 1), (2, 3, 1)):
        lone = Lone(3)
        for member in order:
            lone.push(member, 0, values[member - 1])
        found.add(lone.value)
    assert len(found) == 1


def test_what_it_waits_for_is_named() -> None:
    lone = Lone(3)
    lone.push(2, 0, 1.0)
    lone.now = 12.0
    assert lone.shard.report(12.0)["waiting"] == [{"clock": 1, "for": [0, 2], "seconds": 12.0, "chunk": 0, "chunks": 1}]

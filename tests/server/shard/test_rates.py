"""Which learning rate counts for a chunk, where workers say different ones."""

from __future__ import annotations

import pytest

from ps.protocol.messages import Pushed, Skip, Weights
from ps.protocol.messages.rate import UNSAID, Rate
from support.lone import Lone


def said(number: int, rank: int, lr: float) -> tuple[Rate, ...]:
    return UNSAID, (number, rank, lr, 0.0)


def test_in_sync_the_lowest_rank_counts_whoever_comes_first_and_all_are_told() -> None:
    for order in ((1, 2), (2, 1)):
        lone = Lone(2)
        for member in order:
            replies = lone.push(member, 0, 1.0, rates=said(1, member - 1, 0.5 / member))
        assert lone.value == -0.5
        messages = [reply.message for reply in replies]
        assert [m.rates for m in messages if isinstance(m, Weights)] == [((1, 0, 0.5, 0.0),)] * 2


def test_a_rate_counts_for_all_workers_and_goes_on_when_the_one_that_set_it_is_gone() -> None:
    lone = Lone(2)
    lone.push(1, 0, 1.0, rates=said(1, 0, 0.5))
    lone.push(2, 0, 1.0)
    lone.lose(1)
    lone.push(2, 1, 1.0, rates=((1, 0, 0.5, 0.0),))
    assert lone.value == -1.0
    lone.join(3)
    lone.start(3, lone.attach(3))
    [reply] = lone.pull(3, 2)
    assert isinstance(reply.message, Weights) and reply.message.rates == ((1, 0, 0.5, 0.0),), "a newcomer is told"


@pytest.mark.parametrize("mode", ["async", "ssp"])
def test_where_gradients_are_applied_alone_each_has_its_own_workers_rate(mode: str) -> None:
    lone = Lone(2, mode=mode, staleness=5)
    lone.push(1, 0, 1.0, rates=said(1, 0, 0.5))
    lone.push(2, 0, 1.0, rates=said(1, 1, 0.25))
    assert lone.value == -0.75
    lone.push(2, 1, 1.0, rates=((1, 0, 0.5, 0.0),))
    assert lone.value == -1.25


def test_with_backup_workers_a_new_rate_counts_one_clock_later_in_every_chunk() -> None:
    lone = Lone(2, backup_workers=1)
    lone.push(1, 0, 1.0, rates=said(1, 0, 0.5))
    assert lone.value == -1.0
    lone.push(1, 1, 1.0, rates=((1, 0, 0.5, 0.0),))
    assert lone.value == -1.5


def test_a_rate_that_came_with_a_skipped_step_counts() -> None:
    lone = Lone(2)
    lone.ask(Skip(lone.number(), 1, 0, 0, True, 0, said(1, 0, 0.5)))
    lone.push(2, 0, 1.0)
    assert lone.value == -0.5


def test_clipped_gradients_have_the_rate_of_their_clock() -> None:
    lone = Lone(2, clip_norm=1000.0)
    lone.push(1, 0, 1.0, pull=False, rates=said(1, 0, 0.5))
    lone.push(2, 0, 1.0, pull=False, rates=said(1, 1, 0.25))
    [*_, reply] = lone.scale(1, 0, 1.0)
    assert lone.value == -0.5
    assert isinstance(reply.message, Weights | Pushed) and reply.message.rates == ((1, 0, 0.5, 0.0),)


def test_the_schedule_multiplies_a_rate_that_was_set() -> None:
    lone = Lone(1, schedule="step:every=1,gamma=0.5")
    lone.push(1, 0, 1.0)
    lone.push(1, 1, 1.0, rates=said(1, 0, 4.0))
    assert lone.value == -3.0

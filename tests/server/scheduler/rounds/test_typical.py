"""Promises of what is typical: a few cannot move it, and it outlives the scheduler."""

from __future__ import annotations

import json

from ps.server.scheduler.rounds.typical import COMPARED, REMEMBERED, Typical


def see(typical: Typical, norm: float, examples: float, steps: int) -> None:
    typical.see(examples, steps)
    typical.measure(norm, examples * norm)


def test_nothing_is_unusual_before_three_were_seen() -> None:
    typical = Typical()
    for number in range(COMPARED):
        assert not typical.known
        see(typical, float(number), 1.0, 1)
    assert typical.known


def test_less_than_half_cannot_move_it_beyond_the_others() -> None:
    typical = Typical()
    for _ in range(51):
        see(typical, 1.0, 10.0, 2)
    for _ in range(49):
        see(typical, 1e30, 1e12, 10**11)
    assert (typical.norm, typical.claim, typical.steps) == (1.0, 10.0, 2)


def test_only_the_last_are_remembered() -> None:
    typical = Typical()
    for number in range(10 * REMEMBERED):
        see(typical, float(number), 1.0, 1)
    assert len(typical.norms) == len(typical.examples) == len(typical.counts) == REMEMBERED
    assert typical.norm > 8 * REMEMBERED


def test_it_outlives_a_restart() -> None:
    typical, again = Typical(), Typical()
    for number in range(5):
        see(typical, number + 0.5, float(number), number)
    again.load(json.loads(json.dumps(typical.dump())))
    assert again.dump() == typical.dump() and again.norm == typical.norm
    assert again.influence == typical.influence
    assert (Typical().norm, Typical().claim, Typical().steps, Typical().influence) == (0.0, 0.0, 0.0, 0.0)


def test_less_than_a_quarter_cannot_move_what_stands_for_a_large_influence() -> None:
    for many, few in ((2, 1), (3, 1), (4, 1), (9, 1), (76, 24)):
        typical = Typical()
        for _ in range(few):
            see(typical, 1e30, 1e12, 1)
        for _ in range(many):
            see(typical, 2.0, 10.0, 1)
        assert typical.influence <= 2 * 20.0, (many, few)

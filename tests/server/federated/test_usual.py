"""Promises of what is usual: a few cannot move it, and it outlives the scheduler."""

from __future__ import annotations

import json

from ps.server.federated.usual import KNOWN, REMEMBERED, Usual


def see(usual: Usual, norm: float, examples: float, steps: int) -> None:
    usual.see(examples, steps)
    usual.measure(norm, examples * norm)


def test_nothing_is_unusual_before_three_were_seen() -> None:
    usual = Usual()
    for number in range(KNOWN):
        assert not usual.known
        see(usual, float(number), 1.0, 1)
    assert usual.known


def test_less_than_half_cannot_move_it_beyond_the_others() -> None:
    usual = Usual()
    for _ in range(51):
        see(usual, 1.0, 10.0, 2)
    for _ in range(49):
        see(usual, 1e30, 1e12, 10**11)
    assert (usual.norm, usual.claim, usual.steps) == (1.0, 10.0, 2)


def test_only_the_last_are_remembered() -> None:
    usual = Usual()
    for number in range(10 * REMEMBERED):
        see(usual, float(number), 1.0, 1)
    assert len(usual.norms) == len(usual.examples) == len(usual.counts) == REMEMBERED
    assert usual.norm > 8 * REMEMBERED


def test_it_outlives_a_restart() -> None:
    usual, again = Usual(), Usual()
    for number in range(5):
        see(usual, number + 0.5, float(number), number)
    again.load(json.loads(json.dumps(usual.dump())))
    assert again.dump() == usual.dump() and again.norm == usual.norm
    assert again.influence == usual.influence
    assert (Usual().norm, Usual().claim, Usual().steps, Usual().influence) == (0.0, 0.0, 0.0, 0.0)


def test_less_than_a_quarter_cannot_move_what_stands_for_a_large_influence() -> None:
    for many, few in ((2, 1), (3, 1), (4, 1), (9, 1), (76, 24)):
        usual = Usual()
        for _ in range(few):
            see(usual, 1e30, 1e12, 1)
        for _ in range(many):
            see(usual, 2.0, 10.0, 1)
        assert usual.influence <= 2 * 20.0, (many, few)

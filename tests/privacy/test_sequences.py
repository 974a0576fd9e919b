"""Promises of sequences: nobody is in two releases that are too close together, or in too many of one sequence."""

from __future__ import annotations

import json

import pytest

from ps.privacy.sequences import Sequences


def test_a_client_is_left_out_until_its_separation_is_over() -> None:
    sequences = Sequences(3, 0)
    sequences.release([1, 2])
    assert not sequences.admits(1) and sequences.admits(3)
    sequences.release([3])
    assert not sequences.admits(1)
    sequences.release([4])
    assert sequences.admits(1) and not sequences.admits(3)


def test_a_client_that_was_in_as_many_as_it_may_is_in_none_more() -> None:
    sequences = Sequences(1, 2)
    sequences.release([1])
    sequences.release([1])
    assert not sequences.admits(1) and sequences.admits(2)


def test_a_release_with_somebody_who_may_not_be_in_it_is_none() -> None:
    sequences = Sequences(2, 0)
    sequences.release([1])
    with pytest.raises(RuntimeError, match="client 1 is in two releases"):
        sequences.release([2, 1])
    assert sequences.lengths == (1,) and sequences.admits(2)


def test_after_the_end_all_may_come_and_what_was_paid_stays() -> None:
    sequences = Sequences(5, 1)
    sequences.end()
    assert sequences.lengths == (0,), "one without releases is none"
    sequences.release([1])
    sequences.end()
    assert sequences.admits(1) and sequences.lengths == (1, 0) and sequences.number == 1


def test_where_noise_is_independent_nobody_is_left_out_and_nothing_ends() -> None:
    sequences = Sequences(0, 0)
    for _ in range(3):
        sequences.release([1])
        sequences.end()
    assert sequences.lengths == (3,) and sequences.admits(1)


def test_all_of_it_outlives_the_process() -> None:
    sequences = Sequences(3, 2)
    for clients in ([1], [2], [3], [1]):
        sequences.release(clients)
    sequences.end()
    sequences.release([2])
    other = Sequences(3, 2)
    other.load(json.loads(json.dumps(sequences.dump())))
    assert other.dump() == sequences.dump() and not other.admits(2) and other.lengths == (4, 1)
    with pytest.raises(ValueError, match="sequences of"):
        other.load({"ended": [0], "rows": 1, "last": []})

"""Algorithm: what the record says where an algorithm says nothing, and that it travels."""

from __future__ import annotations

import dataclasses
import pickle
import re

import numpy as np
import pytest

from ps.algorithms import ALGORITHMS, Algorithm
from ps.optim import OPTIMIZERS


def test_a_record_that_says_nothing_is_fedavg() -> None:
    assert Algorithm() == ALGORITHMS.parse("fedavg").build()
    assert Algorithm().scale(7, 3) == Algorithm().factor([2.0, 5.0], [7, 1]) == 1.0


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_record_is_whole(name: str) -> None:
    algorithm = ALGORITHMS.parse(name).build()
    assert OPTIMIZERS.parse(algorithm.server).build().lr > 0
    assert not algorithm.local or OPTIMIZERS.parse(algorithm.local).build().lr > 0
    assert algorithm.aggregator in ("weighted", "mean")
    assert (algorithm.renew is not None) == algorithm.control
    assert not (algorithm.everyone and algorithm.buffer)
    for steps, staleness in ((0, 0), (1, 0), (10**6, 10**6)):
        assert 0 < algorithm.scale(steps, staleness) <= 1


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_record_can_be_pickled_and_does_the_same(name: str) -> None:
    algorithm = ALGORITHMS.parse(name).build()
    again = pickle.loads(pickle.dumps(algorithm))
    functions = {"correct", "renew", "scale", "factor"}
    for field in {field.name for field in dataclasses.fields(Algorithm)} - functions:
        assert getattr(again, field) == getattr(algorithm, field)
    assert again.scale(3, 8) == algorithm.scale(3, 8)
    assert again.factor([2.0, 1.0], [3, 9]) == algorithm.factor([2.0, 1.0], [3, 9])
    gradients = []
    for record in (algorithm, again):
        gradient, *others = np.random.default_rng(0).standard_normal((5, 6))
        if record.correct:
            record.correct(gradient, *others)
        gradients.append(gradient)
    np.testing.assert_array_equal(*gradients)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_class_names_its_paper_and_when_it_appeared(name: str) -> None:
    assert re.search(r"\b20[12]\d\b", ALGORITHMS[name].__doc__ or "")

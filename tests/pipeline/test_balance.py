"""Promises: the most expensive stage is as cheap as can be, and what was chosen is said."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps.errors import UsageError
from ps.models import mlp, softmax_cross_entropy
from ps.pipeline import Pipeline, Tied
from ps.pipeline.balance import balanced, bytes_of, explained, seconds_of
from ps.pipeline.cut import Cut
from support.pipeline_layers import Linear, Transposed


def dearest(costs: list[float], cut: Cut) -> float:
    return max(sum(costs[place] for place in places) for places in cut.stages)


@given(costs=st.lists(st.integers(0, 9).map(float), min_size=1, max_size=8), stages=st.integers(1, 8))
def test_no_cut_has_a_cheaper_dearest_stage(costs: list[float], stages: int) -> None:
    if stages > len(costs):
        with pytest.raises(UsageError, match=f"{len(costs)} layers can be cut into 1 to {len(costs)} stages"):
            balanced(costs, stages)
        return
    found = balanced(costs, stages)
    assert len(found.stages) == stages
    every = itertools.combinations(range(1, len(costs)), stages - 1)
    assert dearest(costs, found) == min(dearest(costs, Cut(len(costs), starts)) for starts in every)


def test_costs_that_are_no_round_numbers_are_balanced_too() -> None:
    costs = [0.1] * 10 + [0.3, 1e-9]
    assert dearest(costs, balanced(costs, 4)) == pytest.approx(0.4)
    assert balanced([0.0] * 5, 3).starts == (3, 4)


def test_bytes_of_a_shared_tensor_count_once() -> None:
    embed = Linear(6, 4)
    chain = Pipeline([embed, Linear(4, 4), Tied(embed, Transposed(6, 4))], softmax_cross_entropy).chain
    costs = bytes_of(chain, chain.init(0))
    assert costs == [96, 64, 0]
    cut = balanced(costs, 2)
    assert (
        explained(costs, cut, chain, "bytes")
        == "stage 0: layer 0, 96 bytes, 60%\nstage 1: layers 1 to 2, 64 bytes, 40%"
    )


def test_seconds_are_measured_forward_and_backward_by_the_clock_that_is_given() -> None:
    pipe = Pipeline(mlp.stages([6, 3, 3, 4]), softmax_cross_entropy)
    chain, held = pipe.chain, pipe.chain.init(0)
    random = np.random.default_rng(0)
    batch: Any = random.standard_normal((8, 6), np.float32), random.integers(0, 4, 8)
    ticks = itertools.count()
    found = seconds_of(
        chain, pipe.arrays, softmax_cross_entropy, held.__getitem__, chain.split(held), batch, lambda: next(ticks) * 1.0
    )
    assert found == [1.0, 1.0, 1.0]
    assert next(ticks) == 2 * 3 * 3

"""Norm clipping: the factor, where its bound comes from; and the two means beside it, which do not look at norms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps.aggregators.clip import Clip
from ps.aggregators.mean import Mean
from ps.aggregators.weighted import Weighted

NORMS = st.floats(0, 1e30)


@given(NORMS, NORMS)
def test_nothing_is_longer_than_the_bound_and_nothing_shorter_changes(norm: float, typical: float) -> None:
    scale = Clip(norm=10.0).scale(norm, typical)
    assert norm * scale <= 10 * (1 + 1e-12)
    assert (scale == 1) is (norm <= 10)


def test_the_bound_follows_the_typical_norm_unless_one_is_given() -> None:
    assert Clip(times=2.0).scale(30.0, 5.0) == pytest.approx(1 / 3)
    assert Clip(times=2.0).scale(9.0, 5.0) == 1
    assert Clip(norm=3.0, times=2.0).scale(30.0, 5.0) == pytest.approx(0.1)


def test_nothing_is_clipped_before_a_norm_is_known() -> None:
    assert Clip().scale(1e9, 0.0) == 1
    assert Clip().scale(0.0, 0.0) == 1


def test_only_weighted_believes_how_many_examples_there_are() -> None:
    assert [aggregator.weight(600.0) for aggregator in (Mean(), Weighted(), Clip())] == [1, 600, 1]


def test_only_clip_looks_at_norms() -> None:
    assert [aggregator.by_norm for aggregator in (Mean(), Weighted(), Clip())] == [False, False, True]
    assert [aggregator.scale(1e9, 1.0) for aggregator in (Mean(), Weighted(), Clip())] == [1, 1, 1e-9]

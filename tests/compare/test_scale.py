"""Promises of the axes: everything lies on them, marks are round and few."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ps.compare.scale import Scale, along, around, by_error

positive = st.floats(1e-3, 1e12)


@given(st.lists(st.lists(st.one_of(st.just(0.0), positive), max_size=5), max_size=4))
def test_every_value_that_can_be_drawn_lies_on_the_axis(series: list[list[float]]) -> None:
    scale = along(series)
    for value in (value for values in series for value in values if value > 0 or scale.kind != "log"):
        assert -1e-9 <= scale.place(value) <= 1 + 1e-9


@example([5e-324])
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9))
def test_an_axis_around_values_has_them_inside(values: list[float]) -> None:
    scale = around(values)
    assert all(-1e-6 <= scale.place(value) <= 1 + 1e-6 for value in values)


@given(positive, st.floats(1.01, 1e9), st.sampled_from(["linear", "log"]))
def test_marks_are_few_ascending_and_on_the_axis(low: float, factor: float, kind: str) -> None:
    scale = Scale(low, low * factor, kind)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 7
    assert ticks == sorted(set(ticks))
    assert all(-1e-6 <= scale.place(tick) <= 1 + 1e-4 for tick in ticks)


def test_runs_that_end_far_apart_share_a_logarithmic_axis() -> None:
    assert along([[1.0, 10.0], [1.0, 1000.0]]).kind == "log"
    assert along([[1.0, 300.0], [1.0, 1000.0]]).kind == "linear"
    assert along([[0.0, 0.0], [0.0, 10.0]]) == Scale(0.0, 10.0)


def test_marks_are_round() -> None:
    assert Scale(0.0, 1.0).ticks() == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert Scale(1.0, 1000.0, "log").ticks() == [1.0, 10.0, 100.0, 1000.0]


def test_an_accuracy_never_has_an_axis_beyond_one() -> None:
    scale = around([0.7, 0.998], 1.0)
    assert scale.high == 1.0
    assert scale.low == pytest.approx(0.7)
    assert math.isclose(scale.place(1.0), 1.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_every_accuracy_lies_on_an_axis_by_error(values: list[float]) -> None:
    scale = by_error(values)
    assert all(-1e-9 <= scale.place(value) <= 1 + 1e-9 for value in values)
    assert 1 <= len(scale.ticks()) <= 7


def test_an_axis_by_error_gives_room_to_what_is_hard_to_gain() -> None:
    scale = by_error([0.8, 0.99])
    assert scale.ticks() == pytest.approx([0.8, 0.9, 0.95, 0.98, 0.99])
    assert scale.place(0.99) - scale.place(0.98) == pytest.approx(scale.place(0.9) - scale.place(0.8))


def test_a_difference_that_means_nothing_looks_like_nothing() -> None:
    assert around([0.981, 0.984], 1.0, least=0.1) == Scale(pytest.approx(0.9), 1.0)
    assert around([0.2, 0.9], 1.0, least=0.1).low == pytest.approx(0.2)

"""Promises of the combination: for every aggregator and kind of tensor what NumPy makes of the whole vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps.aggregators import AGGREGATORS
from ps.protocol.layout import Layout
from ps.server.shard.combination import BLOCK, Combination, Counted
from support.delta_parts import chunks_of

LAYOUT = Layout.of(
    {"w": np.zeros(BLOCK + 100), "seen": np.zeros(5), "control": np.zeros(4), "count": np.zeros(2, np.int64)},
    {"seen": "buffer", "count": "counter", "control": "control"},
)
CHUNKS = dict(enumerate(LAYOUT.chunks(1, 32 << 20)))
KINDS = {chunk.kind: index for index, chunk in CHUNKS.items()}


def contributions(count: int, seed: int = 0) -> list[Counted]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        parts: dict[int, Any] = {}
        for index, chunk in CHUNKS.items():
            integers = chunk.dtype == "int64"
            values = rng.integers(0, 50, chunk.size) if integers else rng.normal(size=chunk.size)
            parts[index] = values.astype(chunk.dtype)
        made.append(Counted(float(rng.integers(1, 9)), *rng.uniform(0.3, 1.0, 2).tolist(), parts))
    return made


def combined(aggregator: str, mine: list[Counted], kind: str, weights: tuple[float, ...] = ()) -> Any:
    combination = Combination(AGGREGATORS.parse(aggregator).build(), CHUNKS)
    for counted in mine:
        combination.add(counted)
    assert combination.count == len(mine)
    return combination.result(KINDS[kind], weights)


def scaled(mine: list[Counted], kind: str) -> list[Any]:
    """Only what is trained is multiplied with the algorithm's scale; the bound is for all that is measured."""
    return [c.parts[KINDS[kind]] * c.bound * (c.scale if kind == "trainable" else 1.0) for c in mine]


@pytest.mark.parametrize("kind", ["trainable", "buffer"])
@pytest.mark.parametrize("aggregator", ["mean", "weighted", "clip:times=2"])
def test_a_fold_is_the_weighted_mean_of_what_is_scaled(aggregator: str, kind: str) -> None:
    mine = contributions(4)
    wanted = np.average(scaled(mine, kind), axis=0, weights=[c.weight for c in mine])
    np.testing.assert_allclose(combined(aggregator, mine, kind), wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", ["trainable", "buffer"])
def test_a_median_is_taken_element_by_element_over_blocks(kind: str) -> None:
    for count in (1, 4, 5):
        mine = contributions(count)
        wanted = np.median(scaled(mine, kind), axis=0)
        np.testing.assert_allclose(combined("median", mine, kind), wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", ["trainable", "buffer"])
def test_weighed_contributions_are_added_by_the_weights_that_the_rule_made(kind: str) -> None:
    mine, weights = contributions(3), (0.25, 0.0, 0.75)
    wanted = sum(weight * part for weight, part in zip(weights, scaled(mine, kind), strict=True))
    np.testing.assert_allclose(combined("geomedian", mine, kind, weights), wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("aggregator", ["weighted", "median", "geomedian"])
def test_all_counts_are_added_whatever_the_aggregator(aggregator: str) -> None:
    mine = contributions(3)
    wanted = sum(c.parts[KINDS["counter"]] for c in mine)
    np.testing.assert_array_equal(combined(aggregator, mine, "counter", (1.0, 0.0, 0.0)), wanted)


def test_distances_are_those_of_all_that_the_rule_combines() -> None:
    mine = contributions(4)
    combination = Combination(AGGREGATORS.parse("krum:f=0").build(), CHUNKS)
    for counted in mine:
        combination.add(counted)
    whole = [np.concatenate([scaled(mine, kind)[i] for kind in ("trainable", "buffer")]) for i in range(4)]
    wanted = [[np.sum((a - b) ** 2) for b in whole] for a in whole]
    np.testing.assert_allclose(combination.distances(), wanted, rtol=1e-9, atol=1e-9)


def test_nothing_comes_of_no_contributions_and_no_part_is_changed() -> None:
    combination = Combination(AGGREGATORS.parse("weighted").build(), chunks_of())
    assert combination.result(0, ()) is None
    for aggregator in ("weighted", "median", "geomedian"):
        mine, same = contributions(3), contributions(3)
        for kind in KINDS:
            combined(aggregator, mine, kind, (0.2, 0.3, 0.5))
        for a, b in zip(mine, same, strict=True):
            for index in CHUNKS:
                np.testing.assert_array_equal(a.parts[index], b.parts[index])


@pytest.mark.parametrize("aggregator", ["mean", "weighted", "clip:times=2", "median", "krum:0", "geomedian"])
def test_control_variates_are_a_plain_mean_whatever_the_aggregator(aggregator: str) -> None:
    """Else SCAFFOLD's c is not the mean of the clients' own, and drifts away from it round by round."""
    mine = contributions(5)
    combination = Combination(AGGREGATORS.parse(aggregator).build(), CHUNKS)
    for counted in mine:
        combination.add(counted)
    wanted = np.mean([counted.parts[KINDS["control"]] for counted in mine], axis=0)
    np.testing.assert_allclose(combination.result(KINDS["control"], (0, 0, 1, 0, 0)), wanted, rtol=1e-12, atol=1e-14)

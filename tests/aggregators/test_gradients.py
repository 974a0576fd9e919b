"""Promises of the aggregators over workers' gradients of one chunk: NumPy's values, whatever is poisoned in a few."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ps.aggregators import AGGREGATORS
from ps.aggregators.gradients import combination
from support.rounds import honest

ROBUST = ["median", "trimmed:0.3", "krum:f=1", "multikrum:f=1", "geomedian"]


def combined(text: str, parts: list[np.ndarray], block: int = 1 << 20) -> np.ndarray:
    """Return the combination, read in blocks and last block first."""
    read, factor = combination(AGGREGATORS.parse(text).build(), parts, [1.0] * len(parts))
    result, size = np.empty_like(parts[0]), parts[0].size
    for lo in reversed(range(0, size, block)):
        hi = min(lo + block, size)
        result[lo:hi] = read(lo, hi, np.empty(hi - lo, result.dtype)) * result.dtype.type(factor)
    return result


def krum(parts: list[np.ndarray], f: int) -> list[int]:
    """Return the contributions in the order in which Krum likes them, by the paper's definition."""
    scores = []
    for i, x in enumerate(parts):
        others = sorted(float(np.sum((x - y) ** 2)) for j, y in enumerate(parts) if j != i)
        scores.append(sum(others[: len(parts) - f - 2]))
    return list(np.argsort(scores, kind="stable"))


def reference(text: str, parts: list[np.ndarray]) -> np.ndarray:
    """Return the combination as its paper defines it, in float64, of whole vectors."""
    exact = [np.float64(part) for part in parts]
    if text == "median":
        return np.median(exact, axis=0)
    if text == "trimmed:0.3":
        cut = min(int(np.ceil(0.3 * len(exact))), (len(exact) - 1) // 2)
        return np.sort(exact, axis=0)[cut : len(exact) - cut].mean(axis=0)
    if text.startswith("krum"):
        return exact[krum(exact, 1)[0]]
    if text.startswith("multikrum"):
        return np.mean([exact[i] for i in krum(exact, 1)[: len(exact) - 3]], axis=0)
    guess = np.mean(exact, axis=0)
    for _ in range(2000):
        pulls = np.array([1 / max(float(np.linalg.norm(guess - x)), 1e-12) for x in exact])
        guess = pulls @ np.array(exact) / pulls.sum()
    return guess


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("text", ROBUST)
@pytest.mark.parametrize("n", [5, 6, 9])
def test_it_is_what_its_paper_defines(text: str, n: int, dtype: str) -> None:
    parts = honest(n, 200, seed=n, dtype=dtype)
    np.testing.assert_allclose(combined(text, parts), reference(text, parts), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("text", ROBUST)
def test_the_blocks_in_which_it_is_read_do_not_change_a_bit(text: str) -> None:
    parts = honest(7, 1000, dtype="float32")
    assert combined(text, parts, 64).tobytes() == combined(text, parts).tobytes()


@pytest.mark.parametrize("text", ROBUST)
@settings(max_examples=20)
@given(st.integers(0, 10**6), st.permutations(range(7)))
def test_the_order_of_the_workers_does_not_matter(text: str, seed: int, order: list[int]) -> None:
    parts = honest(7, 50, seed)
    np.testing.assert_allclose(combined(text, [parts[i] for i in order]), combined(text, parts), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("poison", [1e6, -1e30, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("at", [0, 2, 4])
@pytest.mark.parametrize("text", ROBUST)
def test_one_poisoned_gradient_of_five_leaves_the_result_among_the_others(text: str, at: int, poison: float) -> None:
    parts = honest(5, 40, dtype="float32")
    parts[at] = np.full(40, poison, np.float32)
    good = np.array([part for i, part in enumerate(parts) if i != at])
    found = combined(text, parts)
    assert np.isfinite(found).all()
    margin = 1e-3 if text == "geomedian" else 0.0  # its pull is bounded, not nothing
    assert (found >= good.min(axis=0) - margin).all() and (found <= good.max(axis=0) + margin).all()
    assert not np.isfinite(combined("mean", parts)).all() or np.abs(combined("mean", parts)).max() > 1e5


def test_each_chunk_is_judged_on_its_own() -> None:
    """Two attackers, each in another chunk: krum:f=1 bears both, and a whole model would have two of five."""
    first, second = honest(5, 30, 1, "float32"), honest(5, 30, 2, "float32")
    first[0][:], second[1][:] = 1e6, -1e6
    for parts, bad in ((first, 0), (second, 1)):
        assert any((combined("krum:f=1", parts) == part).all() for i, part in enumerate(parts) if i != bad)


def test_gradients_are_only_read() -> None:
    for text in [*ROBUST, "mean", "weighted"]:
        parts = honest(6, 30, dtype="float32")
        before = [part.copy() for part in parts]
        combined(text, parts)
        assert all((part == old).all() for part, old in zip(parts, before, strict=True))

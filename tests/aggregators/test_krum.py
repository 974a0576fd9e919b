"""Krum and its mean of several, against the paper's definition over whole vectors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ps.aggregators import distances
from ps.aggregators.krum import Krum
from ps.aggregators.multikrum import MultiKrum
from ps.errors import UsageError
from support.rounds import cut, honest


def paper(vectors: list[np.ndarray], f: int) -> list[float]:
    """Return s(i), the sum over the n - f - 2 vectors closest to vector i, as section 4 of the paper defines it."""
    n = len(vectors)
    return [
        sum(sorted(float(((x - y) ** 2).sum()) for j, y in enumerate(vectors) if j != i)[: n - f - 2])
        for i, x in enumerate(vectors)
    ]


@given(st.integers(0, 3), st.integers(0, 5), st.integers(0, 10**6))
@settings(max_examples=60)
def test_distances_summed_over_chunks_choose_as_the_paper_does_over_whole_vectors(f: int, more: int, seed: int) -> None:
    n = 2 * f + 3 + more
    vectors = honest(n, 20, seed)
    summed = sum(distances(part) for part in cut(vectors, [3, 11]))
    assert np.flatnonzero(Krum(f).weights(summed)).tolist() == [int(np.argmin(paper(vectors, f)))]
    assert Krum(f).weights(summed).sum() == 1
    best = np.argsort(paper(vectors, f), kind="stable")
    for m in range(1, n - f - 1):
        weights = MultiKrum(f, m).weights(summed)
        assert set(np.flatnonzero(weights)) == set(best[:m])
        np.testing.assert_allclose(weights[best[:m]], 1 / m)


def test_multikrum_takes_all_but_f_and_two_unless_it_is_told() -> None:
    found = distances(honest(11, 5))
    assert np.count_nonzero(MultiKrum(2).weights(found)) == 7
    assert np.count_nonzero(MultiKrum(2, 3).weights(found)) == 3


def test_one_of_them_is_krum() -> None:
    found = distances(honest(9, 5))
    assert (MultiKrum(3, 1).weights(found) == Krum(3).weights(found)).all()


def test_of_equal_ones_the_first_is_taken() -> None:
    [vector] = honest(1, 5)
    found = distances([vector] * 6)
    assert Krum(1).weights(found).tolist() == [1, 0, 0, 0, 0, 0]
    assert MultiKrum(1).weights(found).tolist() == [1 / 3, 1 / 3, 1 / 3, 0, 0, 0]


def test_attackers_who_send_the_same_are_not_taken_for_a_crowd() -> None:
    vectors = honest(7, 30) + [np.full(30, 50.0)] * 3
    assert np.argmax(Krum(3).weights(distances(vectors))) < 7
    assert np.flatnonzero(MultiKrum(3).weights(distances(vectors))).max() < 7


def test_those_infinitely_far_off_are_not_chosen() -> None:
    vectors = [np.full(30, 1e200), *honest(4, 30)]
    assert Krum(1).weights(distances(vectors))[0] == 0


def test_the_distances_are_only_read() -> None:
    found = distances(honest(5, 4))
    before = found.copy()
    Krum(1).weights(found)
    MultiKrum(1).weights(found)
    assert (found == before).all()


def test_too_few_are_refused_with_the_numbers() -> None:
    with pytest.raises(UsageError, match="krum:f=2 needs at least 7 contributions, not 6: take more clients"):
        Krum(2).weights(np.zeros((6, 6)))
    with pytest.raises(UsageError, match="multikrum:f=1,m=4 needs at least 7 contributions, not 6"):
        MultiKrum(1, 4).weights(np.zeros((6, 6)))

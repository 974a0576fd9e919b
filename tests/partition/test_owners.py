"""Owners of examples: equal, skewed and topped-up shares add up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps.errors import DataError
from ps.partition.owners import dealt, demand, levelled, shares, skewed, topped_up

seeds = st.integers(0, 1000)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=20), st.data())
def test_levels_sum_up_and_are_as_equal_as_the_caps_allow(caps: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(0, sum(caps)))
    found = levelled(np.array(caps), total)
    assert found.sum() == total and (found <= caps).all() and (found >= 0).all()
    below_cap = [level for level, cap in zip(found, caps, strict=True) if level < cap]
    assert not below_cap or max(found) - min(below_cap) <= 1


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), seeds, st.data())
def test_topping_up_takes_from_the_largest_only(held: list[int], seed: int, data: st.DataObject) -> None:
    owners, clients = np.array(held), 7
    least = data.draw(st.integers(0, len(held) // clients))
    result = topped_up(owners, clients, least, np.random.default_rng(seed))
    before, after = np.bincount(owners, minlength=clients), np.bincount(result, minlength=clients)
    assert after.sum() == len(held) and after.min() >= least
    assert (after[before < least] == least).all()
    assert (result != owners).sum() == np.maximum(least - before, 0).sum(), "no more are moved than are missing"
    gave = before > after
    assert not gave.any() or after[gave].min() >= max(after[~gave], default=0) - 1
    assert held == owners.tolist()


@given(st.integers(1, 200), st.integers(1, 50), seeds)
def test_equal_shares_differ_by_one_at_most(n: int, clients: int, seed: int) -> None:
    sizes = np.bincount(dealt(n, clients, np.random.default_rng(seed)), minlength=clients)
    assert sizes.sum() == n and sizes.max() - sizes.min() <= 1


@given(st.integers(1, 200), st.integers(1, 50), st.floats(1e-300, 1e9), seeds)
def test_skewed_shares_are_of_all_examples_at_any_alpha(n: int, clients: int, alpha: float, seed: int) -> None:
    owners = skewed(n, clients, alpha, np.random.default_rng(seed))
    assert owners.shape == (n,) and owners.min() >= 0 and owners.max() < clients


def test_shares_are_increasing_and_read_only() -> None:
    found = shares(np.array([2, 0, 2, 0, 3]), 5)
    assert [share.tolist() for share in found] == [[1, 3], [], [0, 2], [4], []]
    assert all(share.dtype == np.int64 and not share.flags.writeable for share in found)


def test_too_few_examples_are_named_with_what_would_do() -> None:
    demand(10, 5, 2)
    with pytest.raises(DataError, match="9 examples are too few for 5 clients with 2 examples each: that takes 10"):
        demand(9, 5, 2)
    with pytest.raises(DataError, match="Take at most 4 clients"):
        demand(9, 5, 2)
    with pytest.raises(DataError, match=r"0 examples .* 1 example each.* Take more examples"):
        demand(0, 1)

"""The test examples of one client: mixed as its own examples are, never twice the same, and enough of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps.errors import DataError
from ps.partition import Counterparts, counterpart, partition
from ps.partition.counterpart import LEAST, _counts
from ps.partition.rng import COUNTERPART, generator

RNG = np.random.default_rng(1)
TRAIN, TEST = RNG.integers(10, size=20_000), RNG.integers(10, size=5000)


def mixture(labels: np.ndarray) -> np.ndarray:
    return np.bincount(labels, minlength=10) / len(labels)


@pytest.mark.parametrize("spec", ["iid", "shards:2", "dirichlet:0.3", "labels:3", "quantity:0.5", "features:1"])
@pytest.mark.parametrize("clients", [10, 40])
def test_it_has_the_client_s_mixture_and_its_share_of_the_size(spec: str, clients: int) -> None:
    found = partition(spec, TRAIN, clients)
    for client in range(clients):
        chosen = counterpart(found, TRAIN, TEST, client)
        assert (np.diff(chosen) > 0).all()
        assert len(chosen) <= 5000 / clients
        distance = np.abs(mixture(TEST[chosen]) - mixture(TRAIN[found.share(client)])).max()
        assert distance <= 1.01 / len(chosen)
        if TRAIN[found.share(client)].size > 100 and mixture(TRAIN[found.share(client)]).max() < 0.5:
            assert len(chosen) == 5000 // clients


@pytest.mark.parametrize("kind", ["int64", "uint8", "bool"])
def test_it_is_drawn_label_by_label_from_the_test_examples_in_their_order(kind: str) -> None:
    """The draws are those of the words here, bit for bit, for every client of one object and one asked for alone."""
    train, test = (TRAIN % 2 if kind == "bool" else TRAIN).astype(kind), (TEST % 2 if kind == "bool" else TEST)
    test = test[test != 3].astype("int16")
    found = partition("shards:2", train, 50)
    every = Counterparts(found, train, test)
    for client in range(50):
        rng = generator(0, COUNTERPART, client)
        mine, weights = np.unique(train[found.share(client)], return_counts=True)
        candidates = [np.flatnonzero(test == label) for label in mine]
        counts = _counts(weights, np.array(list(map(len, candidates))), LEAST, round(len(test) / 50))
        drawn = [rng.choice(c, count, replace=False) for c, count in zip(candidates, counts, strict=True)]
        expected = np.sort(np.concatenate(drawn))
        assert np.array_equal(every.of(client), expected) and every.of(client).dtype == np.int64
        assert np.array_equal(counterpart(found, train, test, client), expected)


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=40),
    st.lists(st.integers(0, 4), min_size=1, max_size=60),
    st.integers(1, 8),
    st.integers(0, 50),
)
def test_it_is_as_large_as_it_can_be_up_to_twenty(train: list[int], test: list[int], clients: int, seed: int) -> None:
    clients = min(clients, len(train))
    found = partition("quantity:0.3", np.array(train), clients, seed)
    client = seed % clients
    mine = set(np.array(train)[found.share(client)].tolist())
    room = sum(label in mine for label in test)
    if not room:
        with pytest.raises(DataError, match=f"no test example has a label that client {client} trains on"):
            counterpart(found, np.array(train), np.array(test), client, seed)
        return
    chosen = counterpart(found, np.array(train), np.array(test), client, seed)
    assert len(set(chosen.tolist())) == len(chosen)
    assert {test[i] for i in chosen} <= mine
    assert len(chosen) >= min(LEAST, room)
    assert len(chosen) <= max(min(LEAST, len(test)), round(len(test) / clients))


def test_a_label_that_does_not_suffice_makes_it_smaller_rather_than_mixed_otherwise() -> None:
    train, test = np.repeat([0, 1], [900, 100]), np.repeat([0, 1], [90, 900])
    chosen = counterpart(partition("iid", train, 1), train, test, 0)
    assert np.bincount(test[chosen]).tolist() == [90, 10]


def test_it_is_the_same_again_and_another_for_another_seed() -> None:
    found = partition("iid", TRAIN, 20)
    first = counterpart(found, TRAIN, TEST, 3)
    assert counterpart(found, TRAIN, TEST, 3).tolist() == first.tolist()
    assert counterpart(found, TRAIN, TEST, 3, seed=1).tolist() != first.tolist()
    assert counterpart(found, TRAIN, TEST, 4).tolist() != first.tolist()


def test_without_labels_any_examples_will_do_and_with_own_all_of_them() -> None:
    targets = np.linspace(0, 1, 300)
    chosen = counterpart(partition("iid", targets, 10), targets, targets, 2)
    assert len(set(chosen.tolist())) == 30
    assert counterpart(partition("own", TRAIN, 10), TRAIN, TEST, 2).tolist() == list(range(5000))


def test_labels_must_be_those_that_were_divided_and_of_one_kind() -> None:
    found = partition("iid", TRAIN, 10)
    with pytest.raises(DataError, match="5000 training labels, but 20000 examples"):
        counterpart(found, TEST, TEST, 0)
    with pytest.raises(DataError, match="a counterpart needs labels"):
        counterpart(found, TRAIN, TEST / 2, 0)
    with pytest.raises(DataError, match="client 10 is not in"):
        counterpart(found, TRAIN, TEST, 10)

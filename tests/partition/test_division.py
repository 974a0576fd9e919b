"""Every division: each example once, nobody empty, the same again from the same arguments."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps import xp
from ps.errors import ConfigError, DataError
from ps.partition import PARTITIONERS, Partition, partition

LABELS = np.random.default_rng(3).integers(10, size=6000)

texts = st.sampled_from(
    [
        "iid",
        "shards",
        "shards:1",
        "shards:5",
        "dirichlet:0.01",
        "dirichlet:1,least=3",
        "dirichlet:1e9",
        "quantity:0.05,least=2",
        "quantity:1e6",
        "labels:1",
        "labels:3",
        "features:0.5",
    ]
)


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    labels = draw(st.lists(st.integers(-3, 3), min_size=1, max_size=80))
    return {
        "spec": draw(texts),
        "labels": np.array(labels) * 1000,
        "clients": draw(st.integers(1, 12)),
        "seed": draw(st.integers(0, 2**64)),
    }


@given(problems())
def test_each_example_belongs_to_exactly_one_client_and_nobody_is_empty(problem: dict[str, Any]) -> None:
    numbers = dict(PARTITIONERS.parse(problem["spec"]).numbers)
    n, clients = len(problem["labels"]), problem["clients"]
    each = int(numbers.get("least", numbers.get("count", numbers.get("k", 1))))
    try:
        found = partition(**problem)
    except DataError:
        assert n < each * clients or "k" in numbers, "it was possible"
        return
    assert sorted(np.concatenate(found.shares).tolist()) == list(range(n))
    assert found.sizes.min() >= numbers.get("least", 1)
    assert all((np.diff(share) > 0).all() for share in found.shares)
    assert len(found.shares) == found.clients == clients and found.examples == n


@given(problems())
def test_the_same_arguments_give_the_same_division_whatever_else_is_random(problem: dict[str, Any]) -> None:
    def divided() -> list[list[int]] | str:
        try:
            return [share.tolist() for share in partition(**problem).shares]
        except DataError as error:
            return str(error)

    np.random.seed(1)
    first = divided()
    np.random.seed(2)
    assert divided() == first


@pytest.mark.parametrize("name", sorted(set(PARTITIONERS) - {"own"}))
def test_another_seed_gives_another_division(name: str) -> None:
    first, second = (partition(name, LABELS, 10, seed) for seed in (0, 1))
    assert any(a.tolist() != b.tolist() for a, b in zip(first.shares, second.shares, strict=True))


def test_own_leaves_everything_to_everybody() -> None:
    found = partition("own", np.zeros((5, 2)), 100)
    assert found.clients == 100
    assert all(share.tolist() == [0, 1, 2, 3, 4] for share in found.shares)
    assert not found.share(99).flags.writeable


def test_a_histogram_counts_each_client_s_labels() -> None:
    labels = np.array([7, -1, 7, 3, 3, 3])
    found = partition("iid", labels, 2, seed=5)
    counts = found.histogram(labels)
    assert counts.shape == (2, 3) and counts.sum(axis=0).tolist() == [1, 3, 2]
    for client in range(2):
        mine = labels[found.share(client)]
        assert counts[client].tolist() == [(mine == label).sum() for label in (-1, 3, 7)]
    with pytest.raises(DataError, match="5 labels, but 6 examples"):
        found.histogram(labels[:5])
    with pytest.raises(DataError, match="a histogram needs labels"):
        found.histogram(labels / 2)


@pytest.mark.parametrize("data", [np.zeros((40, 3), np.float32), np.zeros((40, 3), np.uint8), np.linspace(0, 1, 40)])
def test_data_without_labels_can_be_divided_by_number_but_not_by_label(data: np.ndarray) -> None:
    for spec in ("iid", "quantity:1", "features:1", "own"):
        assert partition(spec, data, 4).examples == 40
    for spec in ("shards:2", "dirichlet:1", "labels:1"):
        with pytest.raises(DataError, match=r"needs labels, whole numbers .* there are iid, quantity and features"):
            partition(spec, data, 4)


def test_labels_on_a_device_are_fetched_and_examples_are_not(strict_device: xp.Device) -> None:
    on_device = strict_device.array(LABELS)
    assert partition("shards", on_device, 5).share(1).tolist() == partition("shards", LABELS, 5).share(1).tolist()
    assert partition("iid", strict_device.array(np.zeros((6, 2))), 3).sizes.tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("spec", "clients", "seed", "message"),
    [
        ("iid", 6001, 0, "6000 examples are too few for 6001 clients with 1 example each"),
        ("features", 6001, 0, "too few for 6001 clients"),
        ("shards:2", 3001, 0, "6000 examples are too few for 3001 clients with 2 shards each: that takes 6002"),
        ("dirichlet:1,least=61", 100, 0, "too few for 100 clients with 61 examples each.*Take at most 98 clients"),
        ("quantity:1,least=61", 100, 0, "too few for 100 clients with 61 examples each"),
        ("labels:11", 100, 0, "11 labels for each client, but there are 10. Take labels:10"),
        ("labels:2", 4, 0, "4 clients with 2 of 10 labels each .* Take 5 clients, or labels:3"),
        ("iid", 0, 0, "0 clients"),
        ("iid", 1, -1, "seed -1"),
    ],
)
def test_what_cannot_be_met_is_named_with_numbers(spec: str, clients: int, seed: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        partition(spec, LABELS, clients, seed)


def test_labels_are_an_array_and_a_wrong_text_is_the_text_s_fault() -> None:
    with pytest.raises(DataError, match="one number"):
        partition("iid", np.array(3), 1)
    with pytest.raises(ConfigError, match="unknown partition"):
        partition("even", LABELS, 1)


def test_there_is_no_share_of_a_client_that_there_is_not() -> None:
    found = partition("iid", LABELS, 3)
    for client in (-1, 3):
        with pytest.raises(DataError, match=rf"client {client} is not in 0\.\.2"):
            found.share(client)
    assert repr(found) == "Partition(iid, 6000 examples over 3 clients, seed=0)"


@pytest.mark.parametrize("spec", ["iid", "shards:2", "dirichlet:0.1", "quantity:0.5", "labels:3", "features:0.1"])
def test_ten_thousand_clients_take_no_time(spec: str) -> None:
    labels = np.random.default_rng(0).integers(10, size=60_000)
    begun = time.process_time()
    found: Partition = partition(spec, labels, 10_000)
    assert time.process_time() - begun < 2
    assert len(found.shares) == 10_000

"""What each way to divide is for: how many labels, how unequal, how noisy, at both ends of its number."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ps.errors import DataError
from ps.partition import Features, Partition, partition

LABELS = np.repeat(np.arange(10), 6000)
"""Of the size of MNIST, sorted: an order that a division must not depend on."""

BESIDE = Path(__file__).parents[2].parent / "shared" / "data" / "mnist"


def held(found: Partition, labels: np.ndarray = LABELS) -> np.ndarray:
    return (found.histogram(labels) > 0).sum(axis=1)


def skew(found: Partition, labels: np.ndarray = LABELS) -> float:
    counts = found.histogram(labels)
    return float(
        (np.abs(counts / counts.sum(axis=1, keepdims=True) - counts.sum(axis=0) / len(labels)).sum(1) / 2).mean()
    )


def test_iid_gives_everybody_nearly_the_whole_mixture() -> None:
    found = partition("iid", LABELS, 100)
    assert set(found.sizes.tolist()) == {600} and held(found).tolist() == [10] * 100
    assert skew(found) < 0.08


def test_two_shards_give_at_most_two_labels() -> None:
    found = partition("shards:2", LABELS, 100)
    assert set(found.sizes.tolist()) == {600}
    assert set(held(found).tolist()) <= {1, 2}, "shards of 300 divide labels of 6000 without a rest"
    counts = found.histogram(LABELS)
    assert set(counts.ravel().tolist()) == {0, 300, 600}


def test_on_mnist_two_shards_of_300_give_two_labels_to_nearly_all() -> None:
    place = Path(os.environ.get("PS_DATA") or BESIDE)
    if not place.exists():
        pytest.skip("MNIST is not here: set PS_DATA to its folder")
    from ps.data import mnist

    labels = mnist(place)[0].y
    found = partition("shards:2", labels, 100)
    assert set(found.sizes.tolist()) == {600}
    assert (held(found, labels) <= 2).mean() > 0.85 and held(found, labels).max() <= 4


def test_a_small_alpha_leaves_each_label_to_few_and_a_large_one_is_near_iid() -> None:
    skews = [skew(partition(f"dirichlet:{alpha}", LABELS, 50)) for alpha in (0.01, 0.1, 1, 10, 1e6)]
    assert skews == sorted(skews, reverse=True)
    assert skews[0] > 0.8 and skews[-1] < 0.01
    sizes = partition("dirichlet:1e6", LABELS, 50).sizes
    assert sizes.max() - sizes.min() < 30
    assert np.ptp(partition("dirichlet:0.1", LABELS, 50).sizes) > 1000


def test_a_small_alpha_still_leaves_everybody_the_least() -> None:
    for seed in range(5):
        found = partition("dirichlet:0.01,least=20", LABELS, 500, seed)
        assert found.sizes.min() >= 20


def test_quantities_differ_and_mixtures_do_not() -> None:
    found = partition("quantity:0.5,least=300", LABELS, 50)
    assert found.sizes.min() >= 300 and found.sizes.max() > 3000
    assert skew(found) < 0.1
    equal = partition("quantity:1e9", LABELS, 50).sizes
    assert equal.max() - equal.min() <= 2


@pytest.mark.parametrize("k", [1, 2, 5, 9, 10])
def test_every_client_has_exactly_k_labels_and_a_like_share_of_each(k: int) -> None:
    found = partition(f"labels:{k}", LABELS, 100)
    assert held(found).tolist() == [k] * 100
    counts = found.histogram(LABELS)
    of_holders = counts[counts > 0]
    assert of_holders.max() - of_holders.min() <= 1


def test_which_labels_go_together_is_left_to_chance() -> None:
    pairs = partition("labels:2", LABELS, 1000).histogram(LABELS) > 0
    times = pairs.T.astype(int) @ pairs.astype(int)
    of_pairs = times[np.triu_indices(10, 1)]
    assert of_pairs.sum() == 1000
    assert of_pairs.min() > 8 and of_pairs.max() < 42, "22 of each, by Poisson's law"


def test_a_rare_label_goes_to_no_more_clients_than_it_has_examples() -> None:
    labels = np.repeat([0, 1, 2], [500, 500, 3])
    found = partition("labels:2", labels, 20)
    assert held(found, labels).tolist() == [2] * 20
    assert (found.histogram(labels)[:, 2] > 0).sum() <= 3
    with pytest.raises(DataError, match=r"20 clients with 3 labels each.* places for 43 of these 60"):
        partition("labels:3", labels, 20)


def test_features_grow_noisier_from_client_to_client() -> None:
    x = np.zeros((1000, 30), np.float32)
    partitioner = Features(sigma=0.8)
    noises = [partitioner.distort(x, client, 4, seed=0, purpose=2) for client in range(4)]
    assert noises[0] is x, "the first one sees the examples as they are"
    assert [round(float(noise.std()), 2) for noise in noises] == [0, 0.2, 0.4, 0.6]
    assert all(noise.dtype == np.float32 for noise in noises) and not x.any()
    again = partitioner.distort(x, 2, 4, seed=0, purpose=2)
    assert again.tobytes() == noises[2].tobytes()
    for other in ({"seed": 1, "purpose": 2}, {"seed": 0, "purpose": 3}):
        assert abs(np.corrcoef(partitioner.distort(x, 2, 4, **other).ravel(), again.ravel())[0, 1]) < 0.05
    assert abs(np.corrcoef(noises[1].ravel(), noises[2].ravel())[0, 1]) < 0.05


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_distorted_features_keep_their_dtype(kind: str) -> None:
    assert Features(1.0).distort(np.ones((3, 2), kind), 1, 2, 0, 2).dtype == kind
    with pytest.raises(DataError, match="these are uint8"):
        Features(1.0).distort(np.ones((3, 2), np.uint8), 0, 2, 0, 2)


def test_balance_is_that_of_niid_bench() -> None:
    """Whoever has the mean number of examples gets none of the labels that follow."""
    labels, spread = np.random.default_rng(0).integers(0, 10, 6000), {0: 0.0, 1: 0.0}
    for seed in range(20):
        for balance in spread:
            sizes = partition(f"dirichlet:0.1,balance={balance},least=10", labels, 10, seed).sizes
            assert sizes.sum() == 6000 and sizes.min() >= 10
            assert not balance or sizes.max() < 600 + np.bincount(labels).max()
            spread[balance] += float(sizes.std()) / 600 / 20
    assert spread[1] < 0.8 * spread[0]

"""Promises of simulations under masks: the clients' real conversations and masks, and sums right to the rounding."""

from __future__ import annotations

import numpy as np
import pytest

from ps.simulate.examples import load
from ps.simulate.simulation import Outcome, Scenario, simulate


def played(secure: str, **more: object) -> Outcome:
    data = dict(load("synthetic", None, 0, 400, 8))
    job = {"mode": "federated", "workers": 8, "clients_per_round": 6, "rounds": 3, "secure": secure, **more}
    return simulate(Scenario(job, data, "mlp", (8,), 10, processes=1))


def test_under_masks_the_weights_are_those_without_to_the_rounding() -> None:
    plain, masked = played("none", aggregator="mean"), played("pairwise:clip=1,ring=32")
    assert [row["clients"] for row in plain.history] == [row["clients"] for row in masked.history]
    assert np.abs(plain.weights.view(np.float32) - masked.weights.view(np.float32)).max() < 1e-4
    assert not np.array_equal(plain.weights, masked.weights)


@pytest.mark.parametrize("secure", ["pairwise:clip=1,ring=32", "pairwise:clip=1,ring=32,rotate=1"])
def test_with_hardly_any_noise_of_clients_the_weights_are_those_without(secure: str) -> None:
    plain = played("none", aggregator="mean")
    noisy = played(secure, dp="skellam:noise=0.001,delta=1e-5,clip=2")
    assert 1e-5 < np.abs(plain.weights.view(np.float32) - noisy.weights.view(np.float32)).max() < 0.01


@pytest.mark.parametrize("secure", ["pairwise:clip=1", "pairwise:clip=1,rotate=1"])
def test_two_bytes_an_element_train_as_well(secure: str) -> None:
    masked, plain = played(secure), played("none", aggregator="mean")
    assert np.abs(plain.weights.view(np.float32) - masked.weights.view(np.float32)).max() < 0.01

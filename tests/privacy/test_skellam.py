"""Promises of Skellam noise: its numbers have that distribution, sums of them too, and what they cost is no less than
what its density says."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest

from ps.errors import ConfigError
from ps.privacy import noise_for
from ps.privacy.noise import new_key
from ps.privacy.skellam import ORDERS, SkellamReleases, draw_skellam, rounded_norm
from support.chances import chi_square

SIZE = 200_000


def density(variance: float, reach: int) -> list[float]:
    """Return the chances of -reach to reach: the convolution of two Poisson distributions."""
    rate = variance / 2
    terms = 4 * reach + 100
    poisson = np.exp([k * math.log(rate) - rate - math.lgamma(k + 1) for k in range(terms)])
    return [
        float(poisson[max(k, 0) :][: terms - abs(k)] @ poisson[max(-k, 0) :][: terms - abs(k)])
        for k in range(-reach, reach + 1)
    ]


@pytest.mark.parametrize(("variance", "clients"), [(0.3, 1), (0.3, 5), (4.0, 1), (2.0, 3), (30.0, 4)])
def test_a_sum_of_shares_has_the_distribution_of_all_of_them_together(variance: float, clients: int) -> None:
    total = sum(draw_skellam(new_key(), 7, SIZE, variance) for _ in range(clients))
    reach = math.ceil(3 * math.sqrt(variance * clients))
    wanted = density(variance * clients, reach)
    counts = [int(np.count_nonzero(total == k)) for k in range(-reach, reach + 1)]
    rest = 1 - sum(wanted)
    assert chi_square([*counts, SIZE - sum(counts)], [SIZE * each for each in (*wanted, rest)]) > 1e-6


def test_no_two_keys_streams_or_blocks_give_the_same_noise() -> None:
    key = os.urandom(32)
    first = draw_skellam(key, 0, 200_000, 50.0)
    assert np.array_equal(first, draw_skellam(key, 0, 200_000, 50.0))
    for other in (draw_skellam(key, 1, 200_000, 50.0), draw_skellam(new_key(), 0, 200_000, 50.0)):
        assert np.mean(first == other) < 0.06
    assert np.mean(first[:65536] == first[65536 : 2 * 65536]) < 0.06


@pytest.mark.parametrize(("sensitivity", "variance"), [(1, 2.0), (3, 10.0), (10, 400.0)])
def test_what_it_costs_is_at_least_what_the_densities_say(sensitivity: int, variance: float) -> None:
    reach = math.ceil(12 * math.sqrt(variance)) + 5 * sensitivity + 10
    base = np.array(density(variance, reach))
    seen = np.minimum(base[: -sensitivity or None], base[sensitivity:]) > 1e-300
    moved, plain = np.log(base[:-sensitivity][seen]), np.log(base[sensitivity:][seen])
    cost = SkellamReleases(float(sensitivity) - 0.5, 1)  # rounded in one dimension it is at most one more
    assert cost.norm >= sensitivity
    told = dict(zip(ORDERS, cost.divergences(math.sqrt(variance) / cost.norm), strict=True))
    for order in (2, 3, 8, 16):
        exact = math.log(float(np.sum(np.exp(order * moved - (order - 1) * plain)))) / (order - 1)
        assert 0.1 * told[order] < exact <= told[order]


@pytest.mark.parametrize(("eps", "rounds"), [(8, 100), (1, 10), (0.2, 1), (30, 1000)])
def test_the_solvers_noise_costs_at_most_what_was_asked_and_about_as_much_as_gaussian_noise(
    eps: float, rounds: int
) -> None:
    cost = SkellamReleases(30_000.0, 1_000_000)
    noise = cost.noise_for(eps, 1e-5, rounds)
    assert cost.epsilon(noise, (rounds,), 1e-5) <= eps < cost.epsilon(noise * 0.999, (rounds,), 1e-5)
    assert noise_for(eps, 1e-5, rounds) < noise < 1.15 * noise_for(eps, 1e-5, rounds)


def test_a_coarse_grid_costs_more() -> None:
    fine, coarse = SkellamReleases(30_000.0, 10_000), SkellamReleases(2.0, 10_000)
    assert coarse.norm > 20 and coarse.epsilon(1.0, (1,), 1e-5) > fine.epsilon(1.0, (1,), 1e-5)


def test_rounding_by_chance_holds_every_third_time_at_least() -> None:
    rng = np.random.default_rng(0)
    for size, clip in ((1000, 3.0), (1000, 300.0), (10, 1.0)):
        vector = rng.normal(0, 1, size)
        vector *= clip / np.linalg.norm(vector)
        norms = [np.linalg.norm(np.floor(vector + rng.random(size))) for _ in range(300)]
        assert np.mean(np.array(norms) <= rounded_norm(clip, size)) > 1 / 3


def test_nothing_released_costs_nothing_no_noise_everything_and_too_much_is_refused() -> None:
    cost = SkellamReleases(100.0, 10)
    assert cost.epsilon(1.0, (0,), 1e-5) == 0 and cost.epsilon(0.0, (1,), 1e-5) == math.inf
    with pytest.raises(ConfigError, match="too much noise"):
        cost.noise_for(1e-7, 1e-9, 10**9)

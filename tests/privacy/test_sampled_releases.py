"""Promises of the account of sampled rounds: it agrees with integrated densities, and is never less."""

from __future__ import annotations

import math

import pytest

from ps.errors import ConfigError
from ps.privacy import epsilon_of
from ps.privacy.sampled_releases import SampledReleases
from support.gaussian_privacy import epsilon_by_integration


@pytest.mark.parametrize(
    ("chance", "noise", "releases"), [(0.1, 1.5, 200), (0.01, 0.8, 1000), (0.5, 4.0, 100), (0.05, 0.9, 10)]
)
def test_what_sampling_saves_is_what_integrating_the_densities_gives(
    chance: float, noise: float, releases: int
) -> None:
    ours = SampledReleases(chance).epsilon(noise, (releases,), 1e-5)
    assert ours == pytest.approx(epsilon_by_integration(noise, releases, 1e-5, q=chance), rel=2e-3)
    assert ours < epsilon_of(noise, releases, 1e-5)


def test_without_sampling_it_costs_what_it_costs() -> None:
    assert SampledReleases(1.0).epsilon(5.0, (30,), 1e-5) == pytest.approx(epsilon_of(5.0, 30, 1e-5), rel=1e-3)


@pytest.mark.parametrize(("eps", "chance", "rounds"), [(8, 0.05, 400), (1, 0.1, 50), (0.5, 0.5, 3), (2, 0.002, 5000)])
def test_the_solvers_noise_costs_at_most_what_was_asked_and_hardly_less(eps: float, chance: float, rounds: int) -> None:
    releases = SampledReleases(chance)
    noise = releases.noise_for(eps, 1e-5, rounds)
    assert epsilon_by_integration(noise, rounds, 1e-5, q=chance) <= eps * 1.002
    assert releases.epsilon(noise, (rounds,), 1e-5) <= eps < releases.epsilon(noise * 0.999, (rounds,), 1e-5)


def test_nothing_released_costs_nothing_and_hardly_any_noise_everything() -> None:
    assert SampledReleases(0.1).epsilon(1.0, (0,), 1e-5) == 0
    assert SampledReleases(0.1).epsilon(0.01, (1,), 1e-5) == math.inf


def test_noise_that_cannot_be_accounted_for_is_refused() -> None:
    with pytest.raises(ConfigError, match="no noise multiplier"):
        SampledReleases(0.5).noise_for(1000, 1e-5, 1)

"""Promises of the accountant: what a budget is asked for is never exceeded, by arithmetic that is not its own."""

from __future__ import annotations

import math

import pytest

from ps.errors import ConfigError
from ps.privacy import affordable, epsilon_of, noise_for
from support.gaussian_privacy import delta_of, epsilon_by_integration, settings

SETTINGS = 200
"""Of the 1,000 that ``scripts/bench/privacy.py`` looks at."""


@pytest.mark.parametrize("seed", range(4))
def test_the_solvers_noise_costs_at_most_what_was_asked_and_hardly_less(seed: int) -> None:
    for eps, delta, rounds in settings(SETTINGS // 4, seed):
        noise = noise_for(eps, delta, rounds)
        assert delta_of(eps, math.sqrt(rounds) / noise) <= delta, (eps, delta, rounds)
        assert delta_of(eps * 0.999, math.sqrt(rounds) / noise) > delta * 0.98, (eps, delta, rounds)


def test_what_is_said_to_be_spent_is_what_integrating_the_densities_gives() -> None:
    for noise, releases, delta in [(1.0, 1, 1e-5), (6.0, 100, 1e-5), (2.0, 30, 1e-9)]:
        ours = epsilon_by_integration(noise, releases, delta, q=1.0)
        assert epsilon_of(noise, releases, delta) == pytest.approx(ours, rel=2e-3)


def test_nothing_released_costs_nothing_and_no_noise_everything() -> None:
    assert epsilon_of(1.0, 0, 1e-5) == 0
    assert epsilon_of(0.0, 1, 1e-5) == math.inf


def test_as_much_is_affordable_as_does_not_exceed_the_budget() -> None:
    most = affordable(lambda releases: epsilon_of(9.0, releases, 1e-5), 1.5)
    assert most > 5
    assert epsilon_of(9.0, most, 1e-5) <= 1.5 < epsilon_of(9.0, most + 1, 1e-5)


def test_noise_beyond_all_measure_is_refused() -> None:
    with pytest.raises(ConfigError, match="too much"):
        noise_for(1e-6, 1e-9, 10**9)

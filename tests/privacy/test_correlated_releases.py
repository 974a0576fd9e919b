"""Promises of correlated noise: its sensitivity is that of the worst participation there can be, found by trying them
all, the solver's noise costs what was asked, and what cancels really does."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator

import numpy as np
import pytest

from ps.errors import ConfigError
from ps.privacy import noise_for
from ps.privacy.correlated_noise import CorrelatedNoise
from ps.privacy.correlated_releases import MOST_ROWS, CorrelatedReleases, costs, noise_bands
from support.chances import chi_square_of_normal
from support.gaussian_privacy import delta_of


def strategy(rows: int, bands: int) -> np.ndarray:
    """Return the matrix C of which the noise is multiplied with the inverse, without recursions."""
    inverse = np.zeros((rows, rows))
    for offset, band in enumerate(noise_bands(bands)[:rows]):
        inverse += band * np.eye(rows, k=-offset)
    return np.linalg.inv(inverse)


def participations(rows: int, separation: int, most: int) -> Iterator[tuple[int, ...]]:
    """Yield every set of releases that a client may be in."""
    for count in range(1, most + 1):
        for found in itertools.combinations(range(rows), count):
            if all(b - a >= separation for a, b in itertools.pairwise(found)):
                yield found


@pytest.mark.parametrize(("rows", "bands"), [(1, 4), (7, 1), (9, 2), (10, 4), (12, 12), (8, 64)])
@pytest.mark.parametrize("separation", [1, 2, 3, 5])
@pytest.mark.parametrize("most", [1, 2, 9])
def test_no_participation_moves_more_than_is_accounted_for(rows: int, bands: int, separation: int, most: int) -> None:
    factor = strategy(rows, bands)
    worst = max(
        float(np.sum(factor[:, list(found)].sum(axis=1) ** 2)) for found in participations(rows, separation, most)
    )
    assert costs(rows, bands, separation, most)[-1] == pytest.approx(worst, rel=1e-9)


def test_a_clients_deltas_move_no_more_whatever_their_directions() -> None:
    rng = np.random.default_rng(0)
    factor = strategy(12, 5)
    for found in participations(12, 3, 4):
        deltas = np.zeros((12, 6))
        for row in found:
            vector = rng.normal(size=6)
            deltas[row] = vector / np.linalg.norm(vector)
        assert np.sum((factor @ deltas) ** 2) <= costs(12, 5, 3, 4)[-1] * (1 + 1e-9)


@pytest.mark.parametrize("bands", [1, 2, 3, 8, 64])
def test_columns_are_positive_and_fall_which_the_closed_form_rests_on(bands: int) -> None:
    column = strategy(400, bands)[:, 0]
    assert (column >= 0).all() and (np.diff(column) <= 1e-12).all()


def test_the_cost_of_the_first_releases_is_that_of_a_shorter_sequence() -> None:
    whole = costs(60, 6, 7, 5)
    for rows in (1, 6, 8, 30, 59):
        assert whole[rows - 1] == pytest.approx(costs(rows, 6, 7, 5)[-1])


def test_the_solvers_noise_costs_at_most_what_was_asked_and_hardly_less() -> None:
    chance = random.Random(0)
    for _ in range(60):
        eps, delta = math.exp(chance.uniform(-3, 3)), 10 ** -chance.uniform(3, 9)
        rows, bands, separation = chance.randrange(1, 200), chance.randrange(1, 20), chance.randrange(1, 40)
        noise = CorrelatedReleases(bands, separation, 0).noise_for(eps, delta, rows)
        factor = strategy(rows, bands)
        moved = float(np.linalg.norm(factor[:, ::separation].sum(axis=1)))
        assert delta * 0.97 < delta_of(eps, moved / noise) <= delta, (rows, bands, separation)


def test_who_is_in_one_release_of_many_costs_far_less_than_who_is_in_all() -> None:
    assert CorrelatedReleases(1, 10, 0).noise_for(8, 1e-5, 100) < noise_for(8, 1e-5, 100) / 3


def test_sequences_are_paid_for_each_by_itself() -> None:
    releases = CorrelatedReleases(4, 10, 0)
    assert releases.epsilon(5.0, (30, 30), 1e-5) > releases.epsilon(5.0, (30,), 1e-5)
    assert releases.cost(30) * 2 == pytest.approx((5.0 / noise_for_cost(releases, (30, 30))) ** 2)
    assert releases.epsilon(5.0, (), 1e-5) == 0 and releases.epsilon(0.0, (1,), 1e-5) == math.inf


def noise_for_cost(releases: CorrelatedReleases, lengths: tuple[int, ...]) -> float:
    return 5.0 / math.sqrt(sum(releases.cost(rows) for rows in lengths))


def test_too_long_a_sequence_and_too_much_noise_are_refused() -> None:
    with pytest.raises(ConfigError, match="100,000 are the most"):
        CorrelatedReleases(4, 10, 0).cost(MOST_ROWS + 1)
    with pytest.raises(ConfigError, match="noise multiplier"):
        CorrelatedReleases(1, 1, 0).noise_for(1e-4, 1e-12, 90_000)


# The noise itself


def noises(bands: int, rows: int, size: int = 20_000) -> np.ndarray:
    source = CorrelatedNoise(noise_bands(bands))
    found = []
    for row in range(rows):
        source.begin(0, row)
        found.append(source.draw(3, size, 2.0))
    return np.array(found)


def test_undone_by_the_factor_the_noise_is_independent_and_gaussian() -> None:
    plain = strategy(12, 5) @ noises(5, 12) / 2.0
    assert chi_square_of_normal(plain.ravel(), 500) > 1e-6
    covariance = plain @ plain.T / plain.shape[1]
    assert np.abs(covariance - np.eye(12)).max() < 6 / math.sqrt(plain.shape[1])


def test_the_sum_over_rounds_has_less_noise_than_independent_noise_of_the_same_kind() -> None:
    alone, together = (np.cumsum(noises(bands, 40), axis=0)[-1].std() for bands in (1, 16))
    assert together < alone / 2


def test_only_the_keys_of_the_last_rows_are_kept_and_each_is_new() -> None:
    given: list[bytes] = []

    def entropy(size: int) -> bytes:
        given.append(bytes([len(given)]) * size)
        return given[-1]

    source = CorrelatedNoise(noise_bands(3), entropy)
    for row in range(6):
        source.begin(0, row)
    assert len(given) == 6 and source._keys == given[:2:-1]


def test_a_row_has_its_noise_once_and_whoever_lost_keys_does_not_go_on() -> None:
    source = CorrelatedNoise(noise_bands(3))
    assert "are not here" in source.refusal(0, 1)
    source.begin(0, 0)
    source.begin(0, 1)
    for wrong in ((0, 1), (0, 0), (0, 3), (1, 1), (1, 2)):
        assert "are not here" in source.refusal(*wrong)
        with pytest.raises(RuntimeError):
            source.begin(*wrong)
    source.begin(2, 0)
    assert len(source._keys) == 1 and not source.refusal(2, 1)

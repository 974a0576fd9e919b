"""A client's view of data: its share, of whatever form the data has, on the side where it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps import xp
from ps.data import Dataset, batches, counterpart, labels_of, partition, view
from ps.errors import DataError
from ps.testing import StrictArray

X, Y = np.arange(120, dtype=np.float32).reshape(60, 2), np.arange(60) % 3
DIVISION = partition("shards:2", Y, 6)


def test_the_form_of_the_data_stays_and_the_arrays_belong_together() -> None:
    share = DIVISION.share(4)
    for data, form in ((Dataset(X, Y), Dataset), ((X, Y), tuple), ([X, Y], tuple)):
        mine = view(data, DIVISION, 4)
        assert isinstance(mine, form)
        x, y = mine
        np.testing.assert_array_equal(x, X[share])
        np.testing.assert_array_equal(y, Y[share])
    np.testing.assert_array_equal(view(X, DIVISION, 4), X[share])
    assert len(view((X, Y, Y), DIVISION, 4)) == 3


def test_views_are_what_batches_take() -> None:
    seen = np.concatenate([x[:, 0] for x, _ in batches(view(Dataset(X, Y), DIVISION, 2), 3)])
    assert sorted(seen.tolist()) == X[DIVISION.share(2), 0].tolist()


def test_views_are_copies_and_own_is_the_data_itself() -> None:
    mine = view(Dataset(X, Y), DIVISION, 0)
    mine.x[:] = -1
    assert X.min() == 0
    data = Dataset(X, Y)
    assert view(data, partition("own", Y, 6), 5) is data


@pytest.mark.parametrize("form", [lambda x, y: Dataset(x, y), lambda x, y: (x, y), lambda x, y: x])
def test_features_are_distorted_the_same_way_each_time_and_labels_never(form: Any) -> None:
    division = partition("features:0.5", Y, 6, seed=3)

    def noise(client: int) -> np.ndarray:
        mine = view(form(X, Y), division, client)
        if isinstance(mine, Dataset | tuple):
            np.testing.assert_array_equal(list(mine)[1], Y[division.share(client)])
            mine = next(iter(mine))
        return mine - X[division.share(client)]

    assert not noise(0).any()
    assert 0 < np.abs(noise(5)).max() < 3
    assert noise(5).tobytes() == noise(5).tobytes() != noise(4).tobytes()


def test_test_examples_are_seen_as_the_client_sees_its_own_with_other_noise() -> None:
    division = partition("features:0.5", Y, 6)
    test = Dataset(np.zeros((600, 2), np.float32), np.arange(600) % 3)
    chosen = counterpart(division, Y, test.y, 3)
    seen = view(test, division, 3, chosen)
    assert len(seen) == len(chosen) == 100
    assert 0.2 < seen.x.std() < 0.3
    np.testing.assert_array_equal(seen.y, test.y[chosen])
    train = view(Dataset(np.zeros_like(X), Y), division, 3)
    assert not np.isin(train.x, seen.x).any()
    np.testing.assert_array_equal(view(test, DIVISION, 3, chosen).x, 0)


def test_device_arrays_are_indexed_on_the_device(strict_device: xp.Device) -> None:
    mine = view(Dataset(strict_device.array(X), Y), DIVISION, 1)
    assert isinstance(mine.x, StrictArray)
    np.testing.assert_array_equal(xp.to_host(mine.x), X[DIVISION.share(1)])


def test_a_device_sees_the_same_distortion_bit_for_bit(strict_device: xp.Device) -> None:
    division = partition("features:0.5", Y, 6)
    there = view(strict_device.array(X), division, 4)
    assert isinstance(there, StrictArray)
    assert xp.to_host(there).tobytes() == view(X, division, 4).tobytes()


def test_what_was_not_divided_is_refused() -> None:
    with pytest.raises(DataError, match="59 examples, but the partition divides 60"):
        view(X[1:], DIVISION, 0)
    with pytest.raises(DataError, match=r"client 6 is not in 0\.\.5"):
        view(X, DIVISION, 6)
    with pytest.raises(DataError, match="these are int64"):
        view((Y, Y), partition("features", Y, 6), 1)


def test_labels_are_the_last_of_several_arrays() -> None:
    assert labels_of(Dataset(X, Y)) is Y and labels_of((X, Y)) is Y and labels_of([X, X, Y]) is Y
    assert labels_of(X) is X

"""Promises of the examples: a name and a seed decide them, and what is made up can be learnt."""

from __future__ import annotations

import numpy as np
import pytest

from ps.errors import ConfigError, DataError
from ps.simulate.examples import load, synthetic


def test_synthetic_examples_follow_from_the_seed() -> None:
    one, again, other = synthetic(600, seed=1), synthetic(600, seed=1), synthetic(600, seed=2)
    for name, array in one.items():
        np.testing.assert_array_equal(array, again[name])
    assert not np.array_equal(one["x_train"], other["x_train"])
    assert (len(one["y_train"]), len(one["y_test"])) == (500, 100)
    assert one["x_train"].dtype == np.float32 and one["y_train"].dtype == np.int64


def test_a_linear_model_is_right_for_most_but_not_all_synthetic_examples() -> None:
    data = synthetic(20_000)
    fit = np.linalg.lstsq(data["x_train"], np.eye(10)[data["y_train"]], rcond=None)[0]
    right = ((data["x_test"] @ fit).argmax(axis=1) == data["y_test"]).mean()
    assert 0.75 < right < 0.9
    assert np.bincount(data["y_train"], minlength=10).min() > 500


def test_names_that_are_none_and_folders_that_are_missing_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PS_DATA", raising=False)
    with pytest.raises(ConfigError, match="there are digits, mnist, synthetic"):
        load("imagenet")
    with pytest.raises(DataError, match="Pass --data DIR or set PS_DATA"):
        load("mnist")

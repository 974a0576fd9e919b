"""Dividing data among workers: every example once, everybody as many batches, the same again each time."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps import xp
from ps.data import Dataset, batches, steps_per_epoch
from ps.errors import DataError
from ps.testing import StrictArray


@st.composite
def jobs(draw: st.DrawFn) -> dict[str, Any]:
    n = draw(st.integers(1, 200))
    workers = draw(st.integers(1, min(n, 9)))
    return {
        "n": n,
        "num_workers": workers,
        "batch_size": draw(st.integers(1, -(-n // workers))),
        "epochs": draw(st.integers(1, 3)),
        "seed": draw(st.integers(0, 2**64)),
        "shuffle": draw(st.booleans()),
    }


def ranks(n: int, num_workers: int, **settings: Any) -> list[list[np.ndarray]]:
    data = np.arange(n)
    return [list(batches(data, num_workers=num_workers, rank=r, **settings)) for r in range(num_workers)]


@given(jobs())
def test_every_epoch_covers_every_example_exactly_once(job: dict[str, Any]) -> None:
    steps = steps_per_epoch(job["n"], job["batch_size"], job["num_workers"])
    of_ranks = ranks(**job)
    for epoch in range(job["epochs"]):
        mine = [batch for batches_ in of_ranks for batch in batches_[epoch * steps : (epoch + 1) * steps]]
        assert sorted(np.concatenate(mine).tolist()) == list(range(job["n"]))


@given(jobs())
def test_every_worker_has_the_same_number_of_batches(job: dict[str, Any]) -> None:
    steps = steps_per_epoch(job["n"], job["batch_size"], job["num_workers"])
    assert {len(mine) for mine in ranks(**job)} == {steps * job["epochs"]}


@given(jobs())
def test_batches_are_never_empty_nearly_equal_and_at_most_the_batch_size(job: dict[str, Any]) -> None:
    n, workers, size = job["n"], job["num_workers"], job["batch_size"]
    limit = 2 if size == 1 and n % workers else size
    for mine in ranks(**job):
        sizes = {len(batch) for batch in mine}
        assert min(sizes) >= 1 and max(sizes) <= limit and max(sizes) - min(sizes) <= 1
    expected = n // workers if limit > size else math.ceil(math.ceil(n / workers) / size)
    assert steps_per_epoch(n, size, workers) == expected


@given(jobs(), st.integers(0, 700))
def test_a_late_start_continues_the_same_sequence(job: dict[str, Any], start: int) -> None:
    n = job.pop("n")
    settings = job | {"rank": job["num_workers"] - 1}
    late = list(batches(np.arange(n), start=start, **settings))
    rest = list(itertools.islice(batches(np.arange(n), **settings), start, None))
    assert [batch.tolist() for batch in late] == [batch.tolist() for batch in rest]


def test_seed_and_epoch_decide_the_order() -> None:
    def order(**settings: Any) -> list[int]:
        return np.concatenate(list(batches(np.arange(50), 10, **settings))).tolist()

    assert order(seed=1, epochs=2) == order(seed=1, epochs=2)
    assert order(seed=1) != order(seed=2)
    two = order(epochs=2)
    assert two[:50] == order() and two[50:] != two[:50]
    assert order(shuffle=False, epochs=2) == [*range(50), *range(50)]


def test_arrays_of_a_batch_belong_together() -> None:
    x, y = np.arange(20).reshape(10, 2), np.arange(10)
    for data in (Dataset(x, y), (x, y), [x, y]):
        for bx, by in batches(data, 3):
            np.testing.assert_array_equal(bx, x[by])
    assert [len(batch) for batch in batches((x, y, y), 5)] == [3, 3]
    assert all(isinstance(batch, tuple) for batch in batches((x,), 5))
    assert all(isinstance(batch, np.ndarray) for batch in batches(x, 5))


def test_batches_are_copies() -> None:
    x = np.zeros(10)
    for batch in batches(x, 5, shuffle=False):
        batch += 1
    assert not x.any()


def test_device_arrays_are_indexed_on_the_device(strict_device: xp.Device) -> None:
    x, y = np.arange(10.0), np.arange(10)
    for bx, by in batches((strict_device.array(x), y), 4, rank=1, num_workers=2):
        assert isinstance(bx, StrictArray) and isinstance(by, np.ndarray)
        assert xp.to_host(bx).tolist() == by.tolist()


@pytest.mark.parametrize(
    ("n", "settings", "message"),
    [
        (0, {"batch_size": 1}, "no examples"),
        (3, {"batch_size": 1, "num_workers": 4}, "4 workers are more than the 3 examples"),
        (9, {"batch_size": 0}, "batch_size is 0"),
        (9, {"batch_size": -2}, "batch_size is -2"),
        (
            1437,
            {"batch_size": 500, "num_workers": 4},
            r"batch_size 500 is larger than a worker's shard of 359 examples \(1437 examples over 4 workers\)",
        ),
        (9, {"batch_size": 1, "num_workers": 0}, "num_workers is 0"),
        (9, {"batch_size": 1, "num_workers": 3, "rank": 3}, r"rank 3 is not in 0\.\.2"),
        (9, {"batch_size": 1, "rank": -1}, r"rank -1 is not in 0\.\.0"),
        (9, {"batch_size": 1, "epochs": 0}, "epochs is 0"),
        (9, {"batch_size": 1, "start": -1}, "start -1"),
        (9, {"batch_size": 1, "seed": -1}, "seed -1"),
    ],
)
def test_what_cannot_be_met_is_refused_at_the_call(n: int, settings: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        batches(np.arange(n), **settings)  # no next(): the call itself must refuse


def test_data_that_is_no_set_of_examples_is_refused_at_the_call() -> None:
    with pytest.raises(DataError, match="10, 9 examples"):
        batches((np.zeros(10), np.zeros(9)), 2)
    with pytest.raises(DataError, match="first axis"):
        batches((), 2)
    with pytest.raises(DataError, match="first axis"):
        batches(np.float32(1), 2)


def test_a_dataset_unpacks_counts_and_shortens() -> None:
    data = Dataset(np.zeros((5, 2), np.float32), np.arange(5))
    x, y = data
    assert (len(data), x.shape, len(y)) == (5, (5, 2), 5)
    assert len(data.take(3)) == 3 and len(data.take(9)) == 5
    assert repr(data) == "Dataset(x=float32(5, 2), y=int64(5,))"
    with pytest.raises(DataError, match="the first 0 examples"):
        data.take(0)
    with pytest.raises(DataError, match="5 examples, but 4 labels"):
        Dataset(np.zeros(5), np.zeros(4))

"""Promises of recipes: every example counts once an epoch, in an order that only seed, client and round decide."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps.data import batches
from ps.errors import ConfigError
from ps.simulate.local_work import LocalWork, _sequence


@given(st.integers(1, 200), st.integers(0, 40), st.integers(1, 3))
def test_each_epoch_has_every_example_once_in_batches_as_the_data_loader_cuts_them(
    examples: int, batch_size: int, epochs: int
) -> None:
    work = LocalWork(batch_size, epochs)
    share = np.arange(1000, 1000 + examples)
    rows, counts = work.batches(7, 2, share)
    assert rows.shape == (work.local_steps(examples), work.width(examples))
    steps = len(rows) // epochs
    for epoch in range(epochs):
        part = slice(epoch * steps, (epoch + 1) * steps)
        seen = np.concatenate([row[:count] for row, count in zip(rows[part], counts[part], strict=True)])
        np.testing.assert_array_equal(np.sort(seen), share)
        if 0 < batch_size <= examples:
            sizes = [len(batch) for batch in batches(share, batch_size)]
            assert counts[part].tolist() == sizes
    assert np.isin(rows, share).all()


def test_the_batches_are_those_of_a_client_of_a_real_job() -> None:
    share = np.arange(100, 147)
    rows, counts = LocalWork(10, epochs=2, seed=6).batches(3, 4, share)
    seed = int(np.random.SeedSequence((6, 3, 4)).generate_state(1)[0])
    dealt = list(batches(share, 10, epochs=2, seed=seed))
    assert len(dealt) == len(rows) == 10
    for row, count, batch in zip(rows, counts, dealt, strict=True):
        np.testing.assert_array_equal(row[:count], batch)


def test_a_number_of_steps_takes_as_many_epochs_as_it_needs() -> None:
    work = LocalWork(batch_size=4, steps=7)
    rows, counts = work.batches(0, 0, np.arange(10))
    assert len(rows) == work.local_steps(10) == 7
    assert counts.tolist() == [3, 3, 4, 3, 3, 4, 3]


def test_the_order_is_decided_by_seed_client_and_round() -> None:
    share = np.arange(50)
    first, _ = LocalWork(10, seed=1).batches(3, 4, share)
    np.testing.assert_array_equal(first, LocalWork(10, seed=1).batches(3, 4, share)[0])
    for work, client, round in (
        (LocalWork(10, seed=2), 3, 4),
        (LocalWork(10, seed=1), 2, 4),
        (LocalWork(10, seed=1), 3, 5),
    ):
        assert not np.array_equal(first, work.batches(client, round, share)[0])


def test_few_widths_serve_all_sizes() -> None:
    assert {LocalWork(100).width(n) for n in range(1, 5000)} == {1, 2, 4, 8, 16, 32, 64, 100}
    assert all(LocalWork(10).width(n) == 10 for n in range(10, 500))


@pytest.mark.parametrize("numbers", [{"batch_size": -1}, {"epochs": 0}, {"steps": -1}])
def test_no_training_is_refused(numbers: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="expected a batch size"):
        LocalWork(**numbers)


@pytest.mark.parametrize("words", [(0, 0, 0), (1, 2, 3), (2**32 - 1, 7, 1), (2**32, 7, 1), (5 << 40, 0, 9)])
def test_the_numbers_of_a_task_are_those_that_numpy_makes_of_them(words: tuple[int, ...]) -> None:
    assert _sequence(*words).generate_state(4).tolist() == np.random.SeedSequence(words).generate_state(4).tolist()

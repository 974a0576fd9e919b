"""BatchLoader: whose batches, in what order, from where."""

from __future__ import annotations

import numpy as np
import pytest

from ps import xp
from ps.errors import DataError
from ps.protocol.layout import Layout
from ps.testing import StrictArray
from ps.worker.batch_loader import BatchLoader
from ps.worker.parameters import Parameters

DATA = np.arange(24)
BUFFER = np.zeros(8, np.uint8)
MODEL = Parameters(Layout.of({"w": np.zeros(2, np.float32)}), BUFFER, BUFFER, xp.CPU, {}, ["w"])


def taken(loader: BatchLoader, epochs: int = 1, batch_size: int = 4, shuffle: bool = True) -> list[list[int]]:
    return [batch.tolist() for batch in loader.batches(DATA, batch_size, epochs, shuffle)]


def test_workers_together_see_every_example_once() -> None:
    seen = [example for rank in range(3) for batch in taken(BatchLoader(xp.CPU, rank, 3, 0)) for example in batch]
    assert sorted(seen) == DATA.tolist()


def test_a_second_call_goes_on_with_the_next_epoch() -> None:
    once, twice = BatchLoader(xp.CPU, 0, 2, 0), BatchLoader(xp.CPU, 0, 2, 0)
    separately = [*taken(twice), *taken(twice), *taken(twice)]
    assert taken(once, epochs=3) == separately
    assert separately[:3] != separately[3:6]


def test_a_late_worker_begins_where_the_job_is_also_over_several_calls() -> None:
    whole, late = BatchLoader(xp.CPU, 1, 2, 0), BatchLoader(xp.CPU, 1, 2, 0)
    expected = taken(whole, epochs=3)  # 3 batches in each epoch
    iterator = late.batches(DATA, 4, 1, True)  # made before init, as a script may
    late.begin(4, MODEL)
    assert list(iterator) == []
    assert [*taken(late), *taken(late)] == expected[4:]


def test_a_worker_beyond_the_first_number_takes_a_share_that_is_there() -> None:
    assert taken(BatchLoader(xp.CPU, 5, 2, 0)) == taken(BatchLoader(xp.CPU, 1, 2, 0))


def test_the_size_of_the_last_batch_is_known() -> None:
    loader = BatchLoader(xp.CPU, 0, 1, 0)
    assert loader.examples == 0
    for x, _ in loader.batches((DATA, DATA), 5, 1, True):
        assert loader.examples == len(x)
        loader.stepped(1)
    assert loader.examples in (4, 5)


def test_batches_come_on_the_device(strict_device: xp.Device) -> None:
    x, y = next(iter(BatchLoader(strict_device, 0, 1, 0).batches((DATA, DATA), 4, 1, True)))
    assert isinstance(x, StrictArray)
    assert isinstance(y, StrictArray)
    assert isinstance(next(iter(BatchLoader(strict_device, 0, 1, 0).batches(DATA, 4, 1, True))), StrictArray)


def test_what_cannot_be_divided_is_refused_at_the_call() -> None:
    with pytest.raises(DataError, match="25 workers are more than the 24 examples"):
        BatchLoader(xp.CPU, 0, 25, 0).batches(DATA, 1, 1, True)
    with pytest.raises(DataError, match="batch_size 13 is larger"):
        BatchLoader(xp.CPU, 0, 2, 0).batches(DATA, 13, 1, True)


def test_batches_taken_ahead_each_count_with_their_own_examples() -> None:
    loader = BatchLoader(xp.CPU, 0, 1, 0)
    ahead = [batch for _ in range(2) for batch in loader.batches(np.arange(23), 5, 1, True)]
    assert len({len(batch) for batch in ahead}) == 2
    for batch in ahead:
        assert loader.examples == loader.examples == len(batch)
        loader.stepped(1)
    assert loader.examples == len(ahead[-1])  # a second step with the same batch


def test_one_call_says_at_which_clock_its_batches_end_and_several_do_not() -> None:
    loader, data = BatchLoader(xp.CPU, 0, 2, 0), np.arange(100, dtype=np.float32)
    assert loader.planned == 0
    steps = sum(1 for _ in loader.batches(data, 10, 3, True))
    assert loader.planned == steps == 15
    list(loader.batches(data, 10, 1, True))
    assert loader.planned == 0


def test_a_worker_that_comes_late_ends_at_the_same_clock() -> None:
    loader, data = BatchLoader(xp.CPU, 1, 2, 0), np.arange(100, dtype=np.float32)
    loader.begin(9, MODEL)
    assert 9 + sum(1 for _ in loader.batches(data, 10, 3, True)) == loader.planned == 15


def test_a_stream_is_read_over_by_whoever_comes_late_and_has_the_same_batches_then() -> None:
    data = list(range(25))

    def stream() -> set[int]:
        return dict.fromkeys(data).keys()  # type: ignore[return-value]

    whole, late = BatchLoader(xp.CPU, 1, 2, 0), BatchLoader(xp.CPU, 1, 2, 0)
    expected = [batch.tolist() for batch in whole.batches(stream(), 3, 2, True)]
    assert expected[:5] == [[1, 3, 5], [7, 9, 11], [13, 15, 17], [19, 21, 23], expected[0]]
    late.begin(6, MODEL)
    assert [batch.tolist() for batch in late.batches(stream(), 3, 2, True)] == expected[6:]
    assert late.planned == 0


@pytest.mark.parametrize("data", [DATA, range(24), dict.fromkeys(range(24)).keys()], ids=["array", "index", "stream"])
def test_what_is_read_ahead_is_the_same(data: object) -> None:
    def taken(prefetch: int) -> list[list[int]]:
        return [batch.tolist() for batch in BatchLoader(xp.CPU, 1, 2, 0).batches(data, 4, 2, True, prefetch)]

    assert taken(0) == taken(3)
    with pytest.raises(DataError, match="prefetch is '-1'"):
        BatchLoader(xp.CPU, 0, 1, 0).batches(data, 4, 1, True, -1)


def test_fields_of_a_dict_come_on_the_device_and_texts_stay(strict_device: xp.Device) -> None:
    data = [{"x": np.float32(index), "text": str(index)} for index in range(4)]
    batch = next(iter(BatchLoader(strict_device, 0, 1, 0).batches(data, 2, 1, False)))
    assert isinstance(batch["x"], StrictArray)
    assert batch["text"] == ["0", "1"]


def test_a_generator_for_several_epochs_is_refused_at_the_call() -> None:
    with pytest.raises(DataError, match="exhausted"):
        BatchLoader(xp.CPU, 0, 1, 0).batches((i for i in range(4)), 2, 2, True)

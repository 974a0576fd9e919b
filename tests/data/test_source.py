"""Promises of ps.data.source_of and what it returns: what counts as data, and how each is read and shared out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ps.data import Columns, ExampleStream, IndexedExamples, batches, collate, digits, size_of, source_of
from ps.errors import DataError


class Squares:
    """A data set by its protocol alone."""

    def __init__(self, n: int = 24) -> None:
        self.n = n
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[int, int]:
        if not 0 <= index < self.n:
            raise IndexError(index)
        self.asked.append(index)
        return index, index**2


class Counting:
    """An iterable that begins anew, and notes which epochs it was told."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.epochs: list[int] = []

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.n))

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)


class Files(Counting):
    """A stream whose parts can be had by themselves."""

    def __init__(self, n: int, num_shards: int, values: range | None = None) -> None:
        super().__init__(n)
        self.num_shards = num_shards
        self.values = range(n) if values is None else values

    def __iter__(self) -> Iterator[int]:
        return iter(self.values)

    def shard(self, num_shards: int, index: int) -> Files:
        return Files(self.n, self.num_shards // num_shards, self.values[index::num_shards])


def epoch(stream: Any, workers: int, batch_size: int | None, number: int = 0) -> list[list[list[int]]]:
    """Return each worker's batches of one epoch."""
    source = source_of(stream, batch_size)
    assert isinstance(source, ExampleStream)
    return [list(source.epoch(number, rank, workers)) for rank in range(workers)]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (np.arange(3), Columns),
        ((np.arange(3), np.arange(3)), Columns),
        ([np.arange(3), np.arange(3)], Columns),
        ([[1, 2], [3, 4]], Columns),
        ([1, 2, 3], IndexedExamples),
        (["a", "b"], IndexedExamples),
        ([(1, 2), (3, 4)], IndexedExamples),
        ([{"x": 1}], IndexedExamples),
        (range(5), IndexedExamples),
        (Squares(), IndexedExamples),
        (iter([1, 2]), ExampleStream),
        ((i for i in range(3)), ExampleStream),
        (Counting(3), ExampleStream),
        ({1, 2}, ExampleStream),
    ],
)
def test_what_data_are_is_told_by_what_they_can_do(data: Any, kind: type) -> None:
    assert type(source_of(data, 1)) is kind


@pytest.mark.parametrize(
    ("data", "batch_size", "text"),
    [
        (
            {"train": 1, "test": 2},
            1,
            "data is a dict with train, test: give one data set of it, or the tuple of",
        ),
        ("corpus.txt", 1, "data is a str: give the examples themselves, not where they are"),
        (5, 1, "data is an int: expected arrays, a sequence or a data set of examples, an iterable, or a DataLoader"),
        (None, 1, "data is a NoneType"),
        (np.arange(3), None, "batch_size is missing"),
        (Squares(), None, "batch_size is missing"),
        (Counting(3), 0, "batch_size is 0: expected 1 or more"),
    ],
)
def test_what_are_no_data_is_said_in_words(data: Any, batch_size: int | None, text: str) -> None:
    with pytest.raises(DataError, match=text):
        source_of(data, batch_size)


def test_an_example_that_cannot_be_read_is_named() -> None:
    class Table(Squares):
        def __getitem__(self, index: int) -> Any:
            raise KeyError(index)

    with pytest.raises(DataError, match="example 0 of 24 of the Table cannot be read: KeyError: 0"):
        source_of(Table(), 4)


def test_examples_by_index_are_divided_as_arrays_are() -> None:
    how: dict[str, Any] = {"epochs": 2, "rank": 1, "num_workers": 3, "seed": 5, "start": 1, "shuffle": True}
    source = source_of(Squares(25), 4)
    assert isinstance(source, IndexedExamples)
    found = [x.tolist() for x, _ in source.batches(4, **how)]
    assert found == [batch.tolist() for batch in batches(np.arange(25), 4, **how)]


def test_only_a_workers_own_examples_are_read() -> None:
    data = Squares(24)
    source = source_of(data, 4)
    data.asked.clear()
    list(source.batches(4, rank=0, num_workers=4))  # type: ignore[union-attr]
    assert len(data.asked) == 6


def test_several_examples_are_asked_for_at_once_where_the_data_can() -> None:
    class Gathering(Squares):
        def __getitems__(self, indices: list[int]) -> list[tuple[int, int]]:
            gathered.append(indices)
            return [(index, -index) for index in indices]

    gathered: list[list[int]] = []
    x, y = next(source_of(Gathering(), 4).batches(4))  # type: ignore[union-attr]
    assert gathered == [x.tolist()] == [(-y).tolist()]
    assert all(type(index) is int for index in gathered[0])


@pytest.mark.parametrize(("n", "workers", "batch_size"), [*itertools.product((0, 1, 5, 12, 17), (1, 2, 3), (1, 4))])
def test_a_stream_is_dealt_out_one_by_one_and_all_workers_have_the_same_number_of_batches(
    n: int, workers: int, batch_size: int
) -> None:
    if n == 0:
        with pytest.raises(DataError, match="the Counting gave no examples"):
            epoch(Counting(n), workers, batch_size)
        return
    found = epoch(Counting(n), workers, batch_size)
    assert len({len(each) for each in found}) == 1
    for rank, each in enumerate(found):
        mine = list(itertools.chain(*each))
        assert mine == list(range(rank, n, workers))[: len(mine)]
        assert all(1 <= len(batch) <= batch_size for batch in each)
    seen = sorted(itertools.chain(*itertools.chain(*found)))
    assert seen == list(range(len(seen)))
    assert n - len(seen) < workers


def test_a_stream_of_batches_is_dealt_out_whole() -> None:
    made = [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    source = source_of(iter(made), None)
    assert isinstance(source, ExampleStream)
    assert [source.join(each) for each in source.epoch(0, 1, 2)] == [[2, 3], [6, 7]]


def test_each_worker_reads_its_own_files_where_there_are_enough() -> None:
    found = epoch(Files(12, num_shards=4), 2, 3)
    assert found == [[[0, 2, 4], [6, 8, 10]], [[1, 3, 5], [7, 9, 11]]]
    assert epoch(Files(12, num_shards=3), 2, 3) == epoch(Counting(12), 2, 3), "files cannot be halved"


def test_a_stream_is_told_the_number_of_each_epoch() -> None:
    data = Counting(4)
    epoch(data, 1, 2, number=7)
    assert data.epochs == [7]


def test_a_generator_can_be_gone_through_once_and_that_is_said() -> None:
    source = source_of((i for i in range(4)), 2)
    assert isinstance(source, ExampleStream)
    with pytest.raises(DataError, match="a generator can be gone through once and is exhausted then, and 3 epochs"):
        source.check(3)
    source.check(1)
    assert list(source.epoch(0, 0, 1)) == [[0, 1], [2, 3]]
    with pytest.raises(DataError, match="the generator gave no examples; it was gone through before"):
        list(source.epoch(1, 0, 1))


def test_fields_are_stacked_and_what_cannot_be_stays_a_list() -> None:
    one = {"x": np.zeros(2, np.float32), "n": 3, "text": "a", "tokens": [1, 2]}
    other = {"x": np.ones(2, np.float32), "n": 4, "text": "b", "tokens": [3]}
    found = collate([one, other])
    assert found["x"].dtype == np.float32 and found["x"].tolist() == [[0, 0], [1, 1]]
    assert found["n"].tolist() == [3, 4]
    assert (found["text"], found["tokens"]) == (["a", "b"], [[1, 2], [3]])
    x, y = collate([(1.5, True), (2.5, False)])
    assert (x.tolist(), y.tolist()) == ([1.5, 2.5], [True, False])


@pytest.mark.parametrize(
    ("batch", "size"),
    [(np.zeros(3), 3), ((np.zeros(3), 1), 3), ({"x": [1, 2]}, 2), ([np.zeros(4)], 4), (["a", "b"], 1), (5, 0), ({}, 0)],
)
def test_the_size_of_a_batch_is_that_of_its_first_field(batch: Any, size: int) -> None:
    assert size_of(batch) == size


def test_labels_are_the_last_field() -> None:
    for data in ([(0, 5), (1, 6)], [{"x": 0, "label": 5}, {"x": 1, "label": 6}], [{"labels": 5}, {"labels": 6}]):
        assert IndexedExamples(data, 1).labels().tolist() == [5, 6]
    with pytest.raises(DataError, match="no field label or labels by which to divide them, only x, y"):
        IndexedExamples([{"x": 1, "y": 2}], 1).labels()


def test_our_own_data_sets_are_arrays() -> None:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    assert isinstance(source_of(digits()[0], 8), Columns)

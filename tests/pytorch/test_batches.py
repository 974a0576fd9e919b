"""Promises of kv.batches for loaders of PyTorch and data sets of Hugging Face, which it does not import."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from ps import xp
from ps.errors import DataError
from ps.worker.batch_loader import BatchLoader

N, WORKERS = 26, 2
DATA = torch.utils.data.TensorDataset(torch.arange(N), torch.arange(N) ** 2)


class Stream(torch.utils.data.IterableDataset):  # type: ignore[misc]
    """Begins anew each time; its length is told, though it has no example by index."""

    def __len__(self) -> int:
        return N

    def __iter__(self) -> Any:
        return iter(range(N))


def loaded(data: Any, batch_size: int | None = None, epochs: int = 1, skip: int = 0) -> list[list[list[int]]]:
    """Return each worker's batches: their first fields."""
    found = []
    for rank in range(WORKERS):
        loader = BatchLoader(xp.CPU, rank, WORKERS, 0)
        loader._skip = skip
        batches = loader.batches(data, batch_size, epochs, True)
        found.append([(batch[0] if isinstance(batch, tuple | list) else batch).tolist() for batch in batches])
    return found


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_loaders_batches_are_divided_by_index(shuffle: bool) -> None:
    loader = torch.utils.data.DataLoader(DATA, batch_size=4, shuffle=shuffle)
    found = loaded(loader, epochs=2)
    assert [len(each) for each in found] == [8, 8]
    for first in (0, 4):  # each epoch
        seen = list(itertools.chain(*(batch for each in found for batch in each[first : first + 4])))
        assert sorted(seen) == list(range(N))
        assert (seen == sorted(seen)) is not shuffle
    assert loaded(loader, epochs=2, skip=3) == [each[3:] for each in found]


def test_a_loader_keeps_its_processes() -> None:
    made = []

    class Loader(torch.utils.data.DataLoader):  # type: ignore[misc]
        def __init__(self, *given: Any, **options: Any) -> None:
            super().__init__(*given, **options)
            made.append(self)

        def __iter__(self) -> Any:  # without starting any
            return iter([torch.tensor(each) for each in self.batch_sampler])

    loader = Loader(DATA, 4, num_workers=1, prefetch_factor=5, persistent_workers=True, timeout=7, pin_memory=True)
    assert sum(len(each) for each in loaded(loader)) == 8
    for each in made[1:]:
        assert (each.num_workers, each.prefetch_factor, each.persistent_workers) == (1, 5, True)
        assert (each.timeout, each.pin_memory) == (7, True)


def test_a_loader_keeps_its_own_way_to_make_a_batch() -> None:
    def join(examples: list[Any]) -> Any:
        return torch.tensor([-int(x) for x, _ in examples])

    found = loaded(torch.utils.data.DataLoader(DATA, batch_size=4, collate_fn=join))
    assert sorted(itertools.chain(*found[0], *found[1])) == list(range(-N + 1, 1))


def test_a_sampler_of_the_scripts_says_what_is_this_workers() -> None:
    sampler = torch.utils.data.SubsetRandomSampler([1, 2, 3])
    found = loaded(torch.utils.data.DataLoader(DATA, batch_size=2, sampler=sampler))
    assert [sorted(itertools.chain(*each)) for each in found] == [[1, 2, 3]] * 2
    given = torch.utils.data.DataLoader(DATA, batch_sampler=[[0, 1], [5]])
    assert loaded(given) == [[[0, 1], [5]]] * 2


def test_a_sampler_that_can_be_told_the_epoch_is_told() -> None:
    sampler = torch.utils.data.DistributedSampler(DATA, num_replicas=2, rank=0, seed=3)
    loader = torch.utils.data.DataLoader(DATA, batch_size=4, sampler=sampler)
    [found, _] = loaded(loader, epochs=2)
    assert found[:4] != found[4:]


def test_a_stream_of_pytorch_is_dealt_out() -> None:
    assert loaded(Stream(), 4)[1][:2] == [[1, 3, 5, 7], [9, 11, 13, 15]]
    batches = loaded(torch.utils.data.DataLoader(Stream(), batch_size=4))
    assert [each[0] for each in batches] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [len(each) for each in batches] == [3, 3]


def test_a_data_set_of_pytorch_gives_arrays() -> None:
    x, y = next(BatchLoader(xp.CPU, 0, 1, 0).batches(DATA, 4, 1, False))
    assert isinstance(x, np.ndarray)
    assert y.tolist() == (x**2).tolist()


def test_a_loader_with_a_batch_size_of_ours_is_refused() -> None:
    with pytest.raises(DataError, match="a DataLoader makes its batches itself: leave batch_size out here"):
        loaded(torch.utils.data.DataLoader(DATA, batch_size=2), 4)


def test_data_sets_of_hugging_face_are_divided_by_index_and_streams_by_their_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("USE_JAX", "NO")  # which it would import
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    data = datasets.Dataset.from_dict({"x": list(range(N)), "label": [n % 3 for n in range(N)]})

    def taken(data: Any, epochs: int = 1) -> list[list[list[int]]]:
        loaders = [BatchLoader(xp.CPU, rank, WORKERS, 0) for rank in range(WORKERS)]
        return [[batch["x"].tolist() for batch in loader.batches(data, 4, epochs, True)] for loader in loaders]

    found = taken(data)
    assert [len(each) for each in found] == [4, 4]
    assert sorted(itertools.chain(*found[0], *found[1])) == list(range(N))
    with pytest.raises(DataError, match="data is a DatasetDict with train: give one data set of it"):
        taken(datasets.DatasetDict(train=data))

    files = data.to_iterable_dataset(num_shards=4)
    own = taken(files)
    assert sorted(itertools.chain(*own[0], *own[1])) == list(range(N))
    one = data.to_iterable_dataset(num_shards=1)
    assert taken(one)[1][0] == [1, 3, 5, 7]
    shuffled = taken(one.shuffle(seed=1, buffer_size=10), epochs=2)[0]
    assert shuffled[:4] != shuffled[4:], "set_epoch"

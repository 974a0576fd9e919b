"""Promises of streams: of data without a length each worker has its own part, and all have as much."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, WeightedRandomSampler

from ps.errors import UsageError
from ps.torch import ShareSampler, stream
from ps.torch.lightning import share_of
from ps.torch.prepare import prepare
from ps.worker import KV

Local = Callable[..., KV]


def worker(rank: int, workers: int, *, federated: bool = False) -> Any:
    job = SimpleNamespace(workers=workers, federated=federated, seed=0)
    return SimpleNamespace(rank=rank, job=job)


@pytest.mark.parametrize(("count", "workers"), [(12, 3), (13, 3), (14, 3), (2, 3), (5, 1)])
def test_nobody_sees_what_another_does_and_all_see_as_many(count: int, workers: int) -> None:
    parts = [list(stream(worker(rank, workers), range(count))) for rank in range(workers)]
    seen = [each for part in parts for each in part]
    assert sorted(seen) == list(range(count // workers * workers))
    assert {len(part) for part in parts} == {count // workers}


def test_each_epoch_begins_anew_and_is_told_which_it_is() -> None:
    class Shuffled(IterableDataset):
        epoch = 0

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __iter__(self) -> Iterator[int]:
            return iter(range(10 * self.epoch, 10 * self.epoch + 4))

    share = stream(worker(1, 2), Shuffled())
    assert list(share) == list(share) == [1, 3]
    share.set_epoch(2)
    assert list(share) == [21, 23]
    stream(worker(1, 2), [1, 2]).set_epoch(1)


def test_a_client_of_a_federated_job_takes_its_batches_from_elsewhere() -> None:
    kv = worker(0, 2, federated=True)
    for given in (lambda: stream(kv, []), lambda: prepare(object(), kv)):
        with pytest.raises(UsageError, match=r"kv\.batches"):
            given()


def test_a_loader_of_a_share_is_as_the_one_it_was_made_of() -> None:
    data = TensorDataset(torch.arange(10))
    loader = DataLoader(data, 2, shuffle=True, drop_last=True, collate_fn=tuple)
    shares = [share_of(loader, worker(rank, 2)) for rank in range(2)]
    assert len({int(row[0]) for share in shares for batch in share for row in batch}) == 8
    assert all(share.drop_last and share.collate_fn is tuple and len(share) == 2 for share in shares)
    assert isinstance(shares[0].sampler, ShareSampler) and share_of(shares[0], worker(0, 2)) is shares[0]
    in_order = share_of(DataLoader(data, 5), worker(1, 2))
    assert [row.tolist() for (row,) in in_order] == [[5, 6, 7, 8, 9]]


def test_a_loader_whose_share_cannot_be_known_is_refused() -> None:
    data = TensorDataset(torch.arange(10))
    with pytest.raises(UsageError, match=r"a WeightedRandomSampler.*ps\.torch\.sampler"):
        share_of(DataLoader(data, 2, sampler=WeightedRandomSampler([1.0] * 10, 10)), worker(0, 2))
    with pytest.raises(UsageError, match="comes from a DataLoader here, not a list"):
        share_of([1], worker(0, 2))


def test_what_is_no_trainer_is_not_prepared() -> None:
    with pytest.raises(UsageError, match=r"transformers\.Trainer or an accelerate\.Accelerator, not object"):
        prepare(object(), worker(0, 2))
    with pytest.raises(UsageError, match="lightning_strategy"):
        prepare(type("Trainer", (), {"__module__": "lightning.pytorch.trainer"})(), worker(0, 2))

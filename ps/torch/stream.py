"""ShareStream: each worker's share of data that has no length. Nothing is negotiated between workers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from ps.torch.own_plan import demand_own_plan
from ps.worker import KV


class ShareStream(torch.utils.data.IterableDataset):
    """Yields one worker's examples of an iterable that gives all workers the same ones in the same order.

    Of as many as there are workers each takes one; what is left over at the end is left out, so all have the same
    number. A stream that is shuffled has to be so with the same seed everywhere.
    """

    def __init__(self, examples: Iterable[Any], rank: int, num_workers: int) -> None:
        self.examples = examples
        self._rank = rank
        self._num_workers = num_workers

    def __iter__(self) -> Iterator[Any]:
        left = iter(self.examples)
        while len(turn := list(itertools.islice(left, self._num_workers))) == self._num_workers:
            yield turn[self._rank]

    def set_epoch(self, epoch: int) -> None:
        """Tell the stream which epoch comes next, if it wants to know: Hugging Face's shuffle anew then."""
        told = getattr(self.examples, "set_epoch", None)
        if callable(told):
            told(epoch)


def stream(kv: KV, examples: Iterable[Any]) -> ShareStream:
    """Return this worker's share of examples that come one by one: ``DataLoader(ps.torch.stream(kv, examples), 32)``.

    Every worker reads all of them and keeps its own, as in ``datasets``' ``split_dataset_by_node`` for streams.

    Raises UsageError in a federated job, where rounds decide what a client trains on.
    """
    demand_own_plan(kv.job)
    workers = kv.job.workers
    return ShareStream(examples, kv.rank % workers, workers)

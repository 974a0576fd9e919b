"""ShareSampler: each worker's share of a data set, for a ``DataLoader``. Nothing is negotiated between workers."""

from __future__ import annotations

from collections.abc import Iterator, Sized

import numpy as np
import torch

from ps.errors import DataError, UsageError
from ps.torch.own_plan import demand_own_plan
from ps.worker import KV


class ShareSampler(torch.utils.data.Sampler):
    """Yields the indices of one worker's examples, in another order in each epoch.

    In an epoch the workers together see every example at most once, and all have the same number: what is left over
    when they are divided, fewer than there are workers, is left out, others each time. An epoch begins with each
    ``iter``; ``set_epoch`` says which.
    """

    def __init__(self, n: int, rank: int, num_workers: int, seed: int, shuffle: bool) -> None:
        """Raises DataError when there are fewer examples than workers."""
        if n < num_workers:
            raise DataError(f"{num_workers} workers are more than the {n} examples: each needs at least one")
        self.epoch = 0
        """The number of the next epoch."""
        self._n = n
        self._rank = rank
        self._num_workers = num_workers
        self._seed = seed
        self._shuffle = shuffle

    def set_epoch(self, epoch: int) -> None:
        """Have the next epoch be the one with this number; without this they are counted."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._n // self._num_workers

    def __iter__(self) -> Iterator[int]:
        key, self.epoch = (self._seed, self.epoch), self.epoch + 1
        order = np.random.default_rng(key).permutation(self._n) if self._shuffle else np.arange(self._n)
        each = len(self)
        return iter(order[self._rank * each : (self._rank + 1) * each].tolist())


def sampler(kv: KV, dataset: Sized, shuffle: bool = True, seed: int | None = None) -> ShareSampler:
    """Return a sampler of this worker's share: ``DataLoader(dataset, sampler=ps.torch.sampler(kv, dataset))``.

    ``dataset`` has a length (map-style). ``seed`` (the job's) is the same on all workers. Loader processes
    (``num_workers=2``) may start after ``ps.connect``; the connection stays the script's. For them to draw other random
    numbers on each worker give the loader ``generator=ps.torch.generator(kv)`` as well.

    Raises UsageError in a federated job, where rounds decide what a client trains on, and for data without a length;
    DataError when there are fewer examples than workers.
    """
    demand_own_plan(kv.job)
    try:
        n = len(dataset)
    except TypeError:
        raise UsageError(
            f"{type(dataset).__name__} has no length, so it cannot be shared out by a sampler: let each worker read "
            f"its own part, by kv.rank and kv.job.workers"
        ) from None
    workers = kv.job.workers
    return ShareSampler(n, kv.rank % workers, workers, kv.job.seed if seed is None else seed, shuffle)


def generator(kv: KV) -> torch.Generator:
    """Return a generator for a ``DataLoader``, seeded by the job's seed and this worker's rank.

    Without it loader processes of all workers draw the same numbers when a script seeds torch alike everywhere.
    """
    seed = np.random.SeedSequence((kv.job.seed, kv.rank)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(seed >> np.uint64(1)))

"""The order of examples: one shuffle for each epoch, shared out among the workers, cut into batches.

Nothing is negotiated: every worker computes the same order from (seed, epoch) and takes its own part.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ps import xp
from ps.data.dataset import Dataset
from ps.errors import DataError
from ps.xp import Array


def demand_whole(name: str, value: Any) -> None:
    """Raise DataError unless a number that a script gave is a whole one of at least 1."""
    try:
        fine = operator.index(value) >= 1
    except TypeError:
        raise DataError(f"{name} is {str(value)[:40]!r}: expected a whole number") from None
    if not fine:
        raise DataError(f"{name} is {value}: expected 1 or more")


def num_examples(data: Any) -> int:
    """Return the number of examples of what ``batches`` takes."""
    return len(data[0]) if isinstance(data, tuple | list) else len(data)


def demand_arrays(data: Any) -> list[Array]:
    """Return the arrays of what ``batches`` takes. Raises DataError unless they are of one length, which may be 0."""
    arrays = [xp.asarray(array) for array in (data if isinstance(data, Dataset | tuple | list) else [data])]
    if not arrays or any(array.ndim == 0 for array in arrays):
        raise DataError("data is a Dataset, an array, or a tuple of arrays whose first axis counts the examples")
    lengths = [len(array) for array in arrays]
    if len(set(lengths)) > 1:
        raise DataError(f"the arrays hold {', '.join(map(str, lengths))} examples: expected the same number")
    return arrays


def steps_per_epoch(n: int, batch_size: int, num_workers: int = 1) -> int:
    """Return the number of batches that every worker has in one epoch over ``n`` examples.

    It is the largest shard divided by the batch size, rounded up. Only for batch size 1 and shards of
    unequal size it is the smallest shard instead, so that no batch is empty. DataError as in ``batches``.
    """
    if n < 1:
        raise DataError("there are no examples: 0 cannot be divided into batches")
    if num_workers < 1:
        raise DataError(f"num_workers is {num_workers}: expected 1 or more")
    if num_workers > n:
        raise DataError(f"{num_workers} workers are more than the {n} examples: each needs at least one")
    demand_whole("batch_size", batch_size)
    smallest, largest = n // num_workers, math.ceil(n / num_workers)
    if batch_size > largest:
        raise DataError(
            f"batch_size {batch_size} is larger than a worker's shard of {smallest} examples "
            f"({n} examples over {num_workers} workers)"
        )
    return min(math.ceil(largest / batch_size), smallest)


def batches(
    data: Any,
    batch_size: int,
    *,
    epochs: int = 1,
    rank: int = 0,
    num_workers: int = 1,
    seed: int = 0,
    start: int = 0,
    shuffle: bool = True,
    cells: Iterable[int] | None = None,
) -> Iterator[Any]:
    """Yield worker ``rank``'s batches of ``data`` for a number of epochs.

    ``data`` is a Dataset or a tuple of arrays of one length, and a batch is a tuple of as many arrays; or it
    is one array, and so is a batch. Arrays may be NumPy or CuPy, or anything that speaks DLPack.

    In each epoch, every example is in exactly one batch of one worker. All workers have the same number of
    batches, see ``steps_per_epoch``, so that none waits for another at the end. A worker's batches are equal
    to within one example and at most ``batch_size``, except that for batch size 1 the larger of unequal
    shards have one batch of 2. The first ``start`` batches are skipped at no cost.

    With ``cells`` the batches are those with these numbers instead: batch s of the r-th worker has the number
    s * num_workers + r, and those of the next epoch follow.

    DataError, at the call and not at the first batch, for arguments that cannot be met.
    """
    single = not isinstance(data, Dataset | tuple | list)
    arrays = demand_arrays(data)
    n = len(arrays[0])
    steps = steps_per_epoch(n, batch_size, num_workers)
    if not 0 <= rank < num_workers:
        raise DataError(f"rank {rank} is not in 0..{num_workers - 1}")
    demand_whole("epochs", epochs)
    if start < 0 or seed < 0:
        raise DataError(f"start {start} and seed {seed}: expected 0 or more")

    width = steps * num_workers
    if cells is None:
        cells = range(operator.index(start) * num_workers + rank, operator.index(epochs) * width, num_workers)

    def generate(numbers: Iterable[int]) -> Iterator[Any]:
        current = -1
        for number in numbers:
            epoch, place = divmod(number, width)
            if epoch != current:
                current = epoch
                order = order_of(n, seed, epoch, shuffle)
                picks = [beside(array, order) for array in arrays]
            step, shard = divmod(place, num_workers)
            low, high = shard * n // num_workers, (shard + 1) * n // num_workers
            part = slice(low + step * (high - low) // steps, low + (step + 1) * (high - low) // steps)
            batch = tuple(array[pick[part]] for array, pick in zip(arrays, picks, strict=True))
            yield batch[0] if single else batch

    return generate(cells)


def order_of(n: int, seed: int, epoch: int, shuffle: bool) -> xp.HostArray:
    """Return the indices (n,) of all examples in the order of an epoch."""
    return np.random.default_rng((seed, epoch)).permutation(n) if shuffle else np.arange(n)


def beside(array: Array, indices: xp.HostArray) -> Array:
    """Return the indices on the side where the array lives."""
    return indices if xp.is_host(array) else xp.backend_of(array).to_device(indices)

"""One client's part of a data set, seen as this client sees it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ps import xp
from ps.data.dataset import Dataset
from ps.data.epochs import num_examples
from ps.errors import DataError
from ps.partition import Features, Partition
from ps.partition.rng import NOISE, TEST_NOISE
from ps.xp import Array, HostArray


def labels_of(data: Any) -> Array:
    """Return what ``partition`` divides by: the labels of a Dataset or the last array of a tuple; else the array."""
    return xp.asarray(data.y if isinstance(data, Dataset) else data[-1] if isinstance(data, tuple | list) else data)


def view(data: Any, partition: Partition, client: int, indices: HostArray | None = None) -> Any:
    """Return this client's share of ``data``, the data that was divided: a Dataset, a tuple or an array as it is.

    With ``indices``, such as those of ``counterpart``, it is these examples of other ``data``, the test set, as this
    client would see them. Where the partition distorts features, the first array is distorted, the same way each
    time. The arrays are copies, on the side where they are, but with ``own`` ``data`` itself comes back.

    DataError when ``data`` has another length than what was divided, or its examples cannot be distorted.
    """
    share = partition.share(client)
    if indices is None and num_examples(data) != partition.examples:
        raise DataError(f"{num_examples(data)} examples, but the partition divides {partition.examples}")
    if indices is None and not partition.spec.build().divides:
        return data
    single = not isinstance(data, Dataset | tuple | list)
    picks = np.asarray(share if indices is None else indices)
    arrays = [_take(xp.asarray(array), picks) for array in ([data] if single else data)]
    partitioner = partition.spec.build()
    if isinstance(partitioner, Features):
        purpose = NOISE if indices is None else TEST_NOISE
        arrays[0] = partitioner.distort(arrays[0], client, partition.clients, partition.seed, purpose)
    if isinstance(data, Dataset):
        return Dataset(*arrays)
    return arrays[0] if single else tuple(arrays)


def _take(array: Array, indices: HostArray) -> Array:
    return array[indices if xp.is_host(array) else xp.backend_of(array).to_device(indices)]

"""ActivationCompression: the codec for activations and their gradients on their way from stage to stage."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np

from ps.compress import ActivationCodec
from ps.compress.frame import largest
from ps.compress.key import Key
from ps.pipeline.runner import ACTIVATION, GRADIENT, Transfer
from ps.spec import Spec
from ps.xp import HostArray

log = logging.getLogger("ps.worker")

COMPRESSED = (ACTIVATION, GRADIENT)
"""The kinds of transfers whose arrays are. Labels, plans, losses, the gradients of tied tensors and what is measured
are not; nor is what is sent to see whether cutting the batch changes anything."""
WIDE = (np.dtype("float32"), np.dtype("float64"))
"""The dtypes of arrays that are compressed."""
UNKEYED = Key(0, 0, 0, 0)
_SPAN = 1 << 32


class ActivationCompression:
    """What of a tree of arrays is encoded, and how. Integers are not, nor is what a frame has no room for: NaN stays
    NaN, to be named by the layer that made it, and a number that is too large stays what it is."""

    def __init__(self, spec: Spec[ActivationCodec], seed: int, rank: int) -> None:
        """``rank``: this worker's; with the seed it says what is drawn where a codec rounds by chance."""
        self._name, self._codec = spec.name, spec.build()
        self._seed, self._rank = seed, rank
        self._told = False

    def of(self, transfer: Transfer, clock: int | None) -> TransferEncoder | None:
        """Return what encodes the arrays of a transfer in the step after ``clock``; None where they go as they are."""
        if clock is None or transfer.kind not in COMPRESSED or transfer.microbatch < 0:
            return None
        forward = transfer.kind == ACTIVATION
        chunk = (2 * transfer.stage + forward) * _SPAN + transfer.microbatch
        return TransferEncoder(self, transfer, Key(self._seed, clock, chunk, self._rank * _SPAN))

    def has_room(self, array: HostArray, transfer: Transfer) -> bool:
        """Whether an array of such a transfer is encoded."""
        if array.dtype not in WIDE or not array.size:
            return False
        if largest(array) <= self._codec.largest:  # not where it is NaN
            return True
        if not self._told:
            self._told = True
            log.warning(
                "%r has NaN, Inf or numbers beyond %.3g, which %s has no room for: arrays with such travel as they are",
                transfer,
                self._codec.largest,
                self._name,
            )
        return False

    def nbytes(self, size: int, dtype: np.dtype[Any]) -> int:
        """Return the length of a frame."""
        return self._codec.max_bytes(size, dtype)

    def write(self, array: HostArray, frame: HostArray, key: Key) -> None:
        """Encode an array."""
        self._codec.encode(array.reshape(-1), key, {}, frame)

    def read(self, frame: HostArray, size: int, dtype: np.dtype[Any]) -> HostArray:
        """Return the vector that a frame stands for, in memory of its own. Raises BadMessage."""
        found = np.empty(size, dtype)
        self._codec.open(frame, size, dtype, UNKEYED).write(found)
        return found


class TransferEncoder:
    """Encodes the arrays of one transfer, one after the other."""

    def __init__(self, compression: ActivationCompression, transfer: Transfer, key: Key) -> None:
        self._compression, self._transfer, self._key = compression, transfer, key

    def takes(self, array: HostArray) -> bool:
        """Whether an array is encoded."""
        return self._compression.has_room(array, self._transfer)

    def write(self, array: HostArray, frame: HostArray) -> None:
        """Encode the next array."""
        self._compression.write(array, frame, self._key)
        self._key = replace(self._key, rank=self._key.rank + 1)

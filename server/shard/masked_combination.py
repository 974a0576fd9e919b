"""MaskedCombination: the sum of one round's masked contributions to a server's chunks, and what it says unmasked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ps.errors import BadMessage
from ps.protocol.layout import Chunk
from ps.protocol.messages import MaskSum, RoundOrder
from ps.secure.frames import MaskedFrames, SummedChunk
from ps.secure.masks import apply_masks
from ps.server.shard.combination import Counted, Factors
from ps.xp import HostArray

Keys = Sequence[tuple[bytes, int]]


class MaskedCombination:
    """Adds words modulo 2^w as they come. Each contribution counts alike here: its client has weighed it itself."""

    def __init__(self, frames: MaskedFrames, chunks: Mapping[int, Chunk], round: int) -> None:
        self._frames, self._chunks, self._round = frames, chunks, round
        self._sums: dict[int, HostArray] = {}
        self._keys: Keys | None = None
        self._helped: dict[int, HostArray] = {}
        """The sums of the masks, by chunk, as a helper has told them."""
        self._read: dict[int, SummedChunk] = {}
        self.count = 0

    def refusal(self, entries: Iterable[Factors], order: RoundOrder, *, complete: bool) -> str:
        """Return why these entries cannot be taken, or combined as ordered; or nothing."""
        if any(entry != (1.0, 1.0, 1.0) for entry in entries):
            return "under masks all contributions count alike, and nothing multiplies them"
        return "distances are to be measured, and under masks there are none" if order.phase == "measure" else ""

    def add(self, counted: Counted) -> None:
        """Take one contribution: words by chunk."""
        self.count += 1
        for index, part in counted.parts.items():
            assert not hasattr(part, "read"), "what is masked is not compressed"
            if index in self._sums:
                self._sums[index] += part
            else:
                self._sums[index] = part.copy()

    @property
    def sums(self) -> Mapping[int, HostArray]:
        """What is added up so far, by chunk: words, whose masks nobody knows yet."""
        return self._sums

    def restore(self, sums: Mapping[int, HostArray | None], count: int) -> None:
        """Go on with what a process before this one has added up of so many contributions."""
        self._sums = {index: total for index, total in sums.items() if total is not None}
        self.count = count

    def distances(self) -> HostArray:
        """Nobody knows them."""
        raise ValueError("distances under masks")

    def unseal(self, keys: Keys) -> None:
        """Learn the keys of the masks that are left in the sum."""
        self._keys = keys

    @property
    def ready(self) -> bool:
        """Whether the sum can be read."""
        return self._keys is not None or self._helped.keys() >= self._chunks.keys()

    def help(self, message: MaskSum, payload: Any) -> None:
        """Take the sum of the masks of one chunk. Raises BadMessage for what is none of them here."""
        if message.chunk not in self._chunks:
            raise BadMessage(f"the masks of chunk {message.chunk}, which is another server's")
        chunk, dtype = self._chunks[message.chunk], self._frames.encoding.dtype
        wanted = self._frames.words(chunk) * dtype.itemsize
        if memoryview(payload).nbytes != wanted:
            raise BadMessage(f"the masks of chunk {chunk.index} have {wanted} bytes")
        self._helped.setdefault(chunk.index, np.frombuffer(payload, dtype).copy())

    def result(self, index: int, weights: Sequence[float]) -> HostArray | None:
        """Return the combination for one chunk: 1-D, of its dtype; None when there is nothing to add.

        Raises WrongSum where what was summed does not fit together.
        """
        if not self.count:
            return None
        chunk, total = self._chunks[index], self._sums[index].copy()
        if self._keys is not None:
            apply_masks(total, self._frames.offset(index), self._keys, inverse=True)
        else:
            total -= self._helped[index]
        found = self._read[index] = self._frames.decode(chunk, total, self.count, self._round)
        return found.values

    @property
    def clipped(self) -> float:
        """The share of the elements that clients had to clip, over all of them; 0 before the sum is read."""
        elements = sum(each.elements for each in self._read.values())
        return sum(each.clipped for each in self._read.values()) / elements if elements else 0.0

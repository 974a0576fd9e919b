"""MaskedCombination: the sum of one round's masked contributions to a server's chunks, and what it says unmasked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ps.protocol.layout import Chunk
from ps.protocol.messages import RoundOrder
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

    def distances(self) -> HostArray:
        """Nobody knows them."""
        raise ValueError("distances under masks")

    def unseal(self, keys: Keys) -> None:
        """Learn the keys of the masks that are left in the sum."""
        self._keys = keys

    @property
    def ready(self) -> bool:
        """Whether the sum can be read."""
        return self._keys is not None or not self._chunks

    def result(self, index: int, weights: Sequence[float]) -> HostArray | None:
        """Return the combination for one chunk: 1-D, of its dtype; None when there is nothing to add.

        Raises WrongSum where what was summed does not fit together.
        """
        if not self.count:
            return None
        chunk, total = self._chunks[index], self._sums[index].copy()
        assert self._keys is not None
        apply_masks(total, self._frames.offset(index), self._keys, inverse=True)
        found = self._read[index] = self._frames.decode(chunk, total, self.count, self._round)
        return found.values

    @property
    def clipped(self) -> float:
        """The share of the elements that clients had to clip, over all of them; 0 before the sum is read."""
        elements = sum(each.elements for each in self._read.values())
        return sum(each.clipped for each in self._read.values()) / elements if elements else 0.0

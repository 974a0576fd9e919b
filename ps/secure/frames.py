"""Frames: what a client sends of each chunk under masks, and what a server reads out of the sum of them.

A frame is the words of the chunk's elements, and behind them a trailer, whose sums are read first: a check value of
what all must agree on (seed, round, codec, encoding), the weight, and how many elements were clipped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

from ps.compress import Key
from ps.compress.randomk import RandomK
from ps.dataclass import dataclass
from ps.errors import PSError
from ps.secure.masks import BLOCK
from ps.secure.ring import FIXED_BITS, Encoding
from ps.secure.rotation import rotate, unrotate
from ps.xp import HostArray

CHECK_BITS = 64
WEIGHT_UNIT = 1 << 16
"""What a weight of 1 is as a whole number."""
STAT_BITS = 48
"""Bits of the sum of weights, and of clipped elements."""


class WrongSum(PSError):
    """A sum whose check value is wrong: somebody used another seed, round, codec or mask."""


class ChunkLike(Protocol):
    """What is known of a chunk here."""

    @property
    def index(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def kind(self) -> str: ...

    @property
    def dtype(self) -> str: ...


@dataclass(frozen=True, slots=True)
class SummedChunk:
    """What a sum over clients tells of one chunk: the combination, and how many of how many elements were clipped."""

    values: HostArray
    clipped: int
    elements: int


class MaskedFrames:
    """How a job's chunks become frames. ``chunks``: all of the model's, in the order of their indices."""

    def __init__(
        self,
        encoding: Encoding,
        codec: Any,
        seed: int,
        chunks: Iterable[ChunkLike],
        *,
        rotates: bool = False,
        steady: bool = True,
        denominator: int = 0,
    ) -> None:
        """``codec``: the job's, which draws elements by chance common to all, or sends them all.

        ``steady``: whether all whose frames are in a sum are of one round. ``denominator``: of a sum to which clients
        add noise, whoever is in it; 0 where they add none.
        """
        self._denominator = denominator
        self._steady = steady
        self.encoding = encoding
        self._codec = codec if isinstance(codec, RandomK) else None
        self._context = f"{seed} {codec!r} {encoding!r} {rotates} {denominator}"
        self._seed = seed
        self._rotates = rotates
        self._offsets: dict[int, int] = {}
        at = 0
        for chunk in chunks:
            self._offsets[chunk.index] = at
            at += -(-self.words(chunk) * encoding.dtype.itemsize // BLOCK) * BLOCK

    def offset(self, index: int) -> int:
        """Return where a chunk's masks begin, in bytes."""
        return self._offsets[index]

    def elements(self, chunk: ChunkLike) -> int:
        """Return how many of a chunk's elements travel."""
        return self._codec.count(chunk.size) if self._codec and chunk.kind == "trainable" else chunk.size

    def words(self, chunk: ChunkLike) -> int:
        """Return how many words a chunk's frame has."""
        return self._body(chunk) + self._trailer

    def _body(self, chunk: ChunkLike) -> int:
        bits = {"counter": 64, "buffer": FIXED_BITS}.get(chunk.kind) if not self._denominator else None
        return self.elements(chunk) if bits is None else chunk.size * self.encoding.digits(bits)

    @property
    def _trailer(self) -> int:
        return CHECK_BITS // self.encoding.ring + 2 * self.encoding.digits(STAT_BITS)

    def encode(
        self,
        chunk: ChunkLike,
        values: HostArray,
        weight: float,
        round: int,
        rng: np.random.Generator,
    ) -> HostArray:
        """Return a chunk's words before masks. ``values``: what travels of it, finite. ``weight``: from 0 to 1."""
        round = round if self._steady else 0
        encoding, share = self.encoding, max(1, round_weight(weight))
        if chunk.kind == "counter":
            body, clipped = encoding.split(values, 64), 0
        elif chunk.kind == "buffer":
            body, clipped = encoding.fix(values, share / WEIGHT_UNIT), 0
        else:
            body, clipped = encoding.encode(self.turn(chunk, values, round), share / WEIGHT_UNIT, rng)
        return self._framed(chunk, body, share, clipped, round)

    def turn(self, chunk: ChunkLike, values: HostArray, round: int) -> HostArray:
        """Return a chunk's values as they are encoded: rotated, where that is done."""
        return rotate(values, self._key(chunk, round)) if self._rotates else values

    def encode_whole(self, chunk: ChunkLike, whole: HostArray, round: int) -> HostArray:
        """Return a chunk's words before masks, of whole steps with noise: int64. Nothing beside it tells of them."""
        return self._framed(chunk, self.encoding.wrap(whole), WEIGHT_UNIT, 0, round)

    def _framed(self, chunk: ChunkLike, body: HostArray, share: int, clipped: int, round: int) -> HostArray:
        encoding = self.encoding
        stats = encoding.split(np.array([share, clipped], np.int64), STAT_BITS)
        return np.concatenate([body, self._check(chunk, round), stats])

    def decode(self, chunk: ChunkLike, total: HostArray, count: int, round: int) -> SummedChunk:
        """Return what the sum of ``count`` clients' frames says: of counters their sum, else the weighted mean.

        Raises WrongSum where they did not all do the same.
        """
        round = round if self._steady else 0
        encoding, body = self.encoding, self._body(chunk)
        checks = CHECK_BITS // encoding.ring
        expected = self._check(chunk, round) * encoding.dtype.type(count)
        if not np.array_equal(total[body : body + checks], expected):
            raise WrongSum(
                f"the sum of round {round} in chunk {chunk.index} has a wrong check value: one of {count} clients used "
                f"another seed, round, codec or mask, and whose it was cannot be told"
            )
        weight, clipped = (int(each) for each in encoding.join(total[body + checks :], STAT_BITS))
        if chunk.kind == "counter":
            return SummedChunk(encoding.join(total[:body], 64).view(np.int64), 0, 0)
        mean = 1 / self._denominator if self._denominator else WEIGHT_UNIT / max(1, weight)
        if chunk.kind == "buffer" and not self._denominator:
            return SummedChunk(encoding.unfix(total[:body], chunk.dtype) * np.dtype(chunk.dtype).type(mean), 0, 0)
        found = encoding.decode(total[:body], count, np.float64)
        found *= mean
        if self._rotates:
            found = unrotate(found, self._key(chunk, round))
        values = found.astype(chunk.dtype)
        if self._codec:
            whole = np.zeros(chunk.size, chunk.dtype)
            whole[self._codec.draw(chunk.size, self._key(chunk, round))] = values
            values = whole
        return SummedChunk(values, clipped, count * found.size)

    def _key(self, chunk: ChunkLike, round: int) -> Key:
        return Key(self._seed, round, chunk.index, 0)

    def _check(self, chunk: ChunkLike, round: int) -> HostArray:
        text = f"{self._context} {round} {chunk.index} {chunk.size} {chunk.kind} {chunk.dtype}"
        return np.frombuffer(hashlib.sha256(text.encode()).digest()[: CHECK_BITS // 8], self.encoding.dtype)


def round_weight(weight: float) -> int:
    """Return a weight from 0 to 1 as a whole number of the smallest one."""
    return min(WEIGHT_UNIT, max(0, round(weight * WEIGHT_UNIT)))

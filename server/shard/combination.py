"""Combination: one round's contributions to a server's chunks, folded as they come or held, by the aggregator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ps.aggregators import Aggregator, distances
from ps.aggregators.running_sum import RunningSum
from ps.compress import Decoded
from ps.dataclass import dataclass
from ps.protocol.layout import Chunk
from ps.protocol.messages import RoundOrder
from ps.server.shard.staged import Part, read
from ps.xp import HostArray

Factors = tuple[float, float, float]
"""Weight, scale and bound of an entry that counts."""

BLOCK = 1 << 15
"""Elements of a block of which all contributions are looked at together."""


@dataclass(frozen=True, slots=True)
class Counted:
    """A contribution that counts: its weight, and what its delta is multiplied with.

    ``scale`` is the algorithm's and for what is trained; ``bound`` is the aggregator's, for that and for buffers.
    Control variates have neither weight nor factor: SCAFFOLD's ``c = mean(c_i)`` bears nothing but the mean.
    """

    weight: float
    scale: float
    bound: float
    parts: Mapping[int, Part]
    clip: float = 0.0
    """The norm that it is held to, with differential privacy."""


class Combination:
    """Takes contributions in the order of the ledger, and gives their combination for each chunk."""

    def __init__(self, aggregator: Aggregator, chunks: Mapping[int, Chunk]) -> None:
        self._aggregator = aggregator
        self._chunks = chunks
        floats = {index: chunk for index, chunk in chunks.items() if chunk.kind != "counter"}
        self._sums = {index: RunningSum(chunk.size, np.dtype(chunk.dtype)) for index, chunk in floats.items()}
        self._counts: dict[int, HostArray] = {}
        self._held: list[Counted] = []
        self.count = 0
        self._dtype = min((sums.dtype for sums in self._sums.values()), default=np.dtype(np.float64))
        self._limit = float(np.finfo(self._dtype).max)
        """What deltas are multiplied with is a number of their dtype."""
        self._unit = 0.0
        """The first weight: others are taken relative to it, so that equal weights cost no multiplication."""
        self._total = 0.0

    def refusal(self, entries: Iterable[Factors], order: RoundOrder, *, complete: bool) -> str:
        """Return why these entries cannot be taken, or combined as ordered where all are here then; or nothing."""
        unit, total, scales = self._unit, self._total, [counted.bound * counted.scale for counted in self._held]
        for weight, scale, bound in entries:
            unit = unit or weight
            part = weight / unit
            total += part
            if not self._fit(part, total, bound, bound * scale, part * bound, part * bound * scale):
                return f"a weight of {weight:g} beside {unit:g}, times {scale:g} and {bound:g}, is no {self._dtype}"
            scales.append(bound * scale)
        if not complete or order.phase not in ("measure", "prepare"):
            return ""
        weighs = self._aggregator.kind == "weigh"
        if order.phase == "measure":
            return "" if weighs else "distances are to be measured, and this job's aggregator looks at none"
        if not self._fit(order.factor, order.share):
            return f"a factor of {order.factor:g} or a share of {order.share:g} is no {self._dtype}"
        if weighs and len(order.weights) != len(scales):
            return f"{len(order.weights)} weights for {len(scales)} contributions"
        if weighs and not self._fit(*(weight * scale for weight, scale in zip(order.weights, scales, strict=True))):
            return f"a weight times what its delta is multiplied with is no {self._dtype}"
        return ""

    def _fit(self, *factors: float) -> bool:
        """Whether deltas can be multiplied with these."""
        return all(abs(factor) <= self._limit for factor in factors)

    ready = True
    """Nothing is sealed."""
    clipped = 0.0

    @property
    def holds(self) -> bool:
        """Whether the aggregator needs all contributions at once."""
        return self._aggregator.kind != "fold"

    def add(self, counted: Counted) -> None:
        """Take one contribution."""
        self.count += 1
        self._unit = self._unit or counted.weight
        weight = counted.weight / self._unit
        self._total += weight
        if self.holds:
            self._held.append(counted)
        for index, part in counted.parts.items():
            chunk = self._chunks[index]
            if chunk.kind == "counter":
                counts = self._counts.setdefault(index, np.zeros(chunk.size, chunk.dtype))
                counts += _dense(part)
            elif chunk.kind == "control":
                self._sums[index].add(part)
            elif not self.holds:
                self._sums[index].add(part, weight * _scale(counted, chunk.kind))

    def distances(self) -> HostArray:
        """Return the (n, n) squared distances between the held contributions, over all that it combines here."""
        found = np.zeros((self.count, self.count))
        for index, chunk in sorted(self._chunks.items()):
            if chunk.kind in ("trainable", "buffer"):
                found += distances([_scaled(counted, index, chunk.kind) for counted in self._held])
        return found

    def result(self, index: int, weights: Sequence[float]) -> HostArray | None:
        """Return the combination for one chunk: 1-D, of its dtype; None when there is nothing to add.

        ``weights`` are those of the held contributions, where the aggregator made them from distances.
        """
        chunk = self._chunks[index]
        if not self.count:
            return None
        if chunk.kind == "counter":
            return self._counts[index]
        running = self._sums[index]
        if chunk.kind == "control":
            return _over(running.take(), self.count)
        if self._aggregator.kind == "combine":
            return self._coordinatewise(index)
        if self._aggregator.kind == "fold":
            return _over(running.take(), self._total)
        for counted, weight in zip(self._held, weights, strict=True):
            if weight:
                running.add(counted.parts[index], weight * _scale(counted, chunk.kind))
        return running.take()

    def _coordinatewise(self, index: int) -> HostArray:
        assert self._aggregator.kind == "combine"
        chunk = self._chunks[index]
        out = np.empty(chunk.size, chunk.dtype)
        room = np.empty((self.count, min(BLOCK, chunk.size)), chunk.dtype)
        for lo in range(0, chunk.size, BLOCK):
            hi = min(lo + BLOCK, chunk.size)
            blocks = [
                np.multiply(read(counted.parts[index], lo, hi, row), _scale(counted, chunk.kind), out=row)
                for counted, row in zip(self._held, room[:, : hi - lo], strict=True)
            ]
            self._aggregator.combine(blocks, out[lo:hi])
        return out


def _over(total: HostArray, weights: float) -> HostArray:
    return np.multiply(total, 1 / weights, out=total)


def _scaled(counted: Counted, index: int, kind: str) -> HostArray:
    part, scale = _dense(counted.parts[index]), _scale(counted, kind)
    return part if scale == 1.0 else part * part.dtype.type(scale)


def _scale(counted: Counted, kind: str) -> float:
    return counted.bound * (counted.scale if kind == "trainable" else 1.0)


def _dense(part: Part) -> HostArray:
    if not isinstance(part, Decoded):
        return part
    out = np.empty(part.size, part.dtype)
    part.write(out)
    return out

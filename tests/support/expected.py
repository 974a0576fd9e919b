"""Expected: what every published version must be, worked out from the ledger and the clients' own deltas in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ps.aggregators import AGGREGATORS
from ps.config.job import JobConfig
from ps.protocol.layout import Chunk
from ps.server.scheduler.rounds.rounds import Rounds
from ps.server.shard.federated_shard import FederatedShard
from support.simclient import Work


class Expected:
    """The sequence of versions, chunk by chunk. The server optimizer is the algorithm's: SGD, or Nesterov."""

    def __init__(self, job: JobConfig, chunks: Sequence[Chunk], works: dict[int, Work]) -> None:
        self._job = job
        self._within = 1e-9 if job.secure == "none" else 1e-4 * job.rounds
        """How far weights may be from what they should be: under masks they are rounded."""
        self._chunks = {chunk.index: chunk for chunk in chunks}
        self._works = works
        self._values: list[dict[int, Any]] = [{chunk.index: self.first(chunk) for chunk in chunks}]
        self._bits: dict[tuple[int, int], bytes] = {}
        self._decided: dict[int, Any] = {}
        self._momenta: dict[int, Any] = {}
        self.published: dict[int, list[int]] = {}
        """Version -> the tasks that it is made of."""

    @staticmethod
    def first(chunk: Chunk) -> Any:
        if chunk.kind == "control":
            return np.zeros(chunk.size, chunk.dtype)
        return np.arange(chunk.size).astype(chunk.dtype)

    def look(self, rounds: Rounds) -> None:
        """Note what the scheduler has decided: from the phase publish on it is irrevocable."""
        ledger = rounds._contributions.ledger
        if rounds.phase != "publish":
            return
        entries = [entry for entry in ledger.entries if entry[1] > 0]
        decided = entries, ledger.weights, ledger.factor, ledger.share
        version = ledger.version + 1
        assert self._decided.setdefault(version, decided) == decided, f"two decisions on version {version}"
        if version not in self.published:
            self.published[version] = [task for task, *_ in entries]
            self._values.append({i: self._next(chunk, version, *decided) for i, chunk in self._chunks.items()})

    def _next(self, chunk: Chunk, version: int, entries: Any, weights: Any, factor: float, share: float) -> Any:
        before = self._values[version - 1][chunk.index]
        parts = [self._works[task].parts[chunk.index] for task, *_ in entries]
        if chunk.kind == "counter":
            return before + sum(parts)
        if chunk.kind == "control":
            return before + share * np.mean(parts, axis=0)
        scaled = [
            part * (bound * (scale if chunk.kind == "trainable" else 1.0))
            for part, (_, _, scale, bound) in zip(parts, entries, strict=True)
        ]
        name = AGGREGATORS.parse(self._job.aggregator if self._job.aggregator != "auto" else "mean").name
        if name == "median":
            found = np.median(scaled, axis=0)
        else:
            by = weights or [weight for _, weight, _, _ in entries]
            found = sum(weight * part for weight, part in zip(by, scaled, strict=True)) / sum(by)
        step = found * (factor if chunk.kind == "trainable" else 1.0)
        if self._job.algorithm == "diloco" and chunk.kind == "trainable":  # its outer step: Nesterov, 0.7 and 0.9
            momentum = self._momenta[chunk.index] = 0.9 * self._momenta.get(chunk.index, 0.0) + step
            step = 0.7 * (step + 0.9 * momentum)
        return before + step

    def check(self, shard: FederatedShard) -> None:
        """A server's weights are those of its version, and the same bits whoever published them."""
        for index, state in shard.chunks.items():
            if not state.filled:
                continue
            key = shard.version, index
            bits = state.weights.tobytes()
            assert self._bits.setdefault(key, bits) == bits, f"two contents of version and chunk {key}"
            np.testing.assert_allclose(state.weights, self._values[shard.version][index], rtol=1e-9, atol=self._within)

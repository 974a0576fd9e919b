"""Parcel: a delta as frames for each chunk, with the error feedback of what compression leaves out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ps import xp
from ps.compress import Key, Uplink
from ps.config.job import JobConfig
from ps.protocol.layout import Chunk
from ps.worker.federated.training import beside
from ps.xp import Array, HostArray


class DeltaEncoder:
    """The job's codec, and what this client remembers of each chunk. ``state`` is to outlive the process."""

    def __init__(self, job: JobConfig, rank: int) -> None:
        self._uplink = Uplink(job.specs.compress)
        self._plain = job.compress == "none"
        self._seed = job.seed
        self._rank = rank
        self.state: dict[int, dict[str, Array]] = {}

    def pack(self, delta: Mapping[str, Array], chunks: Iterable[Chunk], round: int) -> dict[int, HostArray]:
        """Return a frame for each chunk, in host memory; to be called once for each delta."""
        return {
            chunk.index: self._frame(delta[chunk.section][chunk.start : chunk.stop], chunk, round) for chunk in chunks
        }

    def _frame(self, part: Array, chunk: Chunk, round: int) -> HostArray:
        if self._plain or not chunk.compressible:
            return xp.to_host(part)
        known = self.state.get(chunk.index) or self._uplink.init(part)
        state = {name: beside(array, part).copy() for name, array in known.items()}
        frame = xp.to_host(self._uplink.encode(part, state, self._key(chunk, round)))
        if _finite(state):  # else it would send NaN for ever
            self.state[chunk.index] = state
        return frame

    def give_back(self, frames: Mapping[int, HostArray], chunks: Iterable[Chunk], round: int) -> None:
        """Remember a delta that did not count, where the codec has a memory for it."""
        for chunk in chunks:
            known = self.state.get(chunk.index, {})
            if "residual" in known:
                state = {**known, "residual": known["residual"].copy()}
                self._uplink.give_back(beside(frames[chunk.index], state["residual"]), state, self._key(chunk, round))
                if _finite(state):
                    self.state[chunk.index] = state

    def _key(self, chunk: Chunk, round: int) -> Key:
        return Key(self._seed, round, chunk.index, self._rank)


def _finite(state: Mapping[str, Array]) -> bool:
    return all(bool(xp.namespace(array).isfinite(array).all()) for array in state.values())

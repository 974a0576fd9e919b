"""ShardCheckpoint: what a federated server keeps on disk, so that one that was killed comes back as the same."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import field

import numpy as np

from ps.config.job import JobConfig
from ps.dataclass import dataclass
from ps.errors import ConfigError
from ps.protocol.layout import Layout
from ps.secure.frames import MaskedFrames
from ps.server.shard.chunk import ChunkState
from ps.state_file import StateFile
from ps.xp import HostArray

MODEL, PREPARED = "model", "prepared"


@dataclass(frozen=True, slots=True)
class Prepared:
    """The combination of a round's contributions, from the moment on from which it must not be lost."""

    attempt: int
    floor: int
    factor: float
    share: float
    parts: Mapping[int, HostArray | None]
    masked: int = 0
    """Of how many contributions the parts are sums under masks, of words; 0 for what can be applied as it is."""


@dataclass(frozen=True, slots=True)
class SavedModel:
    """A share of a model as it was kept: ``arrays`` are ``weights/CHUNK`` and ``SLOT/CHUNK``."""

    layout: Layout
    version: int
    updates: Mapping[int, int]
    arrays: Mapping[str, HostArray] = field(repr=False)


class ShardCheckpoint:
    """The published model, and what is prepared for the next version."""

    def __init__(self, state_file: StateFile, job: JobConfig, rank: int, optimizer: str) -> None:
        self._state_file = state_file
        self._belongs = {"servers": job.servers, "chunk_size": job.chunk_bytes, "rank": rank, "optimizer": optimizer}

    @property
    def durable(self) -> bool:
        """Whether what was kept last would outlive this process."""
        return self._state_file.durable

    @property
    def due(self) -> bool:
        """Whether something could not be kept and is to be tried again now."""
        return self._state_file.due

    def keep_again(
        self, layout: Layout, version: int, chunks: Mapping[int, ChunkState], prepared: Prepared | None
    ) -> None:
        """Keep what could not be kept when it was made."""
        if self._state_file.failing(MODEL):
            self._keep(layout, version, chunks)
        if self._state_file.failing(PREPARED):
            self.keep_prepared(version, prepared) if prepared is not None else self.drop_prepared()

    def keep_model(self, layout: Layout, version: int, chunks: Mapping[int, ChunkState]) -> None:
        """Keep a published model, in the place of the one before and of what was prepared for it."""
        self._keep(layout, version, chunks)
        self._state_file.drop(PREPARED)

    def _keep(self, layout: Layout, version: int, chunks: Mapping[int, ChunkState]) -> None:
        arrays = {f"weights/{index}": chunk.weights for index, chunk in chunks.items()}
        for index, chunk in chunks.items():
            arrays.update({f"{slot}/{index}": values for slot, values in chunk.slots.items()})
        updates = {index: chunk.updates for index, chunk in chunks.items()}
        self._state_file.keep(
            MODEL, {**self._belongs, "layout": layout.pack(), "version": version, "updates": updates}, arrays
        )

    def keep_prepared(self, version: int, prepared: Prepared) -> None:
        """Keep what is about to become the version after this one."""
        values = {
            "version": version,
            "attempt": prepared.attempt,
            "floor": prepared.floor,
            "factor": prepared.factor,
            "share": prepared.share,
            "masked": prepared.masked,
        }
        parts = {str(index): part for index, part in prepared.parts.items() if part is not None}
        self._state_file.keep(PREPARED, values, parts)

    def drop_prepared(self) -> None:
        """Nothing is prepared any more."""
        self._state_file.drop(PREPARED)

    def model(self) -> SavedModel | None:
        """Return the model, if one is kept. Raises ConfigError when it belongs to another job or server."""
        found = self._state_file.load(MODEL)
        if found is None:
            return None
        values, arrays = found
        theirs = {key: values.get(key) for key in self._belongs}
        if theirs != self._belongs:
            ours = list(self._belongs.values())
            raise ConfigError(
                f"the state file is of a server with {list(theirs.values())}, not {ours}; give another --state"
            )
        with self.reading():
            layout = Layout.unpack(tuple((name, section, tuple(shape)) for name, section, shape in values["layout"]))
            updates = {int(index): int(count) for index, count in values["updates"].items()}
            return SavedModel(layout, int(values["version"]), updates, arrays)

    def reading(self) -> AbstractContextManager[None]:
        """What goes wrong inside is the fault of the model's file: raises ConfigError."""
        return self._state_file.reading(MODEL)

    def prepared(self, version: int, chunks: Mapping[int, ChunkState], frames: MaskedFrames | None) -> Prepared | None:
        """Return what was prepared for the version after this one, if anything was. ``frames``: under masks."""
        found = self._state_file.load(PREPARED)
        if found is None or found[0].get("version") != version:
            return None
        values, arrays = found
        with self._state_file.reading(PREPARED):
            parts = {index: arrays.get(str(index)) for index in chunks}
            masked = int(values.get("masked", 0))
            for index, part in parts.items():
                if part is not None:
                    demand(part, chunks[index], frames if masked else None)
            numbers = int(values["attempt"]), int(values["floor"]), float(values["factor"]), float(values["share"])
            return Prepared(*numbers, parts, masked)


def demand(array: HostArray, chunk: ChunkState, frames: MaskedFrames | None = None) -> HostArray:
    """Return an array from a file if it is one of a chunk, or its words as ``frames`` have it. Raises ValueError."""
    wanted = (chunk.chunk.size,), np.dtype(chunk.chunk.dtype)
    if frames is not None:
        wanted = (frames.words(chunk.chunk),), frames.encoding.dtype
    if (array.shape, array.dtype) != wanted:
        raise ValueError(f"chunk {chunk.chunk.index} has {array.dtype}{list(array.shape)}, not {wanted[1]}{wanted[0]}")
    return array


def kept_rank(state_file: StateFile) -> int | None:
    """Return the rank of the server that a state file is of, if it knows."""
    rank = (state_file.glance(MODEL) or {}).get("rank")
    return rank if isinstance(rank, int) and rank >= 0 else None

"""ChunkSnapshot: all that a server knows of one chunk at one version, as one thing that can be written or sent."""

from __future__ import annotations

from collections.abc import Mapping

from ps.checkpoint.manifest import SavedChunk
from ps.dataclass import dataclass
from ps.protocol.layout import Chunk
from ps.protocol.messages.rate import Rate
from ps.xp import HostArray

WEIGHTS, MASTER, SLOT, SHADOW, CODEC = "weights", "master", "slot/", "shadow", "codec/"


@dataclass(slots=True)
class ChunkSnapshot:
    """``arrays`` are nobody else's: ``weights``, ``master``, ``slot/NAME``, ``shadow``, ``codec/NAME``."""

    chunk: Chunk
    version: int
    updates: int
    reached: int
    missed: Mapping[int, int]
    """Tensor, by its number in the chunk -> updates that it took no part in."""
    rate: Rate
    done: Mapping[int, int]
    """Rank -> clocks of that worker that are counted."""
    shadow: int
    arrays: dict[str, HostArray]
    examples: float = 0.0
    """Examples of which there are gradients in the weights."""

    def saved(self, file: str, names: tuple[str, ...]) -> SavedChunk:
        """Return what a manifest says of it; ``names`` are its tensors, ``file`` where its arrays are."""
        chunk = self.chunk
        missed = {names[number]: count for number, count in self.missed.items()}
        arrays = {kind: entry_of(chunk, kind) for kind in self.arrays}
        return SavedChunk(
            chunk.index,
            chunk.section,
            chunk.start,
            chunk.stop,
            file,
            self.version,
            self.updates,
            self.reached,
            missed,
            self.rate,
            dict(self.done),
            self.shadow,
            arrays,
            self.examples,
        )

    def entries(self) -> dict[str, HostArray]:
        """Return its arrays by what they are called in a file."""
        return {entry_of(self.chunk, kind): array for kind, array in self.arrays.items()}


def name_of(chunk: Chunk) -> str:
    """Return what a chunk is called in a file: its section, and which elements of it it has."""
    return f"{chunk.section}[{chunk.start}:{chunk.stop}]"


def entry_of(chunk: Chunk, kind: str) -> str:
    """Return what an array of a chunk is called in a file."""
    return f"{name_of(chunk)}/{kind}"

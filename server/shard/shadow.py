"""Shadow: a chunk's weights as workers have them, and what was last sent to bring them there."""

from __future__ import annotations

from dataclasses import field

from ps.compress import Downlink
from ps.compress.key import DOWN, Key
from ps.dataclass import dataclass
from ps.protocol.layout import Chunk
from ps.xp import Array, HostArray


@dataclass(slots=True)
class Shadow:
    """The weights of one worker, or of all, at ``version``; ``frame`` led there from version ``before``."""

    weights: HostArray
    state: dict[str, Array]
    version: int
    before: int = -1
    frame: HostArray | None = field(default=None, repr=False)

    @classmethod
    def of(cls, downlink: Downlink, weights: HostArray, version: int) -> Shadow:
        """Return the shadow of a worker that gets these weights uncompressed."""
        return cls(weights.copy(), downlink.init(weights), version)

    def follow(self, downlink: Downlink, chunk: Chunk, weights: HostArray, version: int, seed: int) -> None:
        """Move towards the weights of a later version, by a frame; to the weights themselves if there is none."""
        if version != self.version:
            key = Key(seed, version, chunk.index, DOWN)
            self.frame = downlink.encode(weights, self.weights, self.state, key)
            if self.frame is None:
                self.weights, self.state = weights.copy(), downlink.init(weights)
            self.before, self.version = self.version, version

    def keep(self, version: int) -> None:
        """Be that of the next version too, which has the same weights."""
        if self.version == version - 1:
            self.version, self.before, self.frame = version, -1, None

    def frame_for(self, version: int) -> HostArray | None:
        """Return the frame that leads here from a worker's version, if it is the last one."""
        return self.frame if version == self.before and version >= 0 else None

"""WorkerMemory: what one worker and the servers of its host share: where gradients lie and where weights are put."""

from __future__ import annotations

from ps.errors import BadMessage
from ps.protocol.layout import Chunk
from ps.protocol.segment import Segment, pages
from ps.xp import HostArray

_REGIONS = ("gradients", "weights", "aside")


class WorkerMemory:
    """A segment with three regions, each as large as the model's flat buffer and beginning at a whole page.

    The worker writes ``gradients`` before it says Push, and lets them be until the answer; the server writes
    ``weights`` and ``aside`` before it answers, and only what was asked for. So neither reads what the other writes.
    """

    def __init__(self, segment: Segment, nbytes: int) -> None:
        """Share memory for a model of ``nbytes``. Raises Unshared when it cannot be mapped."""
        self.segment = segment
        self.nbytes = nbytes
        whole = segment.array(0, self.size(nbytes))
        self._regions = {name: whole[self.offset(name) :][:nbytes] for name in _REGIONS}

    @classmethod
    def create(cls, nbytes: int) -> WorkerMemory:
        """Make the memory, with room set aside for gradients and weights. Raises Unshared."""
        segment = Segment.create(cls.size(nbytes))
        segment.reserve(0, cls.size(nbytes) - pages(nbytes))  # most never put anything aside
        return cls(segment, nbytes)

    @staticmethod
    def size(nbytes: int) -> int:
        """Return the bytes of the segment for a model of ``nbytes``."""
        return len(_REGIONS) * pages(nbytes)

    def offset(self, region: str) -> int:
        """Return where a region begins in the segment."""
        return _REGIONS.index(region) * pages(self.nbytes)

    def array(self, region: str) -> HostArray:
        """Return a region as uint8, ``nbytes`` long."""
        return self._regions[region]

    def part(self, region: str, chunk: Chunk) -> HostArray:
        """Return a chunk's elements in a region. Raises BadMessage when the memory is too small for it."""
        stop = chunk.offset + chunk.nbytes
        if stop > self.nbytes:
            raise BadMessage(f"chunk {chunk.index} ends at byte {stop}, the shared memory is for {self.nbytes}")
        return self.array(region)[chunk.offset : stop].view(chunk.dtype)

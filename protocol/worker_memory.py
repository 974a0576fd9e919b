"""WorkerMemory: what one worker and the servers of its host share: where gradients lie and where weights are put."""

from __future__ import annotations

import bisect

from ps.errors import BadMessage
from ps.protocol.layout import ALIGN, Chunk
from ps.protocol.segment import Segment, pages
from ps.xp import HostArray

Sections = tuple[tuple[int, int, int], ...]
"""Of each section, in order, where it begins in the whole model, its bytes, and where it begins here."""
_REGIONS = ("gradients", "weights", "aside")


class WorkerMemory:
    """A segment with three regions, each as large as the worker's flat buffer and beginning at a whole page.

    The worker writes ``gradients`` before it says Push, and lets them be until the answer; the server writes
    ``weights`` and ``aside`` before it answers, and only what was asked for. So neither reads what the other writes.
    """

    def __init__(self, segment: Segment, nbytes: int, sections: Sections | None = None) -> None:
        """Share memory for a buffer of ``nbytes``, that of a whole model unless it is one of some ``sections``.

        Raises Unshared when it cannot be mapped, and BadMessage for sections that make no sense.
        """
        self.segment = segment
        self.nbytes = nbytes
        self.sections = sections
        self._begins = [begin for begin, _, _ in sections or ()]
        if sections is not None:
            _check(sections, nbytes)
        whole = segment.array(0, self.size(nbytes))
        self._regions = {name: whole[self.offset(name) :][:nbytes] for name in _REGIONS}

    @classmethod
    def create(cls, nbytes: int, sections: Sections | None = None, *, in_place: bool = False) -> WorkerMemory:
        """Make the memory, with room set aside for gradients; and for weights, unless they are to be read ``in_place``,
        where the servers keep them. Raises Unshared."""
        made = cls(Segment.create(cls.size(nbytes)), nbytes, sections)
        for region in ("gradients",) if in_place else ("gradients", "weights"):  # most never put anything aside
            made.reserve(region)
        return made

    def reserve(self, region: str) -> HostArray:
        """Have room set aside for a region, if it is not, and return it. Raises Unshared."""
        self.segment.reserve(self.offset(region), pages(self.nbytes))
        return self.array(region)

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
        """Return a chunk's elements in a region. Raises BadMessage when the memory has no room for it."""
        start = chunk.offset if self.sections is None else self._place_of(chunk)
        stop = start + chunk.nbytes
        if stop > self.nbytes:
            raise BadMessage(f"chunk {chunk.index} ends at byte {stop}, the shared memory is for {self.nbytes}")
        return self.array(region)[start:stop].view(chunk.dtype)

    def _place_of(self, chunk: Chunk) -> int:
        """Return where a chunk begins that is known by its place in the whole model."""
        at = bisect.bisect_right(self._begins, chunk.offset) - 1
        begin, size, place = self.sections[at] if self.sections and at >= 0 else (0, 0, 0)
        if chunk.offset + chunk.nbytes > begin + size:
            raise BadMessage(f"chunk {chunk.index} is of no section that this memory is for")
        return place + chunk.offset - begin


def _check(sections: Sections, nbytes: int) -> None:
    """Raise BadMessage for sections that are not in order, or not within memory of so many bytes."""
    before = 0
    for begin, size, place in sections:
        if begin < before or place % ALIGN or place + size > nbytes:
            raise BadMessage(f"a section of {size} bytes from byte {begin} at {place}, in memory for {nbytes}")
        before = begin + size

"""Weights: memory that a store writes and a script only reads. The same pages are mapped twice, once for each."""

from __future__ import annotations

import numpy as np

from ps.errors import Unshared
from ps.protocol.segment import MappedView, Segment
from ps.protocol.worker_memory import WorkerMemory
from ps.xp import HostArray


def twice(nbytes: int) -> tuple[HostArray, HostArray]:
    """Return memory (uint8, all 0) as a store writes it, and as a script sees it.

    The system stops whoever writes to what the script sees, also PyTorch and C, which do not know that an array is
    read-only. Where there is no such memory only NumPy knows.
    """
    try:
        segment = Segment.create(nbytes)
        segment.reserve(0, nbytes)
        own = segment.array(0, nbytes)
    except Unshared:
        own = np.zeros(nbytes, np.uint8)
        return own, _read_only(own)
    return own, _seen(segment, 0, own)


def shared_twice(memory: WorkerMemory) -> tuple[HostArray, HostArray]:
    """Return the same for the weights that servers of this host put into a worker's memory."""
    own = memory.array("weights")
    return own, _seen(memory.segment, memory.offset("weights"), own)


def _seen(segment: Segment, offset: int, own: HostArray) -> HostArray:
    try:
        return MappedView(segment, offset, own.nbytes, writable=False).array
    except Unshared:  # the number of mappings is used up
        return _read_only(own)


def _read_only(memory: HostArray) -> HostArray:
    view = memory.view()
    view.flags.writeable = False
    return view

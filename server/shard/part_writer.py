"""PartWriter: a server's part of a checkpoint on its way to the disk, on a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from ps import sigterm
from ps.checkpoint.chunk_snapshot import ChunkSnapshot
from ps.checkpoint.parts import part_of, remove_part, write_chunks
from ps.checkpoint.place import CheckpointPlace
from ps.errors import PSError
from ps.protocol.layout import Layout
from ps.threads import give_way

log = logging.getLogger("ps.server")


SHARE, LEAST = 0.25, 0.05
"""Of the processor time that the rest of the process takes meanwhile, and of all time, what such a thread takes while
that is busy, whichever is more: steps are to be hardly longer."""
CREDIT = 0.02
"""Seconds of a processor that it may be ahead: what is small is written at once."""
NAP = 0.01


class Throttle:
    """Has a thread wait between portions of its work while ``is_busy``, until it has its ``SHARE``, and no more.

    Whoever has been asked to end makes haste.
    """

    def __init__(self, is_busy: Callable[[], bool]) -> None:
        self._is_busy = is_busy
        self._begin()

    def _begin(self) -> None:
        self._own, self._all, self._since = time.thread_time(), time.process_time(), time.monotonic()

    def rest(self) -> None:
        """A portion is done."""
        while self._is_ahead():
            if not self._is_busy() or sigterm.status():
                self._begin()
                return
            time.sleep(NAP)

    def _is_ahead(self) -> bool:
        own, whole = time.thread_time() - self._own, time.process_time() - self._all
        return own > CREDIT + max(SHARE * (whole - own), LEAST * (time.monotonic() - self._since))


class PartWriter:
    """Writes one part, with what time of processors training leaves.

    Its thread is ended by nothing but the end of its work, or of the process.
    """

    def __init__(
        self,
        place: CheckpointPlace,
        folder: str,
        rank: int,
        layout: Layout,
        snapshots: Sequence[ChunkSnapshot],
        job_id: str,
        is_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        """``is_busy``: whether the server has something else to do, which is not to be slowed down."""
        self._place = place
        self._folder = folder
        self._name = part_of("server", rank)
        self._unwanted = threading.Event()
        self._is_busy = is_busy
        self.trouble = ""
        self._work = layout, list(snapshots), {"job": job_id}
        self._thread = threading.Thread(target=self._run, name="ps-checkpoint", daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether it is written, or will not be."""
        return not self._thread.is_alive()

    def drop(self) -> None:
        """It is not wanted any more, see ``Writing``."""
        self._unwanted.set()
        if self.done:
            about = self._place, self._folder, self._name
            threading.Thread(target=remove_part, args=about, name="ps-checkpoint", daemon=True).start()

    def _run(self) -> None:
        give_way()
        layout, snapshots, about = self._work
        self._work = layout, [], about  # the copies are let go with this call
        throttle = Throttle(self._is_busy)
        try:
            for each in snapshots:
                if bad := _infinite(layout, each):
                    self.trouble = bad
                    return
                throttle.rest()
            write_chunks(self._place, self._folder, self._name, layout, snapshots, about, throttle.rest)
        except PSError as error:
            self.trouble = str(error)
        except Exception as error:  # a bug must not look like a disk that takes for ever
            log.exception("a part of a checkpoint was not written")
            self.trouble = repr(error)
        if self.trouble or self._unwanted.is_set():
            remove_part(self._place, self._folder, self._name)


def _infinite(layout: Layout, snapshot: ChunkSnapshot) -> str:
    """Return what is wrong with a chunk in which not all is finite, or nothing."""
    for kind, array in snapshot.arrays.items():
        if (array.dtype.kind == "f" or array.dtype.name == "bfloat16") and not np.isfinite(array).all():
            names = ", ".join(repr(t.name) for t in layout.parts_in(snapshot.chunk)[:3])
            return f"{kind} of {names} are not finite"
    return ""

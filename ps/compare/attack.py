"""Attack: kills participants of a run with SIGKILL in its middle, as a lost machine would be gone."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ps.compare.follow import Follow
from ps.dataclass import dataclass
from ps.json_lines import amount
from ps.record_files import EVALUATIONS, METRICS

Pids = Callable[[], Mapping[int, int]]
"""Returns the process of each rank that is live now."""


@dataclass(frozen=True, slots=True)
class Middle:
    """Half of what the run without drop-outs took: clocks, and seconds from its first step to its last."""

    clock: float
    seconds: float


class Attack:
    """Waits for the middle of a run, and kills its victims then, once."""

    def __init__(
        self,
        victims: Sequence[int],
        middle: Middle,
        folder: Path,
        pids: Pids,
        *,
        kill: Callable[[int, int], None] = os.kill,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.killed: tuple[int, ...] = ()
        """The ranks that were killed; none before the middle, or when the run was over by then."""
        self.moment = 0.0
        """When, in Unix time."""
        self.at_clock = 0
        """The latest clock that was known then: up to half a second old, since records are written in batches."""
        self._victims = tuple(victims)
        self._middle = middle
        # Steps are written down in batches, up to half a second late; an evaluation may be there before them.
        self._files = (Follow(folder / METRICS), Follow(folder / EVALUATIONS))
        self._pids = pids
        self._kill = kill
        self._clock = clock
        self._began = 0.0

    def tick(self) -> None:
        """Look how far the run is, and strike when it is in its middle."""
        if self.killed:
            return
        for line in (line for file in self._files for line in file.news()):
            self._began = self._began or amount(line, "t")
            self.at_clock = max(self.at_clock, int(amount(line, "clock")))
        if not self._began:
            return
        # The record lags behind; a short run would be over before its half could be read.
        if self.at_clock < self._middle.clock and self._clock() - self._began < self._middle.seconds:
            return
        pids = self._pids()
        self.moment = self._clock()
        self.killed = tuple(rank for rank in self._victims if rank in pids and self._strike(pids[rank]))

    def _strike(self, pid: int) -> bool:
        with contextlib.suppress(ProcessLookupError):
            self._kill(pid, signal.SIGKILL)
            return True
        return False

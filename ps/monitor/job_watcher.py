"""JobWatcher: asks a scheduler once a second how its job is, for all who look."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ps.dataclass import dataclass
from ps.errors import PSError
from ps.launch.pace import Pace
from ps.launch.progress import progress_of
from ps.monitor.job_history import JobHistory
from ps.monitor.job_rates import JobRates
from ps.monitor.snapshot import Snapshot, snapshot_of
from ps.monitor.time_series import MOST
from ps.monitor.values import text

INTERVAL = 1.0
"""Seconds between two questions."""
STALE = 5.0
"""Seconds without news after which that is said."""

Fetch = Callable[[], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Seen:
    """The latest snapshot, its number, when it was taken (monotonic), and why there is no newer one, if so."""

    number: int
    snapshot: Snapshot
    taken: float
    trouble: str = ""


class JobWatcher:
    """Holds the latest snapshot and the curves. ``look`` is for one thread; the rest is for any."""

    def __init__(
        self,
        fetch: Fetch,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._fetch, self._monotonic, self._wall = fetch, monotonic, wall
        self._rates, self._pace, self._history = JobRates(), Pace(), JobHistory()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._seen: Seen | None = None

    @property
    def seen(self) -> Seen | None:
        """The latest snapshot; None before the first."""
        return self._seen

    def curves(self, most: int = MOST) -> dict[str, dict[str, list[Any]]]:
        """Return the curves so far, see ``JobHistory``, or so many last points of each."""
        with self._lock:
            return self._history.curves(most)

    def silence(self) -> float:
        """Return for how many seconds there has been no news."""
        return 0.0 if self._seen is None else self._monotonic() - self._seen.taken

    def look(self) -> None:
        """Ask once. Raises what the question raises, PSError above all; what is known stays."""
        status = self._fetch()
        now, wall = self._monotonic(), self._wall()
        progress = progress_of(status)
        if progress.total:
            self._pace.note(now, progress.done)
        left = self._pace.left(progress.total) if progress.total else None
        snapshot = snapshot_of(status, self._rates.look(status, now), wall, left)
        number = 1 if self._seen is None else self._seen.number + 1
        with self._lock:
            self._history.add(snapshot)
        self._seen = Seen(number, snapshot, now)

    def run(self, noticed: Callable[[], None] = lambda: None) -> None:
        """Ask once a second until ``stop`` is called; ``noticed`` is called after each."""
        while not self._stop.is_set():
            began = self._monotonic()
            try:
                self.look()
            except (PSError, OSError) as error:
                self._note(text(error, 500))
            except Exception as error:  # a status such as nobody has thought of: the next one may do
                self._note(text(f"{type(error).__name__}: {error}", 500))
            noticed()
            self._stop.wait(max(0.05, INTERVAL - (self._monotonic() - began)))

    def stop(self) -> None:
        """Ask no more."""
        self._stop.set()

    def _note(self, trouble: str) -> None:
        if (seen := self._seen) is not None and seen.trouble != trouble:
            self._seen = Seen(seen.number + 1, seen.snapshot, seen.taken, trouble)

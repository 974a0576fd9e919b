"""Spin: looking again and again for a moment before sleeping, where what is waited for comes at once.

Whoever sleeps has to be woken, and to wake a processor that had nothing else to do takes 20 to 40 µs of both sides:
half of a small step. So a wait looks for a moment without sleeping, if the waits before it were as short. It is not
for others to pay for that: there are to be no more processes than processors, and once the system takes this thread's
processor away for somebody else again and again, no wait does so for a while.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable

from ps.cores import cores

LONGEST = 150e-6
"""Seconds of one such wait, at most, and of the waits before it."""
PROBATION, LONGEST_PROBATION = 4, 1024
"""Short waits, one after the other, that make another one likely; twice as many each time that looking was in vain, as
it is where the system has put both on one processor because others keep the rest."""
LOOK = 64
"""Such waits after which it is seen what they did to others."""
OWN = 0.9
"""The part of the time that it looks in which a thread has the processor, at least, where nobody else wants it."""
LOST = 3
"""How many more rounds than others had less, where somebody does. Single ones have on a machine that nothing else uses:
when the system puts the two who wait for each other on one processor, for some 20 ms."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 2.0
"""Seconds without such waits where somebody else wanted the processor; twice as long each time that it is so again."""


class Spin:
    """The waits of one thread for some descriptors."""

    def __init__(
        self,
        crowd: Callable[[], int] = lambda: 0,
        *,
        processors: int | None = None,
        now: Callable[[], float] = time.perf_counter,
        spent: Callable[[], float] = time.thread_time,
    ) -> None:
        """``crowd`` returns how many processes share this host's processors, as far as is known; 0: too many.

        ``spent`` returns the seconds of a processor that the calling thread has had.
        """
        self._crowd = crowd
        self._now = now
        self._spent = spent
        self._processors = cores() if processors is None else processors
        self._poll = select.poll()
        self._fds: set[int] = set()
        self._short = 0
        self._probation = PROBATION
        self._looks = 0
        self._looked = self._had = 0.0
        self._lost = 0
        self._pause = FIRST_PAUSE
        self._until = 0.0
        self._began = 0.0

    def add(self, fd: int) -> None:
        """Look at a descriptor."""
        self._poll.register(fd, select.POLLIN)
        self._fds.add(fd)

    def remove(self, fd: int) -> None:
        """Look at it no more."""
        if fd in self._fds:
            self._poll.unregister(fd)
            self._fds.remove(fd)

    def begin(self) -> bool:
        """Begin a wait; return whether ``look`` is likely to find something."""
        self._began = self._now()
        return self._short >= self._probation and self._began >= self._until and bool(self._fds)

    def look(self) -> list[int]:
        """Return the descriptors that have something to read, or are closed, after at most LONGEST; or none."""
        if not self._looks % LOOK and not self._may():
            return []
        self._looks += 1
        poll, until, now, before = self._poll.poll, self._began + LONGEST, self._now, self._spent()
        while not (found := poll(0)) and now() <= until:
            pass
        self._looked += now() - self._began
        self._had += self._spent() - before
        self._probation = max(PROBATION, self._probation // 2) if found else min(LONGEST_PROBATION, 2 * self._probation)
        return [fd for fd, _ in found]

    def end(self) -> None:
        """The wait is over, however it was waited."""
        self._short = self._short + 1 if self._now() - self._began <= LONGEST else 0

    def _may(self) -> bool:
        """Whether nobody else wants the processor, as far as can be seen."""
        if self._looks and self._had >= OWN * self._looked:
            self._lost = max(0, self._lost - 1)
            self._pause = max(FIRST_PAUSE, self._pause / 2)
        elif self._looks:  # else there is nothing to judge by yet
            self._lost += 1
        self._looked = self._had = 0.0
        if 0 < self._crowd() <= self._processors and self._lost < LOST:
            return True
        self._lost = min(self._lost, LOST - 1)  # once more is enough after a pause
        self._until = self._began + self._pause
        self._pause = min(LONGEST_PAUSE, 2 * self._pause)
        self._looks = 0
        return False

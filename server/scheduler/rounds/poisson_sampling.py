"""PoissonSampling: whether a client is in a round, by a chance of its own that is the operating system's.

Nobody who knows the job's seed can tell who was drawn, and one client's chance has nothing to do with another's: that
is what amplification by sampling rests on. A client that is drawn and is not there, or gives its task back, only makes
its own chance smaller.
"""

from __future__ import annotations

from random import SystemRandom


class PoissonSampling:
    """Draws once for each client and attempt, when it is first asked about it."""

    def __init__(self, chance: float, source: SystemRandom | None = None) -> None:
        """``chance``: the probability for each client; ``source``: of the draws."""
        self._chance, self._source = chance, source or SystemRandom()
        self._drawn: dict[int, bool] = {}
        self._open = False

    def begin(self) -> None:
        """An attempt begins."""
        self._drawn.clear()
        self._open = True

    def takes(self, rank: int) -> bool:
        """Whether a client is in this attempt.

        After a restart no more of them are until the next begins: who was drawn before is not known, and a second draw
        would be a second chance.
        """
        if not self._open:
            return False
        if rank not in self._drawn:
            self._drawn[rank] = self._source.random() < self._chance
        return self._drawn[rank]

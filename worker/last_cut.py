"""LastCut: for how long a worker that was asked to end goes on, so that its job's last checkpoint is of one clock.

Batch systems and Kubernetes ask all processes of a job at once. A worker that went at once would leave a step of which
a part is applied, and others its share of it to be lost; so it goes on until the checkpoint that the scheduler has made
then is whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ps.config.checkpoint import HURRY
from ps.worker.cut_plan import CutPlan

UNTOLD = 3.0
"""Seconds after which a worker that is told of no checkpoint goes: it may be the only one that was asked."""
RECENT = 0.3
"""Seconds for which one that is whole was made for whoever asks this worker to end: a launcher has it made first."""
QUIET = 0.1
"""Seconds without an order for another one after which the one that is whole was the last."""


class LastCut:
    """Its ``may_end`` is for ``sigterm.first``."""

    def __init__(self, plan: CutPlan, grace: float, now: Callable[[], float] = time.monotonic) -> None:
        self._plan = plan
        self._limit = HURRY * grace
        self._now = now

    def may_end(self, asked_at: float) -> bool:
        """Whether nothing is left to be waited for since this worker was asked to end."""
        plan, now = self._plan, self._now()
        if not plan.is_under_way and plan.whole_at > asked_at - RECENT and now - plan.whole_at >= QUIET:
            return True
        return now - asked_at >= (self._limit if plan.is_under_way else min(self._limit, UNTOLD))

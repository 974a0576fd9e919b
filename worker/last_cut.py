"""LastCut: for how long a worker that was asked to end goes on, so that its job's last checkpoint is of one clock.

Batch systems and Kubernetes ask all processes of a job at once. A worker that went at once would leave a step of which
a part is applied, and others its share of it to be lost; so it goes on until the checkpoint that the scheduler has made
then is whole, or was given up, which the scheduler tells.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ps.config.checkpoint import HURRY
from ps.worker.cut_plan import CutPlan

UNTOLD = 3.0
"""Seconds without a checkpoint after which a worker goes: it may be the only one that was asked."""


class LastCut:
    """Its ``may_end`` is for ``sigterm.first``."""

    def __init__(self, plan: CutPlan, grace: float, now: Callable[[], float] = time.monotonic) -> None:
        self._plan = plan
        self._limit = HURRY * grace
        self._now = now

    def may_end(self, asked_at: float) -> bool:
        """Whether nothing is left to be waited for since this worker was asked to end."""
        plan, now = self._plan, self._now()
        if plan.is_last or now - asked_at >= self._limit:
            return True
        return not plan.is_under_way and now - max(asked_at, plan.over_at) >= UNTOLD

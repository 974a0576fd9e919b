"""GradScaler: torch's, with one scale for all workers of a job in sync mode."""

from __future__ import annotations

from typing import Any

import torch

from ps.torch.optimizer import DistributedOptimizer


class GradScaler(torch.amp.GradScaler):
    """A ``torch.amp.GradScaler`` that backs off on all workers when gradients have overflowed on one.

    torch's own works as well; it knows of this worker's overflows only, so scales come to differ.
    """

    def step(self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> float | None:
        """Take the step as torch's does, and take one that was skipped for another worker's sake as an overflow."""
        found: float | None = super().step(optimizer, *args, **kwargs)
        if isinstance(optimizer, DistributedOptimizer) and optimizer.step_was_skipped:
            for found_inf in self._found_inf_per_device(optimizer).values():
                found_inf.fill_(1.0)
        return found

"""Accumulation: a step's gradients where it takes several batches (``--global-batch``), as their mean over examples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ps import xp
from ps.half import SINGLE, is_half
from ps.worker.gradients import Gradients, Staging
from ps.xp import Array


class Accumulation:
    """The batches of the step that is under way. The mean is kept beside the gradients: one more copy of the model."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._sums: list[Array] = []
        self.clear(-1)

    def clear(self, clock: int) -> None:
        """Begin with the step at a clock."""
        self.clock = clock
        self.seen = 0.0
        """Examples of this worker's share that have had their turn."""
        self.weight = 0.0
        """What the gradients so far weigh."""
        self.vetoed = False
        self._missing = frozenset[str]()
        self._batches = 0
        self._metrics: dict[str, Any] = {}
        self._measured = 0.0

    def add(self, gradients: Gradients | None, weight: float, examples: float, metrics: Mapping[str, Any]) -> None:
        """Take a batch of so many ``examples``; its gradient (None: there is none) is a mean that weighs ``weight``."""
        self.seen += examples
        self._note(metrics, weight)
        if gradients is None:
            return
        self.weight += weight
        self._batches += 1
        self._mix(gradients, weight / self.weight)

    def _mix(self, gradients: Gradients, part: float) -> None:
        if not self._sums:
            self._sums = [_room(region) for region in self._staging.regions]
        for total, region in zip(self._sums, gradients.regions, strict=True):
            if part == 1.0:
                total[...] = region
            else:
                total *= 1 - part
                total += region.astype(total.dtype, copy=False) * total.dtype.type(part)
        missing = gradients.missing
        self._missing = missing if self._batches == 1 else self._missing & missing

    def _note(self, metrics: Mapping[str, Any], weight: float) -> None:
        """Have each number be the mean over the batches, and of what is none the last."""
        self._measured += weight
        part = weight / self._measured
        for name, value in metrics.items():
            before, number = self._metrics.get(name), _number(value)
            if isinstance(before, float) and number is not None:
                number = before + (number - before) * part
            self._metrics[name] = value if number is None else number

    def take(self) -> tuple[Gradients | None, float, dict[str, Any]]:
        """Return the mean, None where no batch had a gradient, what it weighs, and the metrics."""
        if not self._batches:
            return None, 0.0, self._metrics
        for region, total in zip(self._staging.regions, self._sums, strict=True):
            region[...] = total
        found = Gradients(list(self._staging.regions), self._staging, self._missing)
        return found, self.weight, self._metrics


def _room(region: Array) -> Array:
    """Return room for a mean of what lies like a region, in float32 where that is in half precision."""
    dtype = SINGLE if is_half(region.dtype) else region.dtype
    return xp.namespace(region).empty(region.shape, dtype)


def _number(value: Any) -> float | None:
    """Return a metric as a number, if it is one."""
    if isinstance(value, bool | str) or value is None:
        return None
    try:
        number = float(value)
    except Exception:  # a metric is no reason to end a training, whatever it is
        return None
    return number if math.isfinite(number) or np.isnan(number) else None

"""Traffic: what a store has sent, received and waited for."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import field
from functools import partial

from ps.dataclass import dataclass


@dataclass(slots=True)
class Traffic:
    """Sums since the store was made; bytes and seconds."""

    bytes_up: int = 0
    bytes_down: int = 0
    wait_s: float = 0.0
    passes: defaultdict[str, float] = field(default_factory=partial(defaultdict, int))
    """Of a worker that has stages of a pipeline. Of the bytes up, those that went to other workers:
    ``bytes_activations``, and ``bytes_gradients`` on the way back. ``pipeline_s``: seconds from the beginning of a
    step's passes to their end, ``busy_s``: those in which it computed, and ``bubble_s``: those in which the schedule
    alone would have it idle."""

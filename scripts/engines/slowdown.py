"""Slowdown: how busy this host is with other things, for what is promised of one that has nothing else to do."""

from __future__ import annotations

import time

PROBE = 0.5
"""Seconds of computing by which it is measured."""


def slowdown() -> float:
    """Return how many times as long as it computes a process takes now; 1 where it has a core of its own."""
    began, computed = time.monotonic(), time.process_time()
    while time.process_time() - computed < PROBE:
        pass
    return max(1.0, (time.monotonic() - began) / PROBE)

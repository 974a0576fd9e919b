"""Trackers: where people look at their runs. Each is a small file over the library's own client.

They are used by one process beside the training, which nobody waits for: see ``process`` and ``ps.launch.tracked``.
"""

from __future__ import annotations

from ps.track.registry import TRACKERS
from ps.track.tracker import ExperimentTracker, TrackedRun, Writer

__all__ = ["TRACKERS", "ExperimentTracker", "TrackedRun", "Writer"]

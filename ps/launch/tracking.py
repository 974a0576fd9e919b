"""tracking: a run's tracker, as its settings have it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ps.config import ProcessConfig
from ps.track.process import TrackerProcess, Untracked, about


def tracking(
    process: ProcessConfig, script: str, folder: Path, say: Callable[[str], None]
) -> TrackerProcess | Untracked:
    """Start the process that follows the record in a folder, if the run is to be tracked."""
    if process.track is None:
        return Untracked()
    return TrackerProcess(
        process.track, folder, about(script, process.run_dir, process.track_dir), say, process.plugins or ()
    )

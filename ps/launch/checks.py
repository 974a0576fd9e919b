"""What is looked at before any process of a run is started: its tracker, the files that it writes and begins with."""

from __future__ import annotations

from ps.config import JobConfig, ProcessConfig
from ps.track.registry import demand_tracker
from ps.whole import check_writable, numbered


def check_files(job: JobConfig, process: ProcessConfig) -> None:
    """Raise UsageError or DataError for a tracker that is not there, and a model that cannot be saved or read."""
    if process.track:
        demand_tracker(process.track)
    if process.save:
        check_writable(numbered(process.save, 0), "the model")
    if job.init:
        from ps.weights_file import open_weights

        with open_weights(job.init, "init"):
            pass

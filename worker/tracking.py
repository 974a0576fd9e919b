"""track: the run of a worker that nobody has started a cluster for: alone, or by hand with rank 0."""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path

from ps.config.process import ProcessConfig
from ps.track.process import TrackerProcess, Untracked, tracking
from ps.worker.step_log import StepLog
from ps.worker.store import Store

log = logging.getLogger("ps.worker")


def track(process: ProcessConfig, store: Store, steps: StepLog) -> None:
    """Have a process beside this one follow the worker's record, if it has rank 0, until that is complete."""
    assert steps.run_dir is not None
    folder = Path(steps.run_dir)
    tracker: TrackerProcess | Untracked = Untracked()
    if store.rank == 0:
        tracker = tracking(process, sys.argv[0], folder, lambda text: log.warning("%s", text))
    tracker.settle(store.job.to_dict())

    def end() -> None:
        tracker.close()
        if process.run_dir is None:
            shutil.rmtree(folder, ignore_errors=True)

    steps.after = end

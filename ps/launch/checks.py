"""What is looked at before any process of a run is started: the files that it is to write and to begin with."""

from __future__ import annotations

from ps.config import JobConfig, ProcessConfig
from ps.whole import check_writable, numbered


def check_files(job: JobConfig, process: ProcessConfig) -> None:
    """Raise UsageError or DataError for a model that cannot be saved, or read, where the settings say."""
    if process.save:
        check_writable(numbered(process.save, 0), "the model")
    if job.init:
        from ps.weights_file import open_weights

        with open_weights(job.init, "init"):
            pass

"""Who plans the training: the script, or in a federated job the rounds."""

from __future__ import annotations

from ps.config.job import JobConfig
from ps.errors import UsageError


def demand_own_plan(job: JobConfig) -> None:
    """Raise UsageError in a federated job."""
    if job.federated:
        raise UsageError("in a federated job a client trains when it is asked to: take the batches from kv.batches")

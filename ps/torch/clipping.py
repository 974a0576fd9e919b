"""Clipping as it is under DDP: the norm of all workers' gradient, which the servers clip."""

from __future__ import annotations

from ps.config.job import JobConfig
from ps.errors import UsageError


def demand_clip_norm(job: JobConfig, max_norm: float) -> None:
    """Raise UsageError unless the job clips the gradient of all workers to this norm."""
    if (found := job.clip_norm) != float(max_norm):
        said = "does not clip" if found is None else f"clips to {found:g}"
        raise UsageError(
            f"the norm of all workers' gradient is known to the servers alone, and this job {said}: "
            f"--clip-norm {float(max_norm):g}, or ps.connect(clip_norm={float(max_norm):g})"
        )


def demand_clip_value(job: JobConfig, clip_value: float) -> None:
    """Raise UsageError unless the job clips the elements of the gradient of all workers to this."""
    if (found := job.clip_value) != float(clip_value):
        said = "does not clip" if found is None else f"clips to {found:g}"
        raise UsageError(
            f"the elements of all workers' gradient are known to the servers alone, and this job {said}: "
            f"--clip-value {float(clip_value):g}, or ps.connect(clip_value={float(clip_value):g})"
        )

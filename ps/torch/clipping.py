"""Clipping as it is under DDP: the gradient of all workers, which the servers clip."""

from __future__ import annotations

from ps.config.job import JobConfig
from ps.errors import UsageError


def demand_clip_norm(job: JobConfig, max_norm: float) -> None:
    """Raise UsageError unless the job clips the gradient of all workers to this norm."""
    _demand("the norm of all workers' gradient is", "clip_norm", job.clip_norm, float(max_norm))


def demand_clip_value(job: JobConfig, clip_value: float) -> None:
    """Raise UsageError unless the job clips the elements of the gradient of all workers to this."""
    _demand("the elements of all workers' gradient are", "clip_value", job.clip_value, float(clip_value))


def _demand(what: str, setting: str, found: float | None, wanted: float) -> None:
    if found != wanted:
        said = "does not clip" if found is None else f"clips to {found:g}"
        raise UsageError(
            f"{what} known to the servers alone, and this job {said}: "
            f"--{setting.replace('_', '-')} {wanted:g}, or ps.connect({setting}={wanted:g})"
        )

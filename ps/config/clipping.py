"""By which norm or value the gradients of a job can be clipped."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ps.errors import ConfigError

if TYPE_CHECKING:
    from ps.config.job import JobConfig


def check_clipping(job: JobConfig, say: Callable[[str], str]) -> None:
    """Raise ConfigError for two ways of clipping at once, or a norm that nobody would know."""
    if job.clip_norm is not None and job.clip_value is not None:
        raise ConfigError(f"{say('clip_norm')} and {say('clip_value')}: clip by the one or by the other")
    if job.clip_norm is not None and job.backup_workers:
        raise ConfigError(
            f"{say('clip_norm')} needs backup_workers = 0, but {say('backup_workers')}: chunks could be closed "
            f"by different workers, and nobody would know the norm of all"
        )

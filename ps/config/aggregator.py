"""By which aggregators the gradients of a job can be combined."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ps.config.mode import MODES
from ps.errors import ConfigError
from ps.text import one_of

if TYPE_CHECKING:
    from ps.config.job import JobConfig


def check_aggregator(job: JobConfig, say: Callable[[str], str]) -> None:
    """Raise ConfigError unless servers can combine workers' gradients so: all of a clock, chunk by chunk."""
    aggregator = job.specs.aggregator.build()
    if aggregator.kind == "fold" and aggregator.by_norm:
        raise ConfigError(
            f"{say('aggregator')} knows norms of whole models and needs mode = federated, but {say('mode')}. "
            f"Try: --clip-norm"
        )
    if aggregator.kind != "fold" and not job.lockstep:
        needed = one_of(name for name, traits in MODES.items() if traits.lockstep or traits.federated)
        raise ConfigError(
            f"{say('aggregator')} compares contributions and needs mode = {needed}, but with {say('mode')} each is "
            f"applied alone"
        )
    together = (job.copies if job.pipeline else job.fewest) - job.backup_workers
    if aggregator.least > together and job.lockstep:
        less = f" less {say('backup_workers')}" if job.backup_workers else ""
        needed = f"at least {aggregator.least} {'pipelines' if job.pipeline else 'workers'}"
        raise ConfigError(f"{say('aggregator')} needs {needed}, but there are {say(job.counted)}{less}")

"""What a job's codec must not be together with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ps.config.transport import shares_memory
from ps.errors import ConfigError

if TYPE_CHECKING:
    from ps.config.job import JobConfig


def check_compression(job: JobConfig, say: Callable[[str], str]) -> None:
    """Raise ConfigError when nothing that is compressed travels, or what is done with it is done elsewhere.

    ``say`` returns a setting with its value and where that came from.
    """
    if job.specs.compress.name != "none" and shares_memory(job.transport):
        raise ConfigError(f"{say('compress')} is for what travels, but with {say('transport')} nothing does")
    if job.specs.compress.build().momentum and job.specs.optimizer.name != "sgd":
        raise ConfigError(
            f"{say('compress')} keeps momentum at the workers and needs optimizer = sgd, but {say('optimizer')}"
        )

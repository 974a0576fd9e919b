"""What a job's settings say of workers that come and go: how many there are, and what a step is made of then."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ps.config.mode import DISTRIBUTED
from ps.config.replicas import check_replicas
from ps.config.setting import setting
from ps.config.sharing import SharingConfig
from ps.config.values import LONGEST_WAIT
from ps.dataclass import dataclass
from ps.errors import ConfigError
from ps.number import MOST_CLIENTS, MOST_WORKERS

if TYPE_CHECKING:
    from ps.config.job import JobConfig

MOST_EXAMPLES = 1 << 40
"""Examples of a step, at most."""


@dataclass(frozen=True, slots=True)
class ElasticConfig(SharingConfig):
    """The settings of a job that are about workers which come and go."""

    min_workers: int | None = setting(
        None,
        "fewest workers that it begins and trains with; none: it begins with all; --workers 2:8 says both",
        low=1,
        high=MOST_CLIENTS,
        modes=DISTRIBUTED,
    )
    global_batch: int | None = setting(
        None,
        "examples of a step, however many workers there are: each adds up batches until it has its share",
        low=1,
        high=MOST_EXAMPLES,
        modes=("sync",),
    )
    schedule_unit: str = setting(
        "steps",
        "what the numbers of --schedule count: steps, or examples of all workers",
        ("steps", "examples"),
        modes=DISTRIBUTED,
    )
    hang_timeout: float | None = setting(
        None,
        "seconds after which a silent worker is given up though its process is known to live; none: never",
        low=0.1,
        high=LONGEST_WAIT,
        modes=DISTRIBUTED,
    )

    @property
    def counted(self) -> str:
        """The setting that says how many workers there are at least."""
        return "workers" if self.min_workers is None else "min_workers"


def check_elastic(job: JobConfig, say: Callable[[str], str]) -> None:
    """Raise ConfigError for a range of workers, or a step of a fixed size, that a job cannot have."""
    check_replicas(job, say)
    if not job.federated and job.workers > MOST_WORKERS:
        raise ConfigError(f"{say('workers')}: at most {MOST_WORKERS} know each other with {say('mode')}")
    if job.min_workers is not None:
        if job.federated:
            raise ConfigError(f"{say('min_workers')}: rounds take the clients that are there. Try: --min-clients")
        if job.pipeline:
            raise ConfigError(f"{say('min_workers')}: with {say('mode')} every place needs its worker. Try: --spares")
        if job.min_workers > job.workers:
            raise ConfigError(f"{say('min_workers')} must be at most {say('workers')}")
    if job.schedule_unit == "examples" and (job.federated or job.pipeline):
        raise ConfigError(f"{say('schedule_unit')} cannot be had with {say('mode')}. Try: --schedule-unit steps")
    if job.global_batch is not None:
        _check_global_batch(job, say)


def _check_global_batch(job: JobConfig, say: Callable[[str], str]) -> None:
    if job.mode != "sync":
        why = "there a step is one worker's alone, so that its size does not depend on how many there are"
        if job.federated:
            why = "clients take local steps. Try: --clients-per-round"
        elif job.pipeline:
            why = "a pipeline makes its own micro-batches of each batch"
        raise ConfigError(f"{say('global_batch')} needs mode = sync, but {say('mode')}: {why}")
    if job.backup_workers:
        raise ConfigError(f"{say('global_batch')} cannot be had with {say('backup_workers')}: who is late is left out")
    if job.overlap:
        raise ConfigError(f"{say('global_batch')} cannot be had with {say('overlap')}: a step ends after several calls")
    if not job.specs.weighs:
        raise ConfigError(
            f"{say('global_batch')} needs aggregator = weighted, but {say('aggregator')}: shares may differ in size"
        )

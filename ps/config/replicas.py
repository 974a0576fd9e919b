"""What a job's settings say of copies of its servers' parts of the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ps.config.checkpoint import CheckpointConfig
from ps.config.mode import DISTRIBUTED
from ps.config.setting import setting
from ps.dataclass import dataclass
from ps.errors import ConfigError
from ps.text import one_of

if TYPE_CHECKING:
    from ps.config.job import JobConfig


@dataclass(frozen=True, slots=True)
class ReplicaConfig(CheckpointConfig):
    """The settings of a job that are about what outlives its processes."""

    replicas: int = setting(
        0,
        "servers beside each server that have a copy of its part of the model, and go on for it when it dies",
        low=0,
        high=1,
        modes=DISTRIBUTED,
    )

    @property
    def all_servers(self) -> int:
        """The servers that the job begins with: those that hold the model, and after them their standbys."""
        return self.servers * (1 + self.replicas)  # type: ignore[attr-defined,no-any-return]


def check_replicas(job: JobConfig, say: Callable[[str], str]) -> None:
    """Raise ConfigError where there can be no copies."""
    if job.replicas and not job.heeds("replicas"):
        own = (
            "--state keeps each round on disk" if job.federated else "--checkpoint-dir keeps the model, --spares stages"
        )
        raise ConfigError(f"{say('replicas')} needs mode = {one_of(DISTRIBUTED)}, but {say('mode')}: there {own}")

"""What a job's settings say of how the examples are shared out among workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ps.config.mode import DISTRIBUTED
from ps.config.replicas import ReplicaConfig
from ps.config.setting import setting
from ps.dataclass import dataclass

if TYPE_CHECKING:
    from ps.config.job import JobConfig

LEASES, STATIC = "leases", "static"


@dataclass(frozen=True, slots=True)
class SharingConfig(ReplicaConfig):
    """The setting that is about it."""

    data_sharing: str = setting(
        LEASES,
        "how batches are shared out: leases, so that those of a worker that is gone are used by others, or static",
        (LEASES, STATIC),
        modes=DISTRIBUTED,
    )


def by_leases(job: JobConfig) -> bool:
    """Whether a job's scheduler hands batches out.

    With backup workers those of who is late are dropped by intent, and with ``global_batch`` the clock says it all.
    """
    handed = job.data_sharing == LEASES and job.heeds("data_sharing")
    return handed and not job.backup_workers and job.global_batch is None

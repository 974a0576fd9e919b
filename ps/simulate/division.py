"""Which client of a simulation holds which examples: as its own data are, or as ``--partition`` divides all of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ps.config import JobConfig
from ps.partition import PARTITIONERS, Partition, partition
from ps.xp import HostArray


def divide(data: Mapping[str, HostArray], job: JobConfig) -> Partition:
    """Return the division of ``y_train``, which ``sizes`` cuts into the clients' parts where it is there."""
    if "sizes" not in data:
        return partition(job.partition, data["y_train"], job.workers, job.seed)
    ends = np.cumsum(data["sizes"])
    shares = tuple(np.arange(end - size, end) for end, size in zip(ends, data["sizes"], strict=True))
    # Not as "own", which stands for clients that have everything: these are judged by labels like their own.
    return Partition(PARTITIONERS.parse("iid"), job.workers, job.seed, int(ends[-1]), shares)

"""Into how large chunks a job's model is cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ps.config.setting import setting
from ps.config.transport import shares_memory
from ps.config.values import AUTO, SIZE

if TYPE_CHECKING:
    from ps.config.job import JobConfig

LARGEST = 32 << 20
"""Bytes of a chunk, at most: two of them, as a follower is sent, are one frame."""
MEANS = ("auto", "mean", "weighted")
"""The aggregators that look at each element once."""

CHUNK_SIZE: int | None = setting(
    None,
    "largest number of bytes in a chunk; none: chosen for the transport, and for where members are",
    kind=SIZE,
    low=1 << 10,
    high=LARGEST,
)


def default_of(job: JobConfig) -> int:
    """Return how many bytes a chunk has, at most, where nobody says: 2 MiB where tensors travel, 4 MiB where they may.

    Over tcp 4 MiB cost 5 % more. In a federated job 1 MiB: an upload that breaks off goes on with the chunk at which
    it did.
    """
    if job.federated:
        return 1 << 20
    if job.compress != "none" or not (job.transport == AUTO or shares_memory(job.transport)):
        return 2 << 20
    return 4 << 20 if job.transport == AUTO else in_memory(job)


def in_memory(job: JobConfig) -> int:
    """Return how many bytes a chunk has, at most, where all members share memory.

    There nothing is on its way while the next chunk is made ready, so whatever a chunk costs beside its arithmetic is
    waited for, 0.3 ms each: chunks are as large as can be, a step a message or few for each server. Not where a single
    one is waited for before the others (``overlap``, standbys), or takes long itself (aggregators that compare
    contributions): 4 MiB.
    """
    parted = job.overlap or job.replicas or job.aggregator not in MEANS
    return 4 << 20 if parted else LARGEST


def is_too_large(job: JobConfig) -> bool:
    """Whether a chunk is larger than the window through which it is to go.

    In shared memory nothing goes through it, and what is resumed is cut as it was: that goes through alone.
    """
    return job.window < job.chunk_bytes and not (shares_memory(job.transport) or job.resume)

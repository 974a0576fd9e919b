"""What a job's settings say of how the model is cut into chunks."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ps.config.chunk_size import CHUNK_SIZE, in_memory
from ps.config.mode import DISTRIBUTED, PIPELINE
from ps.config.setting import setting, settings_of
from ps.config.transport import shares_memory
from ps.config.values import AUTO
from ps.dataclass import dataclass

if TYPE_CHECKING:
    from ps.config.job import JobConfig

MOST_SERVERS = 1000
SPREAD = 16
"""Chunks of a model, at least, where it travels between hosts. A step takes as long as all bytes need in one direction,
and one chunk's in the other: of two chunks half as long again, of 16 a sixteenth."""
SMALLEST = 64 << 10
"""Bytes of a chunk below which it is not made smaller so that there are more: each costs tenths of a millisecond."""
CUT = ("chunk_size", "min_chunks", "window")
"""The settings that the scheduler may choose once it knows where a job's members are."""
_SAMPLE = 1 << 18
"""Elements of a chunk of which a codec is asked how many bytes it makes."""


@dataclass(frozen=True, slots=True)
class CutConfig:
    """The settings of a job that are about it."""

    chunk_size: int | None = CHUNK_SIZE
    min_chunks: int | None = setting(
        None,
        "fewest chunks, unless they had less than 64 KiB; none: 16 on several hosts without chunk_size, else 1",
        low=1,
        high=1 << 16,
        modes=(*DISTRIBUTED, *PIPELINE),
    )
    cut_for: int | None = setting(
        None,
        "for how many servers the model is cut into chunks; none: for those that there are. What is resumed keeps its",
        low=1,
        high=MOST_SERVERS,
    )


def chunk_bytes_of(job: JobConfig, nbytes: int) -> int:
    """Return how many bytes a chunk has at most of a model that has ``nbytes``."""
    if job.min_chunks is None or job.federated:
        return job.chunk_bytes
    return min(job.chunk_bytes, max(SMALLEST, nbytes // job.min_chunks))


def cut_for_links(job: JobConfig) -> JobConfig:
    """Return the settings for members on several hosts, where nobody has said how the model is to be cut.

    They are as they were where small chunks gain nothing or mean something else: in a federated job, where a round is
    closed once all is there; where nothing is to travel; for an aggregator that compares whole chunks; for a codec that
    leaves little of them. What is resumed is cut as it was: the window makes room for chunks of a job in shared memory.
    """
    if job.federated or shares_memory(job.transport):
        return job
    if job.resume is not None and job.window < job.chunk_bytes:
        return dataclasses.replace(job, window=_window(job, job.chunk_bytes))
    if job.chunk_size is not None or job.min_chunks is not None:
        return job
    specs = job.specs
    travels = specs.compress.build().max_bytes(_SAMPLE, "float32")
    if specs.aggregator.build().kind != "fold" or travels < _SAMPLE * 4 // 8:
        return job
    return dataclasses.replace(job, min_chunks=SPREAD)


def cut_for_memory(job: JobConfig) -> JobConfig:
    """Return the settings for members that can all share memory, where nobody has said how the model is to be cut.

    They are as they were where tensors travel all the same, or chunks in memory are no larger. Two chunks fit into
    ``window``, one for either direction, for members who come later from elsewhere; one that somebody has chosen
    stands, and where it holds no such chunk, so do chunks.
    """
    if job.transport != AUTO or job.federated or job.pipeline or job.compress != "none":
        return job
    nbytes = in_memory(job)
    if job.chunk_size is not None or job.min_chunks is not None or nbytes <= job.chunk_bytes:
        return job
    window = _window(job, nbytes)
    return job if window < nbytes else dataclasses.replace(job, chunk_size=nbytes, window=window)


def _window(job: JobConfig, nbytes: int) -> int:
    """Return a window for chunks of so many bytes, one on the way in either direction, unless somebody has chosen."""
    return 2 * nbytes if job.window == settings_of(type(job))["window"].default else job.window

"""SimHelper: the helper of a simulated job."""

from __future__ import annotations

from collections.abc import Sequence

from ps.config.job import JobConfig
from ps.config.secure import frames_of
from ps.helper.answer import SumAnswer
from ps.protocol.layout import Chunk
from ps.secure.helped import SumOfMasks
from ps.secure.identity import ThrowawaySigner, anybody

HELPER = ("helper", 0)


class SimHelper:
    """Counts everybody."""

    def __init__(self, job_id: str, job: JobConfig, chunks: Sequence[Chunk]) -> None:
        frames = frames_of(job, chunks)
        assert frames is not None
        steady = not job.specs.algorithm.build().buffer
        sums = SumOfMasks(job_id, ThrowawaySigner(), anybody, job.secure_min, steady=steady)
        self.answer = SumAnswer(sums, frames, chunks)

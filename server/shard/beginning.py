"""Beginning: what a server's part of a model begins as: what the first worker brings, or a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable

from ps.checkpoint.stored_model import StoredModel
from ps.config.job import JobConfig
from ps.errors import LayoutMismatch
from ps.protocol.layout import Layout
from ps.server.shard.chunk import ChunkState, Participant
from ps.server.shard.chunk_copy import put


def hold_first(chunks: Iterable[ChunkState], participants: Iterable[Participant]) -> None:
    """Hold the first clock of new chunks for those who were told it before there were any: whoever brings the model.

    It may have come after others, who begin with that clock too, and would close it before it says so.
    """
    members = [each.member for each in participants if each.attached and each.start is None]
    for chunk in chunks:
        for member in members:
            chunk.hold(member, 0)


class Beginning:
    """With a checkpoint, what the first worker brings is only room for it."""

    def __init__(self, saved: StoredModel | None) -> None:
        self._saved = saved
        self.most = 0 if saved is None else saved.manifest.most
        """The highest version of a chunk."""

    @property
    def is_saved(self) -> bool:
        """Whether there is a checkpoint."""
        return self._saved is not None

    def refusal(self, layout: Layout) -> str:
        """Return why a model cannot go on from here, or nothing."""
        try:
            if self._saved is not None:
                self._saved.demand(layout)
        except LayoutMismatch as error:
            return str(error)
        return ""

    def fill(self, chunk: ChunkState, layout: Layout | None, job: JobConfig) -> None:
        """Have a chunk that has first values be as it is to begin. Raises CheckpointError for damaged files."""
        if self._saved is not None and layout is not None:
            put(chunk, self._saved.snapshot(layout, chunk.chunk), job)

    def clock(self, rank: int, job: JobConfig) -> int:
        """Return with which clock a worker begins that is there from the beginning."""
        if self._saved is None:
            return 0
        if job.lockstep:
            return self._saved.manifest.step
        # of a pipeline some may have given their part of a step already, which is not counted again
        return self._saved.manifest.counted(*job.together_with(rank))

    def counted(self, chunk: ChunkState, participant: Participant) -> int:
        """Return how many clocks of a worker that begins are in a chunk: it may have a part of the next step."""
        if self._saved is None or not (participant.initial and participant.fresh):
            return 0
        return chunk.gone.get(participant.rank, 0)

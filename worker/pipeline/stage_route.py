"""StageRoute: which worker of a pipeline has which stage, and so where what a stage is sent goes to, and comes from."""

from __future__ import annotations

from ps.dataclass import dataclass
from ps.pipeline.cut import Cut
from ps.pipeline.runner import ACTIVATION, GRADIENT, LABELS, LOSS, OUTPUTS, TIED, Transfer


@dataclass(frozen=True, slots=True)
class StageRoute:
    """Of the pipeline whose first worker has the rank ``first``, with so many workers (``places``) in all."""

    first: int
    places: int
    cut: Cut

    def rank_of(self, stage: int) -> int:
        """Return the rank of the worker with a stage."""
        return self.first + stage % self.places

    def sender(self, transfer: Transfer) -> int:
        """Return the rank of the worker that something comes from."""
        last = len(self.cut.stages) - 1
        stage = {
            ACTIVATION: transfer.stage - 1,
            GRADIENT: transfer.stage + 1,
            LABELS: 0,
            LOSS: last,
            OUTPUTS: transfer.stage - 1 if transfer.stage else last,
        }.get(transfer.kind)
        if transfer.kind == TIED:
            stage = self.cut.stage_of(transfer.microbatch)
        return self.rank_of(stage or 0)

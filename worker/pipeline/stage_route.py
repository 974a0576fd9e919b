"""StageRoute: which worker of a pipeline has which stage, and so where what a stage is sent goes to, and comes from."""

from __future__ import annotations

from ps.dataclass import dataclass
from ps.pipeline.cut import Cut
from ps.pipeline.runner import ACTIVATION, GRADIENT, LOSS, TIED, Transfer


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
        """Return the rank of the worker that something comes from which a step waits for."""
        if transfer.kind == TIED:
            return self.rank_of(self.cut.stage_of(transfer.microbatch))
        last = len(self.cut.stages) - 1
        found = {ACTIVATION: transfer.stage - 1, GRADIENT: transfer.stage + 1, LOSS: last}
        return self.rank_of(found.get(transfer.kind, 0))  # labels come from the first stage

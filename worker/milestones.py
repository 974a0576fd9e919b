"""Milestones: the clocks at which a model is measured and written to a file, while it is trained and at the end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from ps.errors import PeerLost
from ps.worker.evaluation import Evaluation
from ps.worker.own_state import OwnState
from ps.worker.parameters import Parameters
from ps.worker.saving import Saving, about
from ps.worker.store import Store

log = logging.getLogger("ps.worker")


class Milestones:
    """Which worker does what: the one with rank 0 measures for the record, the first that is there saves."""

    def __init__(
        self, store: Store, evaluation: Evaluation, saving: Saving, save: Callable[..., None], own: OwnState
    ) -> None:
        """``save`` writes the model to a path, with its ``masters`` if so; ``own`` is what this worker keeps itself."""
        self._own = own
        if store.rank == 0:
            evaluation.keep = own.keep
        self.epoch: Callable[[], int] = int
        """Returns the steps of an epoch, after which that is measured by which training may end; 0: not known."""
        self._store = store
        self._evaluation = evaluation
        self._saving = saving
        self._told = False
        self._clock = -1
        self._save = partial(save, masters=saving.masters)

    def begin(self, model: Parameters) -> None:
        """Count from here on, and go on with what a checkpoint has of this worker's own. Raises CheckpointError."""
        self._saving.begin(self._store.clock)
        self._own.begin(model, self._store.clock, self._store.owed)

    def stepped(self) -> None:
        """Do what is due after a step; in a federated job the rounds are what counts."""
        store, clock = self._store, self._store.clock
        if store.job.federated or (
            store.job.global_batch and clock == self._clock
        ):  # a batch of a step that takes several
            return
        self._clock = clock
        every = store.job.eval_every or (self._own_epoch() if self._evaluation.patient else 0)
        if every and store.rank == 0 and clock % every == 0:
            self._evaluation.run(clock)
        if self._saving.is_due(clock) and store.saves:
            self._saving.now(clock, self._save)
        self._own.stepped(clock, store.background.settle)

    def _own_epoch(self) -> int:
        """Return the steps after which is measured what training may end by, where no setting says so."""
        if not (steps := self.epoch()) and not self._told:
            self._told = True
            log.warning(
                "patience has no evaluations to count: nobody knows how many steps an epoch of these data has. Give "
                "--eval-every N"
            )
        return steps

    def published(self, version: int) -> None:
        """Do what is due with a federated version, while the model is that."""
        if self._store.rank == 0 and self._saving.is_due(version):
            self._saving.now(version, self._save)

    def finish(self, model: Parameters | None, barrier: Callable[[], None]) -> None:
        """Measure the model as it is at the end, if there is one; save it. Raises UnsavedModel, then PeerLost.

        What this worker keeps of its own is written too, for the last checkpoint.

        Without a scheduler nobody knows whether the others still train: then it is saved as this worker has it.
        """
        if model is None:
            return
        lost: PeerLost | None = None
        store = self._store
        store.drain()
        federated, saves = store.job.federated, self._saving.path is not None and store.saves
        if saves and not federated:
            try:
                barrier()  # the others may still be training, and the file is to have that
            except PeerLost as error:
                lost = error
                log.warning("%s; the model is saved as this worker has it", error)
        if store.rank == 0:
            # The script may have changed buffers since it was measured, and the file is to be what was.
            moved = bool(model.beside) or not store.job.lockstep
            self._evaluation.run(store.clock, again=saves and not federated and moved, last=True)
        if saves:
            self._saving.last(store.clock, about(store), self._save, sole=store.rank == 0 and not federated)
        self._own.leave(store.clock, store.background.settle)
        if lost is not None and type(lost) is not PeerLost:
            raise lost

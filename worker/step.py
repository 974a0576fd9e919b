"""Steps: the gradients of a worker's steps as they come in, and what the record says of each step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ps import xp
from ps.errors import GradientError, StateError, UsageError
from ps.number import EXAMPLES
from ps.protocol.layout import Chunk, Layout
from ps.threads import ThreadTeam
from ps.worker.gradients import WAY_ON, Gradients, Staging, match
from ps.worker.loader import Loader
from ps.worker.numbers import as_float, shown
from ps.worker.partial_gradients import PartialGradients
from ps.worker.pipeline import Done, Pending
from ps.worker.step_log import StepLog
from ps.worker.store import Buffers, Store
from ps.xp import Device


class Steps:
    """One connection's steps: which gradients have come of the next one, and which was given and not noted yet."""

    def __init__(self, store: Store, loader: Loader, log: StepLog) -> None:
        self._store = store
        self._pipeline = store.pipeline
        self._job = store.job
        self._on_nan = store.job.on_nan
        self._loader = loader
        self._log = log
        self._partial: PartialGradients | None = None
        self._unlogged: tuple[int, float, bool, Pending, Mapping[str, Any]] | None = None
        self._interrupted = False

    def begin(
        self, trained: Layout, chunks: tuple[Chunk, ...], buffers: Buffers, device: Device, team: ThreadTeam | None
    ) -> None:
        """Gather gradients from now on where the store would like them to be, on ``device`` where it encodes there."""
        on_host = device.backend is xp.NUMPY
        if buffers.encodes and self._on_nan == "ignore":
            self._on_nan = "fail"  # no codec can say NaN
        if (buffers.encodes or self._job.federated) and not on_host:
            memory = xp.device_buffer(trained.nbytes, device)
        elif buffers.gradients is None:
            memory = xp.host_buffer(trained.nbytes, device)
        else:
            memory = xp.pinned(buffers.gradients, device)
        self.staging = Staging(trained, chunks, memory, buffers.shown, team)

    def count(self, examples: float | None) -> float:
        """Return of how many examples a step's gradients are the mean; 0: not known. Raises UsageError."""
        if examples is None:
            return self._loader.examples
        count = as_float(examples) if isinstance(examples, int | float | np.number) else math.nan
        if count not in EXAMPLES:
            raise UsageError(f"examples is the number of examples of a batch, more than 0, not {shown(examples)}")
        return count

    # Gradients

    @property
    def reading(self) -> bool:
        """Whether the memory in which gradients are gathered may still be read."""
        return self._interrupted or self._unlogged is not None

    def free(self) -> None:
        """Return when it is not."""
        self.settle()
        self._interrupted = False

    def settle(self) -> None:
        """Wait for the last push and note it."""
        self._pipeline.settle()
        self.settled()

    def announce(self, name: str, grad: Any, count: float) -> None:
        """Take one tensor's gradient of the next step, and send what is complete. Raises GradientError."""
        if self._partial is None:
            self.settle()
            self._partial = PartialGradients(self.staging)
        eager = self._pipeline.eager and self._on_nan != "skip"
        chunks = self._partial.add(name, grad, check=eager and self._on_nan == "fail")
        if chunks and eager:
            self._pipeline.send(self._partial.gradients, chunks, count or 1.0)

    def refuse_partial(self) -> None:
        """Raise StateError if gradients were announced."""
        if self._partial is not None:
            raise StateError("gradients were announced with kv.ready: give the others with kv.step")

    def gather(self, grads: Mapping[str, Any]) -> Gradients | None:
        """Return a step's gradients ready to send, or None when it is to be skipped. Raises GradientError."""
        if self._partial is None:
            self.settle()  # the memory in which gradients are gathered may still be on its way
            gradients, known = match(grads, self.staging), False
        else:
            known = self._pipeline.eager and self._on_nan != "skip"
            gradients = self._partial.complete(grads, check=known and self._on_nan == "fail")
        bad = "" if known or self._on_nan == "ignore" else gradients.first_bad()
        self._partial = None
        if not bad:
            return gradients
        where = f"{bad}, at clock {self._store.clock}"
        if self._on_nan == "skip" or self._loader.goes_on_without(where):
            return None
        raise GradientError(f"{where}; nothing was applied ({WAY_ON})")

    # The record

    def given(self, clock: int, count: float, skipped: bool, pending: Pending, metrics: Mapping[str, Any]) -> None:
        """Remember a step whose answers are under way, to be noted by ``settled``."""
        self._unlogged = (clock, count, skipped, pending, metrics)

    def settled(self) -> None:
        """Note the last push once it is answered: only then is its staleness known."""
        if self._unlogged is not None and self._unlogged[3].done:
            (clock, count, skipped, pending, metrics), self._unlogged = self._unlogged, None
            self.note(clock, count, skipped, pending, metrics)

    def broken(self, clock: int, count: float, skipped: bool, metrics: Mapping[str, Any]) -> None:
        """Note a step that ended with an error, if it counts."""
        self._interrupted = True
        if self._store.clock > clock:
            self.note(clock, count, skipped, Done(), metrics)

    def note(self, clock: int, count: float, skipped: bool, pending: Pending, metrics: Mapping[str, Any]) -> None:
        """Write a step into the record."""
        self._loader.stepped()
        if not self._loader.note(count, metrics):
            self._log.step(clock, count, metrics, self._store.traffic, staleness=pending.staleness, skipped=skipped)

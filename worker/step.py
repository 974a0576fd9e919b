"""Steps: a worker's steps, from the gradients as they come in to what the record says of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial as bound
from typing import Any

import numpy as np

from ps import xp
from ps.errors import GradientError, StateError, TrainingStopped, UsageError
from ps.number import EXAMPLES
from ps.threads import ThreadTeam
from ps.trace import Trace
from ps.worker.accumulation import Accumulation
from ps.worker.background import Done, Pending
from ps.worker.crew import StepShare
from ps.worker.frozen_module import FrozenModuleCheck
from ps.worker.gradients import WAY_ON, Gradients, Staging, match
from ps.worker.handle import Handle
from ps.worker.interrupt import HOLD
from ps.worker.lazy_parameters import PendingParameters
from ps.worker.loader import Loader
from ps.worker.numbers import as_float, shown
from ps.worker.partial_gradients import PartialGradients
from ps.worker.placement import Placement
from ps.worker.step_log import StepLog
from ps.worker.store import Store
from ps.xp import Array, Device


class Steps:
    """One connection's steps: which gradients have come of the next one, and which was given and not noted yet."""

    def __init__(self, store: Store, loader: Loader, log: StepLog, trace: Trace, check: Callable[[], None]) -> None:
        """``check`` raises where the connection may not be used."""
        self.weights = PendingParameters(store, check, self.settled)
        """What the steps bring."""
        loader.refreshed = self.weights.catch_up
        self._trace = trace
        self._left_alone = trace.now()
        """Since when the script has been."""
        self._store = store
        self._background = store.background
        self._job = store.job
        self._on_nan = store.job.on_nan
        self._loader = loader
        self._log = log
        self._partial: PartialGradients | None = None
        self._unlogged: tuple[int, float, bool, Pending, Mapping[str, Any]] | None = None
        self._offered: tuple[Gradients | None, float] | None = None
        """What servers hold of the next step, if it was offered: gradients, and of how many examples."""
        self._interrupted = False
        self._encodes = False
        self._last: Pending = Done()
        self._skipped = False
        self._accumulation: Accumulation | None = None
        """Where a step takes several batches."""
        job = self._job
        self._counts = job.lockstep and not (job.pipeline or job.defers) and bool(job.global_batch or job.min_workers)
        """Whether the record says of each step how many contributed to it."""

    def begin(self, placed: Placement, frozen_module: FrozenModuleCheck, device: Device, team: ThreadTeam) -> None:
        """Gather gradients from now on where the store would like them to be, on ``device`` where it encodes there."""
        trained, buffers, on_host = placed.trained, placed.buffers, device.backend is xp.NUMPY
        self._encodes = buffers.encodes
        if buffers.encodes and self._on_nan == "ignore":
            self._on_nan = "fail"  # no codec can say NaN
        if (buffers.encodes or self._job.federated) and not on_host:
            memory = xp.device_buffer(trained.nbytes, device)
        elif buffers.gradients is None:
            memory = xp.host_buffer(trained.nbytes, device)
        else:
            memory = xp.pinned(buffers.gradients, device)
        shared = buffers.gradients is not None and on_host and not buffers.encodes
        self._staging = Staging(trained, placed.chunks, memory, buffers.shown, team, read_here=shared)
        self._accumulation = Accumulation(self._staging) if self._job.global_batch else None
        self._model = placed.parameters
        self._frozen_module = frozen_module
        self.weights.begin(placed.parameters, self._staging)

    def count(self, examples: float | None) -> float:
        """Return of how many examples a step's gradients are the mean; 0: not known. Raises UsageError."""
        if examples is None:
            return self._loader.examples
        count = as_float(examples) if isinstance(examples, int | float | np.number) else math.nan
        if count not in EXAMPLES:
            raise UsageError(f"examples is the number of examples of a batch, more than 0, not {shown(examples)}")
        return count

    # Gradients up, weights down

    def push_pull(
        self, grads: Mapping[str, Any], examples: float | None, metrics: Mapping[str, Any], *, partial: bool = False
    ) -> None:
        """Give one step's gradients and bring the parameters up to date, as far as the job waits for that."""
        if self._offered is not None:
            (gradients, count), self._offered = self._offered, None
            self._exchange(gradients, count, metrics)
            return
        if self._has_ended():
            return
        self._computed()
        count = self.count(examples)
        gradients = self._gather(grads, partial=partial)
        if self._accumulation is None:
            self._exchange(gradients, count, metrics)
        else:
            self._accumulate(self._accumulation, gradients, count, metrics)

    def _accumulate(
        self,
        sums: Accumulation,
        gradients: Gradients | None,
        count: float,
        metrics: Mapping[str, Any],
        *,
        veto: bool = False,
    ) -> None:
        """Add a batch to its step, and take the step once this worker has had its share of it."""
        if not count:
            raise UsageError(
                "with --global-batch a step is of so many examples: take batches from kv.batches, or say how many "
                "examples a batch has: kv.step(grads, examples=32)"
            )
        if sums.clock != self._store.clock:  # a step was taken, or this worker was late and goes on with another one
            sums.clear(self._store.clock)
        sums.add(gradients, count, self._loader.examples if self._loader.share else count, metrics)
        sums.vetoed |= veto
        if sums.seen < (self._loader.share or self._own_share()):
            self._loader.stepped(self._store.clock)
            self._left_alone = self._trace.now()
            return
        found, weight, means = sums.take()
        self._exchange(None if sums.vetoed else found, weight, means, veto=sums.vetoed)

    def _own_share(self) -> int:
        """Return how many examples this worker's part of a step has, where the script reads them in its own way."""
        first, end = self._store.share().part(self._job.global_batch or 1)
        return max(1, end - first)

    def pass_over(self, stepped: Callable[[], None]) -> None:
        """Take a step of which this worker has no share: the others do. ``stepped`` is called then."""
        with HOLD:
            self._settle()
            self._exchange(None, 0.0, {})
        stepped()

    def offer(self, grads: Mapping[str, Any] | None, examples: float | None, *, partial: bool = False) -> bool:
        """Have servers hold a step's gradients (None: there are none), which count once the step is taken.

        The arrays must not change before that. Return whether there is such a step: training may have ended.
        """
        if self._has_ended(announced=True):
            return False
        self._computed()
        count = self.count(examples)
        gradients = None if grads is None else self._gather(grads, partial=partial)
        self._offered = gradients, count
        if gradients is not None:
            self._store.offer(gradients, count or 1.0)
        self._left_alone = self._trace.now()
        return True

    def skip(self, metrics: Mapping[str, Any]) -> None:
        """Have nobody take the next step, as far as the mode lets one worker decide that."""
        if self._has_ended():
            return
        with HOLD:
            self._computed()
            self._settle()
            if self._accumulation is None:
                self._exchange(None, self._loader.examples, metrics, veto=True)
            else:
                self._accumulate(self._accumulation, None, self._loader.examples or 1.0, metrics, veto=True)

    def _exchange(
        self, gradients: Gradients | None, count: float, metrics: Mapping[str, Any], *, veto: bool = False
    ) -> None:
        clock = self._store.clock
        try:
            done = self._store.push_pull(gradients, count or 1.0, veto=veto)
        except BaseException:
            self._broken(clock, count, gradients is None, metrics)
            raise
        self._last, self._skipped = done, veto
        if self._job.defers:
            self.weights.expect()
            self._unlogged = (clock, count, gradients is None, done, metrics)
            self.weights.catch_up()
        else:
            self.weights.stepped()
            share: StepShare | None = None
            try:
                share = self._store.share() if self._counts else None
            finally:  # the step was taken, whatever becomes of the question what it was made of
                self._note(clock, count, gradients is None, done, metrics, share)
        self._frozen_module.look(self._store.clock, self._model.tensors)
        self._left_alone = self._trace.now()

    @property
    def skipped(self) -> bool:
        """Whether the last step was skipped here for everybody's sake, or vetoed; waits until that is known."""
        if not self._last.done:
            with HOLD:
                self._background.wait(self._last)
                self.weights.catch_up()
        return self._skipped or self._last.vetoed

    def push_pull_into(self, grads: Mapping[str, Any], examples: float | None, into: Mapping[str, Any] | None) -> None:
        """Give one step's gradients and have the new weights in arrays of the script's, if it gives some."""
        model = self._model
        targets = None if into is None or model.are(into) else model.targets(into)
        self.push_pull(grads, examples, {})
        if targets is not None:
            self.weights.all()
            model.give(targets, as_shown=not self._job.federated)

    def pull(self, out: Mapping[str, Any] | None) -> tuple[Pending, Callable[[], None]]:
        """Ask for the weights, into arrays of the script's or the parameters; return what is to be done with them."""
        model, store = self._model, self._store
        self.weights.all()
        if out is None or model.are(out):
            return store.pull(model.buffer), self.weights.refresh
        targets, scratch = model.targets(out), model.scratch()
        return store.pull(scratch), bound(model.deliver, scratch, targets)

    def push(self, grads: Mapping[str, Any], count: float, *, partial: bool = False) -> Pending:
        """Give one step's gradients, of so many examples; the step is noted once it is answered."""
        if self._accumulation is not None:
            raise UsageError("with --global-batch a step takes several batches: give each with kv.step")
        if self._has_ended():
            return Done()
        gradients = self._gather(grads, partial=partial)
        clock = self._store.clock
        pending = self._last = self._store.push(gradients, count or 1.0)
        self._skipped = False
        self._unlogged = (clock, count, gradients is None, pending, {})
        self.weights.catch_up()
        return pending

    def announce(self, name: str, grad: Any, count: float) -> None:
        """Take one tensor's gradient of the next step, and send what is complete. Raises GradientError."""
        if self._has_ended(announced=True):
            return
        self._computed()
        self._announce(name, grad, count)
        self._left_alone = self._trace.now()

    def _has_ended(self, *, announced: bool = False) -> bool:
        """Whether training has ended before this step, which is left out if its batch was taken before that.

        Raises TrainingStopped where it was not.
        """
        if self._store.begin_step():
            return False
        if not self._loader.ahead:
            raise TrainingStopped(f"training ended at clock {self._store.clock}: {self._store.stop_point.reason}")
        if not announced:
            self._loader.stepped(self._store.clock)
        return True

    def _computed(self) -> None:
        """Show the time since the script was left alone as its own."""
        self._trace.add("compute", self._left_alone, clock=self._store.clock)

    # Gradients

    def arrays(self, device: Device) -> dict[str, Array]:
        """Return arrays in which gradients can be computed, once nothing is read from there."""
        if self._interrupted or self._unlogged is not None:
            with HOLD:
                self._settle()
                self._interrupted = False
                self.weights.catch_up()
        return self._staging.arrays(device)

    def _settle(self) -> None:
        """Wait for the last push and note it."""
        self._background.settle()
        self.settled()

    def _announce(self, name: str, grad: Any, count: float) -> None:
        if self._partial is None:
            self._settle()
            self._partial = PartialGradients(self._staging)
        eager = self._eager
        chunks = self._partial.add(name, grad, check=eager and self._on_nan == "fail")
        if chunks and eager:
            self._background.send(self._partial.gradients, chunks, count or 1.0)

    @property
    def _eager(self) -> bool:
        """Whether what is announced is sent at once."""
        return self._background.eager and self._on_nan != "skip" and self._accumulation is None

    def refuse_partial(self) -> None:
        """Raise StateError if gradients were announced."""
        if self._partial is not None:
            raise StateError("gradients were announced with kv.ready: give the others with kv.step")

    def _gather(self, grads: Mapping[str, Any], *, partial: bool) -> Gradients | None:
        """Return a step's gradients ready to send, or None when it is to be skipped. Raises GradientError."""
        if partial and self._encodes:
            raise UsageError(
                f"partial=True needs a job without compression: what {self._job.compress} still owes of a tensor would "
                f"be sent in steps in which it takes no part. Leave out --compress, or give zeros"
            )
        if self._partial is None:
            self._settle()  # the memory in which gradients are gathered may still be on its way
            gradients, known = match(grads, self._staging, partial=partial), False
        else:
            known = self._eager
            gradients = self._partial.complete(grads, check=known and self._on_nan == "fail", partial=partial)
        bad = "" if known or self._on_nan == "ignore" else gradients.first_bad()
        self._partial = None
        if not bad:
            return gradients
        where = f"{bad}, at clock {self._store.clock}"
        if self._on_nan == "skip" or self._loader.goes_on_without(where):
            return None
        raise GradientError(f"{where}; nothing was applied ({WAY_ON})")

    def wait(self, handle: Handle) -> None:
        """Return when what a handle stands for is done."""
        self._background.wait(handle.pending)
        self.weights.catch_up()
        handle.finish()

    # The end, and the record

    def met(self, *, begun: bool) -> None:
        """The others were met in a barrier; ``begun``: there is a model."""
        if begun:
            self.settled()
            self.weights.refresh()
            self.weights.clear()

    def leave(self, failure: str) -> None:
        """Leave the job; ``failure`` says why when it is not in good order."""
        try:
            self._store.close(failure)
            self.settled()
        finally:
            self._log.end()
            self._trace.close()

    def settled(self) -> None:
        """Note the last push once it is answered: only then is its staleness known."""
        if self._unlogged is not None and self._unlogged[3].done:
            (clock, count, skipped, pending, metrics), self._unlogged = self._unlogged, None
            self._note(clock, count, skipped, pending, metrics)

    def _broken(self, clock: int, count: float, skipped: bool, metrics: Mapping[str, Any]) -> None:
        """Note a step that ended with an error, if it counts."""
        self._interrupted = True
        if self._store.clock > clock:
            self._note(clock, count, skipped, Done(), metrics)

    def _note(
        self,
        clock: int,
        count: float,
        skipped: bool,
        pending: Pending,
        metrics: Mapping[str, Any],
        share: StepShare | None = None,
    ) -> None:
        """Write a step into the record; ``share`` says who contributed to it."""
        self._loader.stepped(clock + 1)
        if not self._loader.note(count, metrics):
            skipped = skipped or pending.vetoed
            made_of = None if share is None or not share.contributors else (share.contributors, share.examples)
            traffic, staleness = self._store.traffic, pending.staleness
            self._log.step(clock, count, metrics, traffic, staleness=staleness, skipped=skipped, made_of=made_of)

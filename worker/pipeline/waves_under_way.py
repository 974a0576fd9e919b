"""WavesUnderWay: the steps of a pipeline that overlap (``--waves``), as one of its workers does its part in them.

A wave is a step's micro-batches. It begins when the weights are there that it is to compute with, which lack the
updates of the waves just before it, and ends when it is in the weights itself; meanwhile this worker does what it can
of the waves that have begun (``WaveRunner``). Gradients go to the servers one wave after the other, and are not waited
for.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ps.dataclass import dataclass
from ps.errors import TrainingStopped
from ps.pipeline.runner import StageRunner, StepPlan, Transfer
from ps.pipeline.wave_runner import WaveRunner
from ps.pipeline.weight_stash import WeightStash
from ps.pipeline.worker_stages import WorkerStages
from ps.trace import Trace
from ps.worker.interrupt import HOLD
from ps.worker.pipeline.peers import PipelinePeers
from ps.worker.pipeline.pipeline_store import PipelineStore
from ps.worker.pipeline.stage_route import StageRoute


@dataclass(slots=True, eq=False)
class Wave:
    """One step. ``number`` is that of its pass; ``kept`` is what had come of it before its plan."""

    number: int
    plan: StepPlan
    examples: float
    metrics: Mapping[str, Any]
    batch: tuple[list[Any], list[Any]] | None
    kept: list[Transfer]


class WavesUnderWay:
    """Not to be used from two threads. An interrupt (Ctrl-C) leaves the waves as they are, to be gone on with."""

    def __init__(
        self,
        kv: Any,
        own: WorkerStages,
        lines: PipelinePeers,
        store: PipelineStore,
        trace: Trace,
        route: StageRoute,
        *,
        look: Callable[[], bool],
    ) -> None:
        """``look`` deals with what the worker with the first stage wants beside steps, and returns whether there was
        something."""
        job = kv.job
        self._kv, self._own, self._lines, self._store, self._trace = kv, own, lines, store, trace
        self._traffic = store.traffic
        self._route, self._look = route, look
        self._trained = tuple(kv.grads)
        params = kv.params
        self.tensors = {name: params[name] for name in params}
        """The newest weights. Who reads them in ``kv.params`` waits for those that are on their way."""
        self._beside = {name: each for name, each in self.tensors.items() if name not in self._trained}
        self._weighs = job.specs.weighs
        self._depth = job.waves
        self._lockstep = job.lockstep
        self._stash = WeightStash(job.waves, job.lookahead)
        self._runners = WaveRunner()
        self._planned: deque[Wave] = deque()
        """Those that have not begun."""
        self._begun: dict[int, Wave] = {}
        """Those that have, and whose gradients were not given, by step."""
        self._given: StageRunner | None = None
        """The wave whose gradients are on their way."""
        self._losses: dict[int, float] = {}
        self._arrivals = 0
        """How many transfers had come when it was last looked."""
        self._stopped: TrainingStopped | None = None
        """Raised when a step was given that is beyond the end of training."""
        self._next: int = kv.clock
        """The number of the wave that comes next, and of the first one, as far as waves have come."""
        self._oldest = self._next
        self._stash.begin(self._next)
        lines.unused = self._unused

    # What the script does

    def add(self, wave: Wave) -> None:
        """Take the next wave. Raises TrainingStopped where training had ended before the ones before it."""
        if self._stopped is not None:
            raise self._stopped
        if wave.plan.step != self._next:  # a barrier has all go on from the same clock
            self._oldest = wave.plan.step
            self._stash.begin(self._oldest)
        self._next = wave.plan.step + 1
        self._planned.append(wave)

    @property
    def next(self) -> int:
        """The number of the wave that comes next: the clock's after a barrier, where others may have been ahead."""
        return max(self._next, int(self._kv.clock))

    @property
    def loss(self) -> float | None:
        """What the latest step returns: the loss of the wave so many before, or of the first; None until it is done."""
        return self._losses.get(max(self._oldest, self._next - self._depth))

    def settle(self) -> None:
        """Return when what was given is in the weights. The others have to measure nothing meanwhile."""
        if self._given is not None:
            self._store.settle()
            self._landed()

    @property
    def still(self) -> Mapping[str, Any]:
        """The newest weights, which stay as they are until this worker goes on. In lockstep none are on their way, as
        the others do not give their gradients while the model is measured."""
        if not self._lockstep:
            self.settle()
        return self.tensors

    def drain(self) -> None:
        """Return when all waves are in the weights."""
        self.go_on(lambda: not (self._planned or self._begun or self._given))

    def go_on(self, done: Callable[[], bool], *, expects: bool = False) -> None:
        """Do what there is to do until ``done`` says so; ``expects``: the worker that plans is about to say something.

        Raises PeerLost, and what layers and ``kv.step`` raise.
        """
        began = time.monotonic()
        with HOLD:
            while not done():
                if not self._advance():
                    self._wait(expects=expects)
        self._traffic.passes["pipeline_s"] += time.monotonic() - began

    @property
    def version(self) -> int:
        """How many updates are in this worker's newest weights."""
        return int(self._kv.clock) - (self._given is not None)

    # Inside

    def _advance(self) -> bool:
        """Do one thing, without waiting; return whether there was one."""
        self._arrivals = self._lines.arrivals
        self._lines.turn()
        for step, wave in self._begun.items():
            for transfer in self._lines.take(wave.number):
                self._runners.receive(step, transfer)
        if self._given is not None and self._store.turn():
            self._landed()
        if self._look():
            return True
        if self._given is None and self._runners.is_done:
            self._give()
            return True
        if self._planned and self._stash.version(self._planned[0].plan.step) <= self.version:
            self._begin(self._planned.popleft())
            return True
        if (able := self._runners.next) is None:
            return False
        step, runner = able
        since, action, at = self._trace.now(), runner.next, time.monotonic()
        transfers = runner.run()
        self._traffic.passes["busy_s"] += time.monotonic() - at
        self._send(transfers, self._begun[step].number, step)
        self._trace.add("compute", since, name=repr(action), clock=step)
        return True

    def _send(self, transfers: Iterable[Transfer], number: int, clock: int | None = None) -> None:
        for transfer in transfers:
            self._lines.send(self._route.rank_of(transfer.stage), number, transfer, clock)

    def _begin(self, wave: Wave) -> None:
        self._keep()
        params = {**self._beside, **self._stash.of(wave.plan.step)}
        runner = self._own.runner(wave.plan, params, dict.fromkeys(self._trained))
        self._runners.begin(wave.plan.step, runner)
        self._begun[wave.plan.step] = wave
        for transfer in wave.kept:
            runner.receive(transfer)
        batch, wave.batch, wave.kept = wave.batch, None, []
        if batch is not None:
            self._send(runner.feed(*batch), wave.number)

    def _keep(self) -> None:
        """Keep the newest weights: others will be in their place."""
        if not self._stash.has(self.version):
            self._stash.keep(self.version, {name: self.tensors[name] for name in self._trained})

    def _give(self) -> None:
        """Give the gradients of the oldest wave, unless training has ended before it."""
        step, runner = self._runners.oldest
        wave, clock = self._begun[step], self._kv.clock
        self._keep()
        gradients, loss = runner.gradients(), runner.loss
        given = wave.plan.stands_for(wave.examples, weighs=self._weighs)
        self._store.lag(clock - self._stash.version(step))
        self._given = runner
        try:
            leaves_out = len(gradients) < len(self._trained)
            self._kv.step(gradients, examples=given, partial=leaves_out, loss=loss, **wave.metrics)
        except TrainingStopped as error:
            self._stopped = error
        except BaseException:
            if self._kv.clock == clock:
                self._given = None
                raise
            self._gave(step, loss)
            raise
        if self._kv.clock == clock:
            self._given = None  # it was left out
        self._gave(step, loss)

    def _gave(self, step: int, loss: float) -> None:
        self._runners.end(step)
        del self._begun[step]
        self._losses = {at: each for at, each in self._losses.items() if at > step - self._depth} | {step: loss}

    def _landed(self) -> None:
        """Have the new weights where this worker computes, and buffers written anew, which belong to them."""
        runner, self._given = self._given, None
        params = self._kv.params
        for name in self._trained:
            params[name]
        if runner is not None:
            runner.finish()

    def _wait(self, *, expects: bool) -> None:
        """Wait for what the oldest wave needs, or for whatever comes before it."""
        wanted = self._runners.waiting_for
        if wanted is None and not expects:  # it is weights: to begin with, or for the next gradients to be given
            self._store.await_turn(lambda: self._lines.arrivals != self._arrivals)
            return
        step, transfer = wanted or (self._next - 1, None)
        what = f"the next batch, after step {step}" if transfer is None else f"{transfer!r} of step {step}"
        since = self._trace.now()
        self._lines.wait(self._stirred, what, self._route.first if transfer is None else self._route.sender(transfer))
        self._trace.add("wait", since, name=what if transfer is None else repr(transfer), clock=step)

    def _stirred(self) -> bool:
        """Whether anything has come since it was last looked."""
        return self._lines.arrivals != self._arrivals or (self._given is not None and self._store.turn())

    def _unused(self, kind: str, stage: int) -> int:
        kept = sum((t.kind, t.stage) == (kind, stage) for wave in self._planned for t in wave.kept)
        return kept + self._runners.unused(kind, stage)

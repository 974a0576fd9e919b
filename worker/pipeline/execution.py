"""DistributedPipeline: a pipeline whose stages are on several workers, as one of them executes it.

The worker with the first stage has the batches, and says of each pass what all others have to know (the plan): a step
of so many micro-batches, or outputs for as many, when the model is measured. The others do what it says, one pass after
the other; so it may measure whenever its script likes, also while they wait for the next batch, in a barrier, or to
leave.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

from ps.errors import PeerLost, StateError, UsageError
from ps.pipeline import Pipeline
from ps.pipeline.runner import PLAN, StepPlan, Transfer
from ps.pipeline.worker_stages import WorkerStages
from ps.worker.model import declared_kinds
from ps.worker.pipeline import first_bad
from ps.worker.pipeline.balancing import balanced_cut
from ps.worker.pipeline.dealing import cut_for, demand_seat, described, divided, schedule_for
from ps.worker.pipeline.gathering import Gathering, give
from ps.worker.pipeline.measuring import outputs_of
from ps.worker.pipeline.peers import PipelinePeers
from ps.worker.pipeline.pipeline_store import PipelineStore
from ps.worker.pipeline.stage_route import StageRoute
from ps.worker.pipeline.waves_under_way import Wave, WavesUnderWay
from ps.worker.session import Session
from ps.xp import Array

log = logging.getLogger("ps.worker")

FAREWELL = 5.0
"""Seconds for which the last words to the others are said, at most."""
NEXT = 20
"""Milliseconds for which another batch that is measured is waited for, by a worker that has other things to do."""
END, MEASURE, BARRIER = "end", "outputs", "barrier"
"""The plan after which there is none; that of a batch whose outputs are wanted; and word that the worker which plans is
in a barrier: who has come to its end by then and only waits to leave goes there too. That of a step is a dict, that of
a tensor that is to be saved a tuple. Where steps overlap MEASURE and such a tuple come in a list, with how many updates
are in the weights that are measured or saved."""


class DistributedPipeline:
    """One worker's stages of a pipeline."""

    def __init__(self, pipeline: Pipeline, kv: Any, seed: int, session: Session, store: PipelineStore) -> None:
        """``store`` is the connection's. Raises UsageError for a model that cannot be cut as the job has it."""
        self._store = store
        job = session.job
        demand_seat(session.rank, job)
        self._session, self._kv, self._seed = session, kv, seed
        self._pipeline, self._chain, self._kind = pipeline, pipeline.chain, pipeline.arrays
        self._place, self._places = session.rank % job.places, job.places
        self._first_rank = session.rank - self._place
        self._count = job.stages or job.places
        self._tensors, self._first = described(self._chain, seed)
        if job.stages == 0:
            found = balanced_cut(pipeline, self._count, self._tensors, self._first, session, kv.device)
        else:
            found = cut_for(pipeline.cut, self._count, len(self._chain))
        self._cut = pipeline.cut = found
        self._route = StageRoute(self._first_rank, self._places, found)
        self._own = WorkerStages(
            pipeline,
            self._cut,
            schedule_for(pipeline.schedule, self._count, self._places),
            self._place,
            self._places,
            seed=seed,
            replica=session.rank // self._places,
        )
        self._peers: PipelinePeers | None = None
        self._waves: WavesUnderWay | None = None
        """The steps that are under way, where they overlap."""
        self._pass = 0
        """How many passes there have been."""
        self._kept: list[Transfer] = []
        """What came of the present pass before its plan did."""
        self._broken = False
        """Whether a pass was begun and did not come to its end: the others are in the midst of it."""
        self._ended = False

    @property
    def feeds(self) -> bool:
        return self._place == 0

    @property
    def places(self) -> list[int]:
        return [place for stage in self._own.stages for place in self._cut.stages[stage]]

    # The model

    def init(self, kinds: Mapping[str, str] | None, groups: Mapping[str, Mapping[str, Any]] | None) -> Any:
        kinds = {**self._chain.kinds(), **(kinds or {})}
        model = divided(self._chain, self._cut, self._tensors, self._first, self._places, self._place)
        found = self._kv.init(model, kinds, groups)
        self._first.forget()
        declared = declared_kinds(kinds, list(model.arrays))
        trained = {name for name in model.arrays if declared.get(name, "trainable") == "trainable"}
        self._own.know(model.arrays, trained)
        self._weighs = self._kv.job.specs.weighs
        peers = self._peers = PipelinePeers(self._session, self._kind, self._store.traffic)
        self._session.peer_wait = lambda: peers.waiting
        self._session.tend = peers.turn
        self._session.serve(self._serve)
        self._session.farewell = self._leave
        if self.feeds:
            self._store.gather = partial(self._announce, BARRIER)
        self._store.whole = Gathering(model, self._kind, peers, self._session.rank, lambda told: self._ask(told)).whole
        if self._kv.job.delay:
            self._overlap(peers)
        return found

    def _overlap(self, peers: PipelinePeers) -> None:
        """Have steps overlap from now on."""
        exchange = self._session.exchange
        exchange.wake(peers.pollables)
        peers.wake(exchange.pollables, exchange.look)
        self._waves = WavesUnderWay(
            self._kv,
            self._own,
            peers,
            self._store,
            self._session.trace,
            self._route,
            look=self._look,
        )
        self._store.end_waves = self._drain
        self._session.tend = self._tend

    # A pass

    def step(
        self,
        xs: list[Any],
        ys: list[Any],
        weight: float,
        microbatches: int,
        *,
        examples: int,
        check: bool,
        metrics: Mapping[str, Any],
    ) -> float:
        step = self._kv.clock if self._waves is None else self._waves.next
        plan = StepPlan(step, microbatches, weight, check)
        self._demand_whole()
        self._announce({**asdict(plan), "examples": examples})
        return self._train(plan, examples, metrics, (xs, ys))

    def follow(self, metrics: Mapping[str, Any]) -> float:
        """Do what the first stage's worker says, up to and with its next step."""
        while True:
            if self._waves is not None:
                with self._breaking():
                    self._waves.go_on(self._has_plan, expects=True)
            told = self._next_plan()
            if told == END:
                raise PeerLost(
                    f"worker {self._first_rank} has no more batches, and this worker waits for one: scripts take as "
                    f"many steps as kv.batches has"
                )
            if isinstance(told, dict):
                plan = StepPlan(told["step"], told["microbatches"], told["weight"], told["check"])
                return self._train(plan, told["examples"], metrics, None)
            self._help(told)

    def _announce(self, told: Any) -> None:
        """Begin a pass, and tell the others of what kind."""
        self._pass += 1
        for place in range(1, self._places):
            self._lines.send(self._first_rank + place, self._pass, Transfer(PLAN, place, 0, told))

    def _next_plan(self) -> Any:
        """Wait for what the first stage's worker says of the next pass."""
        self._pass += 1
        self._kept = []
        while True:
            arrived = self._lines.take(self._pass)
            self._kept += [transfer for transfer in arrived if transfer.kind != PLAN]
            for transfer in arrived:
                if transfer.kind == PLAN:
                    return transfer.tree[0] if isinstance(transfer.tree, list) else transfer.tree
            self._lines.await_any(self._pass, f"the next batch, after step {self._kv.clock}", self._first_rank)

    def _train(
        self, plan: StepPlan, examples: int, metrics: Mapping[str, Any], batch: tuple[list[Any], list[Any]] | None
    ) -> float:
        """Take a step. Raises PeerLost when another worker is gone, GradientError as ``kv.step`` does."""
        self._demand_whole()
        if (waves := self._waves) is not None:
            waves.add(Wave(self._pass, plan, examples, metrics, batch, [] if batch else self._kept))
            with self._breaking():
                waves.go_on(lambda: waves.loss is not None)
            return waves.loss or 0.0
        self._broken = True
        trained = self._kv.grads
        gradients, loss = self._execute(plan, batch, trained)
        self._broken = False
        if not math.isfinite(loss) and self._kv.job.on_nan == "fail":
            xs, go = batch and batch[0][: plan.microbatches], partial(self._measure, evaluate=first_bad.evaluate)
            first_bad.demand_none(plan.step, loss, xs, self._announce, self._next_plan, go)
        given = plan.weight if self._weighs and plan.weight else examples
        leaves_out = len(gradients) < len(trained)
        try:
            self._kv.step(gradients, examples=given or None, partial=leaves_out, loss=loss, **metrics)
        except BaseException:
            self._broken = self._kv.clock == plan.step  # it was not taken here, as where a gradient is NaN
            raise
        return loss

    @contextmanager
    def _breaking(self) -> Iterator[None]:
        """Go on with waves. An interrupt leaves them as they are, to be gone on with; an error does not."""
        try:
            yield
        except Exception:
            self._broken = True
            raise

    def _drain(self) -> None:
        """Have all waves be done."""
        if self._waves is not None and not (self._broken or self._ended):
            with self._breaking():
                self._waves.drain()

    def _tend(self) -> None:
        """Take part in what is measured also while this worker waits for servers: they may wait for who measures."""
        self._lines.turn()
        self._look()

    def _has_plan(self) -> bool:
        """Whether it is known what comes next, and is not for ``_look`` to do."""
        return (told := self._peek()) is not None and not isinstance(told, list)

    def _look(self) -> bool:
        """Take part in what is measured next, once this worker has the weights of which it is."""
        told = self._peek()
        if not isinstance(told, list) or self._waves is None or told[1] > self._waves.version:
            return False
        self._help(self._next_plan(), self._waves.tensors)
        return True

    def _peek(self) -> Any:
        """Return what the worker that plans says of the next pass, if that has come."""
        if self.feeds:
            return None
        return next((each.tree for each in self._lines.peek(self._pass + 1) if each.kind == PLAN), None)

    def _demand_whole(self) -> None:
        if self._broken:
            raise StateError(
                "a step of this pipeline was broken off, and the other workers wait in the midst of it: it cannot go on"
            )

    def _execute(
        self, plan: StepPlan, batch: tuple[list[Any], list[Any]] | None, trained: Mapping[str, Array]
    ) -> tuple[dict[str, Array], float]:
        """Do the passes of a step; return the gradients, and the mean loss."""
        kept, trace = [] if batch else self._kept, self._session.trace
        began, busy = time.monotonic(), 0.0
        runner = self._own.runner(plan, self._kv.params, trained)
        self._lines.unused = runner.unused
        for transfer in kept:
            runner.receive(transfer)
        self._send(runner.feed(*batch) if batch else [])
        while not runner.done:
            self._lines.turn()
            for transfer in self._lines.take(self._pass):
                runner.receive(transfer)
            if (wanted := runner.waiting_for) is not None:
                since, rank = trace.now(), self._route.sender(wanted)
                self._lines.await_any(self._pass, f"{wanted!r} of step {plan.step}", rank)
                trace.add("wait", since, name=repr(wanted), clock=plan.step)
            elif not runner.done:
                since, action, at = trace.now(), runner.next, time.monotonic()
                transfers = runner.run()
                busy += time.monotonic() - at
                self._send(transfers, plan.step)
                trace.add("compute", since, name=repr(action), clock=plan.step)
        self._lines.unused = _none
        passes = self._store.traffic.passes
        passes["busy_s"] += busy
        passes["pipeline_s"] += (took := time.monotonic() - began)
        passes["bubble_s"] += took * self._own.bubble(plan.microbatches)
        runner.finish()
        return runner.gradients(), runner.loss

    def _send(self, transfers: Iterable[Transfer], clock: int | None = None) -> None:
        for transfer in transfers:
            self._lines.send(self._route.rank_of(transfer.stage), self._pass, transfer, clock)

    # Measuring

    def outputs(self, x: Any, params: Mapping[str, Any] | None) -> Any:
        own = self._kv.params
        if params is not None and any(params.get(name) is not value for name, value in own.items()):
            raise UsageError(
                "stages that are on several workers give outputs for the parameters as they are, no others"
            )
        if not self.feeds:
            raise UsageError(
                f"outputs are asked for by the worker with the first stage, of rank {self._first_rank}, and this is "
                f"worker {self._session.rank}: kv.evaluate(pipe.accuracy, test) measures there"
            )
        self._ask(MEASURE)
        return self._measure(x)

    def _ask(self, told: Any) -> int:
        """Begin a pass in which the others do something with the weights as they are; return its number."""
        self._demand_whole()
        if self._waves is None:
            self._announce(told)
            return self._pass
        with self._breaking():
            self._waves.settle()
        self._announce([told, self._waves.version])
        return self._pass

    def _measure(self, x: Any, params: Mapping[str, Any] | None = None, **how: Any) -> Any:
        """Send a batch through these stages; return what comes out of the last one, on the worker with the first."""
        given = [(0, x)] if self.feeds else [(transfer.stage, transfer.tree) for transfer in self._kept]
        params = self._kv.params if params is None else params
        return outputs_of(self._own, params, given, self._lines, self._route, self._pass, **how)

    # Beside the script

    def _help(self, told: Any, params: Mapping[str, Any] | None = None) -> None:
        """Do what the first stage's worker wants of this one besides steps."""
        if told == MEASURE:
            self._measure(None, params)
        elif isinstance(told, tuple):
            tensors = self._kv.params if params is None else params
            give(told, tensors, self._place, self._kind, self._lines, self._first_rank, self._pass)

    def _serve(self) -> None:
        """Take part in what the first stage's worker measures while this one waits for something else."""
        self._lines.turn()
        while not (self.feeds or self._ended or self._broken):
            if self._waves is not None and self._look():
                continue
            told = self._peek()
            if not (told in (MEASURE, BARRIER) or isinstance(told, tuple)):
                return
            self._help(self._next_plan())
            if told != BARRIER:
                self._lines.turn(NEXT)  # there are often more

    def _leave(self, failure: str) -> None:
        """Say that there is nothing more, or wait for that: until then others may want to measure."""
        lines = self._lines
        try:
            if failure:
                return
            if self.feeds:
                self._announce(END)
                lines.flush(FAREWELL)
                return
            while not (self._ended or self._broken):
                told = self._next_plan()
                self._ended = told == END
                if told == BARRIER:
                    self._store.barrier()
                elif not isinstance(told, dict):
                    self._help(told)
                else:
                    log.warning("worker %d has more batches than this worker takes steps", self._first_rank)
                    return
            lines.flush(FAREWELL)
        except PeerLost as error:
            log.warning("%s", error)
        finally:
            self._session.tend = self._session.peer_wait = self._store.gather = self._store.end_waves = _nothing
            self._store.whole = None
            self._session.serve(_nothing)
            self._peers = None
            lines.close()

    @property
    def _lines(self) -> PipelinePeers:
        if self._peers is None:
            raise StateError("this pipeline is closed, or pipe.init(kv) was not called")
        return self._peers


def _nothing() -> None:
    """Do nothing: these stages are over."""


def _none(kind: str, stage: int) -> int:
    """Nothing has come of a channel that was not worked with."""
    return 0

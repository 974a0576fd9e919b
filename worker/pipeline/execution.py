"""DistributedPipeline: a pipeline whose stages are on several workers, as one of them executes it.

The worker with the first stage has the batches, and says of each pass what all others have to know (the plan): a step
of so many micro-batches, or outputs for as many, when the model is measured. The others do what it says, one pass after
the other; so it may measure whenever its script likes, also while they wait for the next batch, in a barrier, or to
leave.

**Where a worker may be replaced** (the job has spares) a step is voted on: see ``ps.worker.vote``. When another worker
has taken the place of one that is gone, all meet again, and what was under way begins again from the same weights and
buffers, on the same batch. Unless the servers hold all gradients of the step, from the first time that it was computed:
then it counts, and each worker says so as soon as it hears that, whatever it was computing again (``replay``).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

from ps.errors import PeerLost, StateError, UsageError
from ps.pipeline import Pipeline
from ps.pipeline.runner import StepPlan
from ps.pipeline.worker_stages import WorkerStages
from ps.worker.model import declared_kinds
from ps.worker.pipeline import first_bad
from ps.worker.pipeline.balancing import balanced_cut
from ps.worker.pipeline.dealing import cut_for, described, digest, divided, schedule_for
from ps.worker.pipeline.gathering import TensorGathering, give
from ps.worker.pipeline.measuring import outputs_of
from ps.worker.pipeline.one_step import Batch, gradients_of
from ps.worker.pipeline.passes import BARRIER, END, FOR, MEASURE, STEP, VERSION, WHAT, WISH, Passes
from ps.worker.pipeline.peers import PipelinePeers, StageReplaced
from ps.worker.pipeline.pipeline_store import PipelineStore
from ps.worker.pipeline.replay import Replay
from ps.worker.pipeline.stage_buffers import StageBuffers
from ps.worker.pipeline.stage_route import StageRoute
from ps.worker.pipeline.takeover import Takeover
from ps.worker.pipeline.waves_under_way import Wave, WavesUnderWay
from ps.worker.session import Session

log = logging.getLogger("ps.worker")

FAREWELL = 5.0
"""Seconds for which the last words to the others are said, at most."""
NEXT = 20
"""Milliseconds for which another batch that is measured is waited for, by a worker that has other things to do."""


class DistributedPipeline:
    """One worker's stages of a pipeline."""

    def __init__(self, pipeline: Pipeline, kv: Any, seed: int, session: Session, store: PipelineStore) -> None:
        """``store`` is the connection's. Raises UsageError for a model that cannot be cut as the job has it."""
        self._store = store
        job = session.job
        self._session, self._kv, self._seed = session, kv, seed
        self._pipeline, self._chain, self._kind = pipeline, pipeline.chain, pipeline.arrays
        self._place, self._places = job.place_of(session.rank), job.places
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
            replica=job.pipeline_of(session.rank),
        )
        self._peers: PipelinePeers | None = None
        self._waves: WavesUnderWay | None = None
        """The steps that are under way, where they overlap."""
        self._broken = False
        """Whether a pass was begun and did not come to its end: the others are in the midst of it."""
        self._ended = False
        self._alone: PeerLost | None = None
        """Why a worker that took the place of another has found nobody; they may have come to their end."""

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
        changing = [name for name, kind in declared.items() if name in found and kind in ("buffer", "counter")]
        buffers = StageBuffers({name: self._kv.params[name] for name in changing})
        replay = Replay(self._kv, self._store.vote, buffers)
        try:
            peers = self._peers = PipelinePeers(self._session, self._kind, self._store.traffic)
        except PeerLost as error:
            if not self._store.is_heir:
                raise
            self._alone = error  # all but what comes after the last step may be done
            log.warning("%s", error)
            return found
        self._session.farewell = self._leave
        self._passes = Passes(peers, self._session.rank, self._first_rank, overlaps=bool(self._kv.job.delay))
        takeover = self._takeover = Takeover(peers, self._passes, replay, self._reset)
        if self._store.is_heir:
            takeover.succeed(self._kv.clock)
            self._pipeline.resume(self._kv.clock)
        self._session.peer_wait = lambda: peers.waiting
        self._session.tend = takeover.tend
        self._session.serve(self._serve)
        if self.feeds:
            self._store.gather = self._gather
        gathering = TensorGathering(model, self._kind, peers, self._session.rank, self._ask, takeover.persist)
        self._store.whole = gathering.whole
        if self._kv.job.delay:
            self._overlap(peers)
        return found

    def _reset(self) -> None:
        """What was under way is over, also where something else was waited for meanwhile."""
        self._broken = False
        self._session.serve(self._serve)

    def _gather(self) -> None:
        """Tell the others that this worker goes into a barrier."""
        self._takeover.persist(lambda: self._passes.announce({FOR: BARRIER, "number": self._store.barriers}))

    def _overlap(self, peers: PipelinePeers) -> None:
        """Have steps overlap from now on."""
        exchange = self._session.exchange
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
        votes = self._waves is None and (self._session.awaits_spares or self._takeover.replay.again)
        marks = digest((xs[:microbatches], ys[:microbatches]), self._kind) if votes else 0
        told = {FOR: STEP, **asdict(plan), "examples": examples, "votes": votes, "digest": marks}

        def attempt() -> float:
            self._passes.announce(told)
            return self._train(told, metrics, (list(xs), list(ys)))

        return self._takeover.step(attempt, metrics)

    def follow(self, metrics: Mapping[str, Any]) -> float:
        """Do what the first stage's worker says, up to and with its next step."""
        self._demand_whole()
        return self._takeover.step(lambda: self._follow(metrics), metrics)

    def _follow(self, metrics: Mapping[str, Any]) -> float:
        while True:
            if self._waves is not None:
                with self._breaking():
                    self._waves.go_on(self._has_plan, expects=True)
            told = self._passes.next(self._kv.clock)
            if told[FOR] == END:
                raise PeerLost(
                    f"worker {self._first_rank} has no more batches, and this worker waits for one: scripts take as "
                    f"many steps as kv.batches has"
                )
            if told[FOR] == STEP and (self._waves is not None or told["step"] >= self._kv.clock):
                return self._train(told, metrics, None)
            if told[FOR] == WISH:
                self._help(told)
            elif told[FOR] == BARRIER and told["number"] == self._store.barriers:
                self._store.meet()  # another worker's script had not come to it before

    def _train(self, told: Mapping[str, Any], metrics: Mapping[str, Any], batch: Batch | None) -> float:
        """Take a step. Raises PeerLost when another worker is gone, GradientError as ``kv.step`` does."""
        plan = StepPlan(told["step"], told["microbatches"], told["weight"], told["check"])
        if (waves := self._waves) is not None:
            kept = [] if batch else self._passes.kept
            waves.add(Wave(self._passes.number, plan, told["examples"], metrics, batch, kept))
            with self._breaking():
                waves.go_on(lambda: waves.loss is not None)
            return waves.loss or 0.0
        votes, replay, lines = told["votes"], self._takeover.replay, self._lines
        self._broken, lines.recovers = True, votes
        trained: Mapping[str, Any] = self._kv.grads
        if votes:
            replay.begin(plan.step, told["digest"], self._first_rank)
            if replay.has_offered(plan.step):
                trained = dict.fromkeys(trained)
        about = lines, self._passes, self._route, self._session.trace, self._store.traffic
        gradients, loss = gradients_of(self._own, plan, batch, self._kv.params, trained, *about)
        if not math.isfinite(loss) and self._kv.job.on_nan == "fail":
            self._demand_finite(plan, loss, batch)
        given = plan.stands_for(told["examples"], weighs=self._weighs)
        how = {"examples": given, "partial": len(gradients) < len(trained)}
        if votes:
            loss, gradients = replay.vote(plan.step, gradients, how, loss), {}
        self._broken, lines.recovers = False, True
        try:
            self._kv.step(gradients, **how, loss=loss, **metrics)
        except BaseException:
            self._broken = self._kv.clock == plan.step  # it was not taken here, as where a gradient is NaN
            raise
        return loss

    def _demand_finite(self, plan: StepPlan, loss: float, batch: Batch | None) -> None:
        """Raise GradientError, on all workers, where a layer is found that a loss which is no number comes from."""
        xs, go = batch and batch[0][: plan.microbatches], partial(self._measure, evaluate=first_bad.evaluate)
        passes = self._passes

        def wish(told: Any) -> None:
            passes.announce({FOR: WISH, WHAT: told})

        first_bad.demand_none(plan.step, loss, xs, wish, lambda: passes.next(plan.step)[WHAT], go)

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
        return (told := self._passes.coming) is not None and VERSION not in told

    def _look(self) -> bool:
        """Take part in what is measured next, once this worker has the weights of which it is."""
        told = self._passes.coming
        if told is None or self._waves is None or told.get(VERSION, math.inf) > self._waves.version:
            return False
        self._help(self._passes.next(self._kv.clock), self._waves.still)
        return True

    def _demand_whole(self) -> None:
        if self._alone is not None:
            raise self._alone
        if self._broken:
            raise StateError(
                "a step of this pipeline was broken off, and the other workers wait in the midst of it: it cannot go on"
            )

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
        self._demand_whole()
        return self._takeover.persist(lambda: (self._ask(MEASURE), self._measure(x))[1])

    def _ask(self, told: Any) -> int:
        """Begin a pass in which the others do something with the weights as they are; return its number."""
        self._demand_whole()
        wish: dict[str, Any] = {FOR: WISH, WHAT: told}
        if self._waves is not None:
            with self._breaking():
                self._waves.settle()
            wish[VERSION] = self._waves.version
        self._passes.announce(wish)
        return self._passes.number

    def _measure(self, x: Any, params: Mapping[str, Any] | None = None, **how: Any) -> Any:
        """Send a batch through these stages; return what comes out of the last one, on the worker with the first."""
        given = [(0, x)] if self.feeds else [(transfer.stage, transfer.tree) for transfer in self._passes.kept]
        params = self._kv.params if params is None else params
        return outputs_of(self._own, params, given, self._lines, self._route, self._passes.number, **how)

    # Beside the script

    def _help(self, told: Mapping[str, Any], params: Mapping[str, Any] | None = None) -> None:
        """Do what the first stage's worker wants of this one besides steps."""
        if (what := told[WHAT]) == MEASURE:
            self._measure(None, params)
        elif isinstance(what, tuple):
            tensors = self._kv.params if params is None else params
            give(what, tensors, self._place, self._kind, self._lines, self._first_rank, self._passes.number)

    def _serve(self) -> None:
        """Take part in what the first stage's worker measures while this one waits for something else."""
        lines = self._lines
        lines.turn()
        if lines.changed and lines.recovers:
            self._takeover.meet()
        while not (self.feeds or self._ended or self._broken):
            if self._waves is not None and self._look():
                continue
            told = self._passes.coming
            if told is None or told[FOR] not in (WISH, BARRIER) or VERSION in told:
                return
            told = self._passes.next(self._kv.clock)
            if told[FOR] == WISH:
                self._persist_help(told)
                lines.turn(NEXT)  # there are often more

    def _persist_help(self, told: Mapping[str, Any]) -> None:
        """Help, unless a worker is replaced meanwhile: then it is asked for again."""
        try:
            self._help(told)
        except StageReplaced:
            self._takeover.meet()

    def _leave(self, failure: str) -> None:
        """Say that there is nothing more, or wait for that: until then others may want to measure."""
        lines = self._lines
        try:
            if failure:
                return
            persist = self._takeover.persist
            if self.feeds:
                persist(lambda: self._passes.announce({FOR: END}))
                lines.flush(FAREWELL)
                return
            while not (self._ended or self._broken):
                told = persist(lambda: self._passes.next(self._kv.clock))
                self._ended = told[FOR] == END
                if told[FOR] == WISH:
                    self._persist_help(told)
                elif told[FOR] == BARRIER and told["number"] == self._store.barriers:
                    self._store.meet()
                elif told[FOR] == STEP and told["step"] >= self._kv.clock:
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

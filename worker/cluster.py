"""ClusterStore: the parameters on servers. Sends gradients and brings weights back, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ps.config.pipeline import replaces
from ps.errors import PSError, StateError
from ps.protocol.layout import Chunk, Layout
from ps.protocol.messages import Pull
from ps.protocol.segment import MappedView
from ps.protocol.worker_memory import WorkerMemory
from ps.worker.background import Background, Pending
from ps.worker.barrier import meet
from ps.worker.batch import Batch
from ps.worker.batch_loader import BatchLoader
from ps.worker.compression import Compression
from ps.worker.conversation import Calls
from ps.worker.crew import StepShare, ask_share
from ps.worker.cut_plan import CutPlan
from ps.worker.evaluation import Evaluation
from ps.worker.gradients import Gradients
from ps.worker.landing import Landing
from ps.worker.lease_link import courses_of
from ps.worker.leases import reported
from ps.worker.part import ModelPart
from ps.worker.participation import Participation
from ps.worker.runner import Runner
from ps.worker.server_channels import ToShare
from ps.worker.session import Session
from ps.worker.step_log import StepLog
from ps.worker.stop_point import StopPoint
from ps.worker.store import Buffers, Masters, WholeModel, nothing
from ps.worker.traffic import Traffic
from ps.worker.vote import StepVote
from ps.worker.weights import shared_twice, twice
from ps.xp import Device, HostArray

if TYPE_CHECKING:
    from ps.pipeline import Pipeline
    from ps.pipeline.execution import Execution


class ClusterStore:
    """The model of a job that runs on servers, as one of its workers deals with it."""

    def __init__(self, session: Session) -> None:
        self.traffic = Traffic()
        self.background: Background = self
        self.report: Callable[[], dict[str, Any]] = dict
        self.gather: Callable[[], None] = lambda: None
        """Called before this worker goes into a barrier."""
        self.whole: Callable[[Mapping[str, Any]], WholeModel] | None = None
        self.end_waves: Callable[[], None] = lambda: None
        """Called to have all steps be done that the script has given, where they may overlap."""
        self.cut_plan: CutPlan | None = session.cut_plan
        self.is_heir = False
        """Whether this worker goes on for another one, which is gone."""
        self.barriers = session.barriers
        """How many this worker, or the one before it, has met the others in."""
        self._passed_over = self.barriers
        """Of these, how many the script is still to come to."""
        self._share: StepShare | None = None
        self._early: Batch | None = None
        """What is sent of the next step."""
        self._aside = Batch()
        """The last pull."""
        self._memory: WorkerMemory | None = None
        self._view: MappedView | None = None
        self._session = session
        self.job = session.job
        self.rank = session.rank
        self._part = Participation(self.job, session.member, self.rank, lambda: session.epoch)
        self._part.servers = lambda: session.exchange.servers
        self._runner = Runner(session, self._landing)
        self.vote = StepVote(session, self._part, self.traffic)
        self._courses = courses = courses_of(session, self, self._part, self._runner.run)
        session.report = lambda: {
            **self.report(),
            **reported(courses),
            "clock": self.clock,
        }  # last: it may be asked now

    @property
    def scheduler(self) -> str:
        return self._session.scheduler

    @property
    def clock(self) -> int:
        return self._part.clock

    @property
    def rejoins(self) -> int:
        return self._part.rejoins

    @property
    def num_workers(self) -> int:
        return len(self._session.peers("worker"))

    # The model

    @property
    def job_id(self) -> str:
        return self._session.job_id

    @property
    def saves(self) -> bool:
        place_of = self.job.place_of
        firsts = (peer.rank for peer in self._session.peers("worker") if place_of(peer.rank) == 0)
        return place_of(self.rank) == 0 and all(rank >= self.rank for rank in firsts)

    def init(
        self,
        layout: Layout,
        values: HostArray,
        *,
        in_place: bool,
        count: Callable[[], Masters] = nothing,
        part: ModelPart | None = None,
    ) -> Buffers:
        job, run = self.job, self._runner.run
        first = run(self._part.claim(layout, part))
        masters = count() if first else {}
        self._first = _chunks_of_first_tensor(layout, self._part.chunks)
        viewing = in_place and job.reads_in_place
        sharing = part is None or not (part.changing and replaces(job))
        if early := (first and part is not None and sharing and job.transport == "auto"):
            self._seed_whole(layout, values)
        sections = None if part is None else part.shared
        shared = ToShare(layout.nbytes, sections, seeding=first, viewing=viewing, sharing=sharing)
        channels = self._session.connect(self.traffic, shared)
        self._memory, self._view = channels.memory, channels.view
        self._part.in_place = self._view is not None
        self._buffer, shown = self._own_buffer(values, in_place)
        self._landings()
        if first:
            if not early:
                run(self._part.seed(layout, values, masters))
            run(self._part.go_on())
        elif part is None:
            run(self._part.join())
        else:
            self.is_heir = run(self._part.enter())
        gradients = self._memory.array("gradients") if self._memory else None
        return Buffers(self._buffer, shown, gradients, encodes=self._part.compression is not None)

    def _seed_whole(self, layout: Layout, values: HostArray) -> None:
        """Give the first values of a whole model, for most of which there is no room in memory of a part's."""
        self._session.connect(self.traffic, ToShare(layout.nbytes, sharing=False))
        self._own = self._none = Landing(None, self.traffic, hear=self._part.hear)
        self._runner.run(self._part.seed(layout, values, {}))
        self._session.disconnect()

    def _own_buffer(self, values: HostArray, in_place: bool) -> tuple[HostArray, HostArray]:
        """Return this worker's own buffer, shared with the servers where there are such, and what a script sees."""
        if self._memory is None and not in_place:
            return values, values
        own, shown = twice(values.nbytes) if self._memory is None else shared_twice(self._memory)
        if self._view is not None:
            return own, self._view.array
        np.copyto(own, values)
        return own, shown if in_place else own

    def _detach(self, region: str = "weights") -> None:
        """From now on have the weights in this worker's memory: where gradients were, once nobody reads these."""
        if self._view is not None and self._memory is not None:
            np.copyto(self._memory.reserve(region), self._view.array)
            view, self._view, self._part.in_place = self._view, None, False
            view.turn(self._memory.segment, self._memory.offset(region))
            self._landings()

    def _landings(self) -> None:
        """Settle where answers' weights go: into this worker's own, if they are not read in place, or nowhere."""
        part, traffic = self._part, self.traffic
        follow = self._follow if part.compression is not None else None
        into = self._buffer if self._view is None else None
        self._own = Landing(into, traffic, part.versions, part.hear, follow)
        self._none = Landing(None, traffic, hear=part.hear)

    def _landing(self, asked: Calls) -> Landing:
        return self._own if asked.refreshes else self._none

    def _follow(self, payload: Any, chunk: int, version: int) -> int:
        assert self._part.compression is not None
        return self._part.compression.follow(payload, self._buffer, self._part.chunks[chunk], version)

    # Gradients up, weights down

    def execution(self, pipeline: Pipeline, kv: Any, seed: int) -> Execution | None:
        if not self.job.pipeline:
            return None
        from ps.worker.pipeline.execution import DistributedPipeline

        return DistributedPipeline(pipeline, kv, seed, self._session, self)

    def owed(self) -> tuple[Compression, tuple[Chunk, ...]] | None:
        return None if self._part.compression is None else (self._part.compression, self._part.chunks)

    def loader(self, device: Device, log: StepLog, evaluation: Evaluation) -> BatchLoader:
        job = self.job
        place = job.place_of(self.rank) if job.pipeline else None
        where, size = (job.pipeline_of(self.rank), job.copies, job.seed, self), job.global_batch
        seen = self._session.cut_plan.data.look
        return BatchLoader(device, *where, place=place, size=size, courses=self._courses, seen=seen)

    def share(self) -> StepShare:
        if self._share is None or self._share.clock != self.clock:
            self.settle()
            self._share = self._runner.run(ask_share(self._part, self.rank))
        return self._share

    def set_rates(self, groups: Iterable[str], *, lr: float | None = None, weight_decay: float | None = None) -> None:
        for group in groups:
            self._part.rates[group].set(lr, weight_decay)

    def settle(self) -> None:
        self._runner.finish()

    def push(self, gradients: Gradients | None, examples: float) -> Pending:
        self.settle()
        self._detach()  # until they are pulled the weights are to stay as they are
        if gradients is not None:
            gradients.keep()
        part, runner, after = self._part, self._runner, self.clock + 1
        try:
            runner.begin(part.step(gradients, examples, pull=False), wait=part.two_phases)
            self._session.exchange.flush(runner.under_way)
        finally:
            part.clock = max(part.clock, after)  # also when it was interrupted: all of it is on its way, or will be
        return runner.under_way

    def pull(self, into: HostArray) -> Pending:
        if self._runner.interrupted:
            self._runner.finish()
        self.wait(self._aside)
        own = into is self._buffer
        landing = self._own if own else Landing(into, self.traffic, hear=self._part.hear)
        self._aside = Batch(f"clock {self.clock}", landing)
        calls = self._part.each(Pull, clock=self.clock, aside=True)
        return self._runner.submit(Calls(self._aside.label, calls), self._aside)

    def _await_pull(self) -> None:
        """Wait for a pull into the weights' buffer, so that what it brings does not replace newer weights there."""
        if self._aside.landing is not None and self._aside.landing.into is self._buffer:
            self.wait(self._aside)

    @property
    def eager(self) -> bool:
        return self.job.clip_norm is None  # else the factor that all chunks share is not known yet

    def send(self, gradients: Gradients, chunks: Iterable[int], examples: float) -> None:
        self._await_pull()
        if self.job.overlap:
            gradients.keep(chunks)
        pull = not self._part.two_phases
        calls = self._part.pushes(gradients, chunks, examples, pull=pull)
        asked = Calls(f"clock {self.clock}", calls, refreshes=pull)
        self._early = self._runner.submit(asked, self._early)
        self._session.exchange.poll()

    def offer(self, gradients: Gradients, examples: float) -> None:
        self.send(gradients, self._part.own(), examples)

    def push_pull(self, gradients: Gradients | None, examples: float, *, veto: bool = False) -> Pending:
        self._await_pull()
        early, self._early = self._early, None
        if early is None:
            self.settle()
        overlap, behind, part, after = self.job.overlap, self.job.delay > 0, self._part, self.clock + 1
        if overlap and gradients is not None:
            gradients.keep()
        try:
            step = part.step(gradients, examples, pull=True, veto=veto)
            self._runner.begin(step, early, wait=not self.job.defers, behind=behind)
        except BaseException:
            self._keep(gradients)
            raise
        finally:
            part.clock = max(part.clock, after)  # also when it was interrupted: all of it is on its way, or will be
        if overlap:
            self.arrive(self._first)
        return self._runner.under_way

    def turn(self) -> bool:
        """Go on with a step that was not waited for, as far as it is answered; return whether it is done."""
        self._session.exchange.look()
        self._runner.turn()
        return not self._runner.busy

    def await_turn(self, also: Callable[[], bool]) -> None:
        """Return when there is something for ``turn`` to do, or ``also`` says so."""
        self._runner.wait(also)

    def lag(self, clocks: int) -> None:
        """Say how many clocks the weights lack that the next step's gradients were computed with."""
        self._part.lag = clocks

    def drain(self) -> None:
        self.end_waves()

    def _keep(self, gradients: Gradients | None) -> None:
        """Have a step that was interrupted sent from memory that the script does not change."""
        if gradients is not None and self._part.compression is None:
            gradients.keep()
            chunks, under_way = self._part.chunks, self._runner.under_way
            self._session.exchange.send_from(under_way, lambda index: gradients.chunk(chunks[index]))

    def arrive(self, chunks: Iterable[int]) -> None:
        runner = self._runner
        if not runner.busy:
            return
        if not runner.interrupted:
            self._session.exchange.wait_for(runner.under_way, chunks)
        if runner.interrupted or runner.under_way.done or runner.under_way.late:
            runner.finish()

    def poll(self) -> None:
        if self._session.connected:
            self._session.exchange.poll()

    def wait(self, pending: Pending) -> None:
        if not isinstance(pending, Batch):
            raise StateError(f"{pending!r} is not an exchange of this store")
        if not pending.done or pending.error is not None:
            self._session.exchange.wait(pending)
        if pending is self._runner.under_way:
            self._runner.finish()

    def masters(self) -> tuple[int, Mapping[str, HostArray]]:
        from ps.following.follower import follow

        with follow(self.scheduler, every=0, masters=True) as snapshots:
            found = next(snapshots)
        return found.clock, found

    # Together

    def barrier(self) -> None:
        if self._passed_over:
            self._passed_over -= 1
            return
        if self._session.connected:
            self.drain()
            self.settle()
            self.gather()
        self.meet()

    def meet(self) -> None:
        """Meet the others in a barrier, which another worker's script has come to."""
        if self._session.connected:
            self.drain()
            self.settle()
        plan = self._session.cut_plan
        plan.pause()
        try:
            if self._session.connected:
                self._runner.begin(self._part.barrier(), wait=True)
            else:
                self._runner.run(meet(self.clock))
        finally:
            plan.go_on(self.clock)
        self.barriers += 1

    # The end

    @property
    def stop_point(self) -> StopPoint:
        return self._session.stop_point

    def begin_step(self) -> bool:
        return self._session.begin(self._part.clock)

    def stop(self, reason: str) -> None:
        self._session.stop(self._part.clock, reason)

    def close(self, failure: str = "") -> None:
        unsettled: PSError | None = None
        try:
            if not failure and self._session.connected:
                self._runner.settle()
        except PSError as error:
            unsettled = error
            failure = f"{type(error).__name__}: {error}"
        finally:
            try:
                self._detach("weights" if failure else "gradients")  # others may go on, and with them the weights
            finally:
                self._session.leave(failure)
        if unsettled is not None:
            raise unsettled


def _chunks_of_first_tensor(layout: Layout, chunks: tuple[Chunk, ...]) -> list[int]:
    first = next((tensor for tensor in layout.tensors if tensor.size), None)
    if first is None:  # all that this worker has of the model is frozen
        return []
    return [c.index for c in chunks if c.section == first.section and c.start < first.stop and c.stop > first.start]

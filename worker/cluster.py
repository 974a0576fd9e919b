"""ClusterStore: the parameters on servers. Sends gradients and brings weights back, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

from ps.errors import PSError, StateError
from ps.optim import clip_scale
from ps.protocol.layout import Chunk, Layout
from ps.protocol.messages import Message, Pull, Push, Scale, Skip
from ps.protocol.segment import MappedView
from ps.protocol.worker_memory import WorkerMemory
from ps.worker.batch import Batch
from ps.worker.batch_loader import BatchLoader
from ps.worker.compression import Compression
from ps.worker.evaluation import Evaluation
from ps.worker.exchange import Exchange
from ps.worker.gradients import Gradients
from ps.worker.rates import Rates
from ps.worker.seeding import seed
from ps.worker.session import Session
from ps.worker.step_log import StepLog
from ps.worker.store import Buffers, Pending, Traffic
from ps.worker.weights import shared_twice, twice
from ps.xp import Array, Device, HostArray

MOST_JOINS = 10
"""Times to come in anew, at most, before weights of several clocks are put up with."""


class ClusterStore:
    """The model of a job that runs on servers, as one of its workers deals with it."""

    def __init__(self, session: Session) -> None:
        self.clock = 0
        self.rejoins = 0
        self.traffic = Traffic()
        self.report: Callable[[], dict[str, Any]] = dict
        self._pushed = Batch()
        self._aside = Batch()
        self._early: Batch | None = None
        self._left: Callable[[], Any] | None = None
        """What an interrupt left to be done before anything else; done anew if it is interrupted itself."""
        self._versions: dict[int, int] = {}
        self._memory: WorkerMemory | None = None
        self._view: MappedView | None = None
        self._session = session
        session.report = lambda: {**self.report(), "clock": self.clock}
        self.job = self._session.job
        self.rank = self._session.rank
        self._rates = Rates(self.rank)
        self.compression = Compression(self.job, self.rank) if self.job.compress != "none" else None

    @property
    def num_workers(self) -> int:
        return len(self._session.peers("worker"))

    @property
    def neighbours(self) -> int:
        return max(1, sum(peer.is_here for peer in self._session.peers("worker")))

    # The model

    def init(self, layout: Layout, values: HostArray, *, in_place: bool) -> Buffers:
        job, session = self.job, self._session
        self._layout = layout
        self._chunks = layout.chunks(job.servers, job.chunk_bytes)
        self._first = _chunks_of_first_tensor(layout, self._chunks)
        first = session.claim(layout)
        viewing = in_place and job.reads_in_place
        channels = session.connect(self.traffic, layout.nbytes, seeding=first, viewing=viewing)
        self._memory, self._view = channels.memory, channels.view
        self._buffer, shown = self._own_buffer(values, in_place)
        if first:
            session.attach()
            seed(session.exchange, session.member, job, layout, self._chunks, values)
            self._versions = {chunk.index: 0 for chunk in self._chunks}
            session.seeded()
            session.start(0)
        else:
            self._join()
        gradients = self._memory.array("gradients") if self._memory else None
        return Buffers(self._buffer, shown, gradients, encodes=self.compression is not None)

    def _own_buffer(self, values: HostArray, in_place: bool) -> tuple[HostArray, HostArray]:
        """Return this worker's own buffer, shared with the servers where there are such, and what a script sees."""
        if self._memory is None and not in_place:
            return values, values
        own, shown = twice(values.nbytes) if self._memory is None else shared_twice(self._memory)
        if self._view is not None:
            return own, self._view.array
        np.copyto(own, values)
        return own, shown if in_place else own

    def _detach(self) -> None:
        """From now on have the weights in memory of this worker's own, at the same place, as they are now."""
        if self._view is not None and self._memory is not None:
            view, self._view = self._view, None
            np.copyto(self._buffer, view.array)
            view.turn(self._memory.segment, self._memory.offset("weights"))

    def _join(self) -> None:
        """Come in, or back, at the next clock: agree on it with all servers and get its first weights."""
        for _ in range(MOST_JOINS):
            self._begin(self._session.attach())
            self._refresh()
            if not self.job.lockstep or set(self._versions.values()) <= {self.clock}:
                break  # else the connection broke meanwhile, and clocks were closed without this worker
        self.rejoins += 1

    def _catch_up(self, clock: int) -> None:
        """Go on with the clock that is collected by now. The servers count on this worker all the while."""
        for _ in range(MOST_JOINS):
            self._begin(clock)
            self._refresh()
            clock = max(self._versions.values())
            if clock == self.clock:
                break  # else clocks were closed meanwhile; those that are closed everywhere are passed over
        self.rejoins += 1

    def _begin(self, clock: int) -> None:
        self._session.start(clock)
        self.clock = clock

    def _refresh(self) -> None:
        """Bring the weights up to date, and wait for that."""
        self._land()
        self.wait(self._submit_all(self._own_batch(f"clock {self.clock}"), Pull, clock=self.clock))

    # Gradients up, weights down

    def loader(self, device: Device, log: StepLog, evaluation: Evaluation) -> BatchLoader:
        return BatchLoader(device, self.rank, self.job.workers, self.job.seed)

    def place(self, flat: Mapping[str, Array], refresh: Callable[[], None]) -> None:
        pass

    def set_lr(self, lr: float) -> None:
        self._rates.set(lr)

    def settle(self) -> None:
        self._finish()
        self.wait(self._pushed)

    def _finish(self) -> None:
        """Do what is left to do."""
        if self._left is not None:
            self._left()
            self._left = None

    def _do(self, work: Callable[[], Any]) -> None:
        """Do something that has to be done to its end, now or before anything else."""
        self._left = work
        self._finish()

    def push(self, gradients: Gradients | None, examples: float) -> Pending:
        exchange = self._session.exchange
        self.settle()
        self._detach()  # until they are pulled the weights are to stay as they are
        if gradients is not None:
            gradients.keep()
        try:
            if self._two_phases:
                self._push_in_two(exchange, gradients, examples, pull=False)
                exchange.wait(self._pushed)
            else:
                self._pushed = self._submit_push(exchange, gradients, examples, pull=False)
                exchange.flush(self._pushed)
        finally:
            self.clock += 1  # also when it was interrupted: all of it is on its way, or will be sent next
        return self._pushed

    def pull(self, into: HostArray) -> Pending:
        self._finish()
        self.wait(self._aside)
        batch = Batch(f"clock {self.clock}", into, hear=self._rates.hear)
        if into is self._buffer:
            batch = self._own_batch(batch.label)
        self._aside = self._submit_all(batch, Pull, clock=self.clock, aside=True)
        return batch

    def _land(self) -> None:
        """Wait for a pull into the weights' buffer, so that what it brings does not replace newer weights there."""
        if self._aside.into is self._buffer:
            self.wait(self._aside)

    @property
    def eager(self) -> bool:
        return self.job.clip_norm is None  # else the factor that all chunks share is not known yet

    def send(self, gradients: Gradients, chunks: Iterable[int], examples: float) -> None:
        exchange = self._session.exchange
        self._land()
        if self._early is None:
            self._early = self._step_batch(own=True)
        if self.job.overlap:
            gradients.keep(chunks)
        self._submit_gradients(exchange, self._early, gradients, chunks, examples, pull=True)
        exchange.poll()

    def push_pull(self, gradients: Gradients | None, examples: float) -> Pending:
        exchange = self._session.exchange
        self._land()
        if self._early is None:
            self.settle()
        if self.job.overlap and gradients is not None:
            gradients.keep()
        try:
            if self._two_phases:
                self._push_in_two(exchange, gradients, examples, pull=True)
            else:
                self._pushed = self._submit_push(exchange, gradients, examples, pull=True)
            if not self.job.overlap:
                exchange.wait(self._pushed)
        except BaseException:
            self._keep(gradients)
            raise
        finally:
            self.clock += 1  # also when it was interrupted: all of it is on its way, or will be sent next
        if self.job.overlap:
            self.arrive(self._first)
        else:
            self._come_back(self._pushed)
        return self._pushed

    def _keep(self, gradients: Gradients | None) -> None:
        """Have a step that was interrupted sent from memory that the script does not change."""
        if gradients is not None and self.compression is None:
            gradients.keep()
            self._session.exchange.send_from(self._pushed, lambda index: gradients.chunk(self._chunks[index]))

    def arrive(self, chunks: Iterable[int]) -> None:
        if not self._pushed.done:
            self._session.exchange.wait_for(self._pushed, chunks)
            self._come_back(self._pushed)

    def _own_batch(self, label: str) -> Batch:
        """Return a batch that brings this worker's weights up to date; where they are the servers' nothing lands."""
        batch = Batch(label, None if self._view else self._buffer, self._versions, hear=self._rates.hear)
        if self.compression is not None:
            batch.follow = self._follow
        return batch

    def _step_batch(self, *, own: bool) -> Batch:
        """Return the batch of this step's gradients; ``own``: its answers bring this worker's weights up to date."""
        batch = self._own_batch(f"clock {self.clock}") if own else Batch(f"clock {self.clock}", hear=self._rates.hear)
        batch.rates = self._rates.step()
        return batch

    def _follow(self, payload: Any, chunk: int, version: int) -> int:
        assert self.compression is not None
        return self.compression.follow(payload, self._buffer, self._chunks[chunk], version)

    def poll(self) -> None:
        if self._session.connected:
            self._session.exchange.poll()

    def wait(self, pending: Pending) -> None:
        if not isinstance(pending, Batch):
            raise StateError(f"{pending!r} is not an exchange of this store")
        if not pending.done or pending.error is not None:
            self._session.exchange.wait(pending)
        self._come_back(pending)

    def _come_back(self, batch: Batch) -> None:
        """After a push that came too late: take part again from the next clock."""
        if batch.late:
            late, batch.late = batch.late, set()
            if self.compression is not None:
                self.compression.give_back(late)
            self._do(partial(self._catch_up, batch.collected) if self.job.backup_workers else self._join)

    def _submit_push(self, exchange: Exchange, gradients: Gradients | None, examples: float, *, pull: bool) -> Batch:
        """Queue a push of every chunk that is not under way; with ``pull`` the answers bring the weights up to date."""
        early, self._early = self._early, None
        batch = early or self._step_batch(own=pull)
        if gradients is not None:
            rest = [chunk.index for chunk in self._chunks if chunk.index not in batch.chunks]
            self._submit_gradients(exchange, batch, gradients, rest, examples, pull=pull)
            return batch
        pull = pull and self._view is None
        return self._submit_all(batch, Skip, clock=self.clock, pull=pull, rates=batch.rates, versions=True)

    def _submit_gradients(
        self,
        exchange: Exchange,
        batch: Batch,
        gradients: Gradients,
        chunks: Iterable[int],
        examples: float,
        *,
        pull: bool,
    ) -> None:
        pull = pull and self._view is None  # else it is enough to know that the weights are up to date
        member, clock, scale = self._session.member, self.clock, self._own_scale(gradients)
        for index in chunks:
            chunk = self._chunks[index]
            make = partial(
                Push,
                member=member,
                chunk=index,
                clock=clock,
                version=self._versions.get(index, 0),
                examples=examples,
                scale=scale,
                pull=pull,
                rates=batch.rates,
            )
            payload = gradients.chunk(chunk)
            if self.compression is not None:
                payload = self.compression.encode(payload, index, clock)
            exchange.submit(batch, chunk.server, make, payload, chunk.region)
            batch.chunks.add(index)

    def _submit_all(
        self, batch: Batch, kind: Callable[..., Message], *, versions: bool = False, **fields: Any
    ) -> Batch:
        """Queue a request without payload for every chunk; ``versions``: it names that of this worker's weights."""
        for chunk in self._chunks:
            known = {"version": self._versions.get(chunk.index, 0)} if versions else {}
            make = partial(kind, member=self._session.member, chunk=chunk.index, **fields, **known)
            self._session.exchange.submit(batch, chunk.server, make, None, chunk.region)
        return batch

    # Clipping by global norm

    @property
    def _two_phases(self) -> bool:
        return self.job.clips_in_two_phases

    def _own_scale(self, gradients: Gradients) -> float:
        """Async and SSP apply each worker's gradient alone, so its norm is known here, without a second phase."""
        if self.job.clip_norm is None or self._two_phases:
            return 1.0
        return clip_scale(gradients.norm_squared(), self.job.clip_norm)

    def _push_in_two(self, exchange: Exchange, gradients: Gradients | None, examples: float, *, pull: bool) -> None:
        """Clip the aggregated gradient by its global norm: push, add up all chunks' squares, then scale."""
        self._pushed = self._submit_push(exchange, gradients, examples, pull=False)
        self._do(partial(self._scale, exchange, self._pushed, self.clock, pull))

    def _scale(self, exchange: Exchange, first: Batch, clock: int, pull: bool) -> None:
        assert self.job.clip_norm is not None
        exchange.wait(first)
        if first.late:
            return
        scale = clip_scale(sum(first.squares[index] for index in sorted(first.squares)), self.job.clip_norm)
        batch = self._own_batch(first.label) if pull else Batch(first.label, hear=self._rates.hear)
        batch.staleness = first.staleness
        pull = pull and self._view is None
        self._pushed = self._submit_all(batch, Scale, clock=clock, scale=scale, pull=pull, versions=True)

    # Together

    def barrier(self) -> None:
        """Meet all live workers.

        While a worker waits here the others may still have steps to do: the servers are told not to count on it.
        Then all take part again from the highest clock among them and get its weights; and they only go on when
        all have them, and every server knows of every worker.
        """
        if not self._session.connected:
            self._session.meet(self.clock)
            return
        self.settle()
        self._left = self._join  # whoever is interrupted in here takes part again from the next clock on
        self._session.retire()
        self._begin(self._session.meet(self.clock))
        self._refresh()
        self._session.meet(self.clock)
        self._left = None

    # The end

    def close(self, failure: str = "") -> None:
        unsettled: PSError | None = None
        try:
            if not failure and self._session.connected:
                self._finish()
                self._session.exchange.wait(self._pushed)
        except PSError as error:
            unsettled = error
            failure = f"{type(error).__name__}: {error}"
        finally:
            try:
                self._detach()  # the others may go on, and with them the servers' weights
            finally:
                self._session.leave(failure)
        if unsettled is not None:
            raise unsettled


def _chunks_of_first_tensor(layout: Layout, chunks: tuple[Chunk, ...]) -> list[int]:
    first = next(tensor for tensor in layout.tensors if tensor.size)
    return [c.index for c in chunks if c.section == first.section and c.start < first.stop and c.stop > first.start]

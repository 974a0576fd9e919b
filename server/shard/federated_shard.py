"""FederatedShard: one server's part of a federated model as a state machine. Messages in, messages out; no sockets.

Clients pull the published weights and upload deltas. What counts, and when a round is published, is the scheduler's
decision, which comes as RoundOrders; how far this server is goes to it as a RoundStatus whenever that has changed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ps.config.job import JobConfig
from ps.config.privacy import samples
from ps.config.secure import frames_of
from ps.errors import BadMessage
from ps.protocol.layout import Chunk, Layout
from ps.protocol.messages import (
    Distances,
    Error,
    Init,
    InitChunk,
    Inquire,
    MaskSum,
    Message,
    Ok,
    Pull,
    Push,
    Resume,
    RoundOrder,
    RoundStatus,
    Suspend,
    Unseal,
    Upload,
    UploadState,
    View,
    Waiting,
    Weights,
)
from ps.protocol.messages.words import ShardPhase
from ps.secure.frames import MaskedFrames
from ps.server.job_key import JobKey
from ps.server.send import SCHEDULER, Origin, Send
from ps.server.shard import combinations
from ps.server.shard.checkpoint import Prepared, ShardCheckpoint, demand
from ps.server.shard.chunk import ChunkState, Waiter, read_raw
from ps.server.shard.client_waiters import ClientWaiters
from ps.server.shard.combination import Counted
from ps.server.shard.combinations import AnyCombination
from ps.server.shard.first_values import (
    another_model,
    another_seeder,
    chunk_of,
    cut_for,
    demand_full_precision,
    filled_chunk,
    layout_of,
    no_memory,
)
from ps.server.shard.publisher import Publisher
from ps.server.shard.uploads import Uploads
from ps.state_file import StateFile
from ps.trace import OFF, Trace
from ps.xp import HostArray


class FederatedShard:
    """The chunks of one server, the deltas that come for them, and the round they are collected for."""

    def __init__(
        self,
        rank: int,
        job: JobConfig,
        key: JobKey,
        state_file: StateFile | None = None,
        trace: Trace = OFF,
        threads: int = 0,
        member: int = 0,
    ) -> None:
        """Go on with what ``state_file`` holds, if anything. Raises ConfigError when that belongs to another job."""
        self.rank = rank
        self.member = member
        self.job = job
        self._key, self._trace = key, trace
        self._noise = combinations.correlated_noise(job)
        self._publisher = Publisher(job, threads)
        self._checkpoint = ShardCheckpoint(state_file or StateFile(None), job, rank, self._publisher.name)
        self.chunks: dict[int, ChunkState] = {}
        self.version = 0
        self._attempt = 0
        self._phase: ShardPhase = "collect"
        self._folded = 0
        self._layout: Layout | None = None
        self._has_all = False
        self._seeder = 0
        self._waiters = ClientWaiters()
        self._frames: MaskedFrames | None = None
        self._uploads = Uploads(job, {})
        self._combination = self._fresh()
        self._clipped = 0.0  # of the elements under masks, in the last round
        self._distances: HostArray | None = None
        self._prepared: Prepared | None = None
        self._last: RoundOrder | None = None  # what was ordered of the attempt; a helper may have been waited for
        self._restore()

    # What a server asks of its shard

    deserted = False
    """Clients come and go as they like."""

    def expects(self, member: int) -> bool:
        """Whether a member's messages are a sign that the job goes on."""
        return member > 0

    def weights_memory(self, offered: HostArray | None) -> None:
        """Return no memory: nothing is shared in a federated job."""

    def view(self, view: View, now: float) -> list[Send]:
        """Take a new view: nothing follows from it."""
        return []

    def tick(self, now: float) -> list[Send]:
        """Say where this server stands; keep what a full disk had no room for, once there is room."""
        if self._layout is not None and self._whole and self._checkpoint.due:
            self._checkpoint.keep_again(self._layout, self.version, self.chunks, self._prepared)
        return [self._status()]

    def report(self, now: float) -> dict[str, Any]:
        """Return what the status shows of this server."""
        shown = 0 if samples(self.job) else 1  # nobody is to see how many were drawn for a round
        return {
            "clock": self.version,
            "bytes": sum(chunk.weights.nbytes for chunk in self.chunks.values()),
            "waiting": [],
            "attempt": self._attempt,
            "counted": self._folded * shown,
            "staged": len(self._uploads) * shown,
            "staged_bytes": self._uploads.nbytes * shown,
            "clipped": round(self._clipped, 6),
        }

    def receive(self, origin: Origin, message: Message, payload: Any, now: float) -> list[Send]:
        """Take a client's message; return what is to be said. Raises BadMessage where nothing changes for it."""
        match message:
            case Upload():
                return self._upload(origin, message, payload, now)
            case Pull():
                return self._pull(origin, message, now)
            case Init():
                return self._init(origin, message)
            case InitChunk():
                return self._fill(origin, message, payload)
            case Resume():
                return [Send(origin, self._held(message))]
            case Suspend():
                return [Send(origin, Ok(message.request))]
            case Inquire():
                return [Send(origin, self._inquire(origin, message))]
            case MaskSum():
                ready = combinations.helped(
                    self._combination, message, payload, self._key, (self.version, self._attempt)
                )
                return [Send(origin, Ok(message.request)), *(self.order(self._last) if ready and self._last else [])]
            case Push():
                raise BadMessage("a gradient, but this job is federated: clients upload deltas")
            case _:
                raise BadMessage(f"a federated server has no use for {type(message).__name__}")

    def _status(self) -> Send:
        """Return where this server stands, for the scheduler."""
        here: ShardPhase = self._phase if self._whole else "empty"
        kept, notes = self._checkpoint.durable and self._whole, self._uploads.notes()
        status = RoundStatus(self.member, self.version, self._attempt, here, self._folded, kept, notes)
        return Send(SCHEDULER, status)

    @property
    def _whole(self) -> bool:
        """Whether this server has its part of the model: looked up until it has, as every message asks."""
        if not self._has_all:
            self._has_all = self._layout is not None and all(chunk.filled for chunk in self.chunks.values())
        return self._has_all

    # The first values

    def _init(self, origin: Origin, message: Init) -> list[Send]:
        layout = layout_of(message, self.job)
        demand_full_precision(layout, "mode federated")
        first: list[Send] = []
        if self._layout is None or (layout != self._layout and not self._started):
            try:
                self._lay_out(layout)
            except MemoryError:
                self.chunks, self._layout, self._has_all = {}, None, False
                self._make_room()
                return [Send(origin, no_memory(message.request, self.rank, layout))]
            if not self.chunks:  # there are fewer chunks than servers, and nothing will come
                first = self._keep_first()
        elif layout != self._layout:
            return [Send(origin, another_model(message.request, self.rank))]
        self._seeder = message.member
        return [Send(origin, Ok(message.request)), *first]

    def _lay_out(self, layout: Layout) -> None:
        cut = cut_for(self.rank, layout, self.job)
        self.chunks = {c.index: ChunkState(c, np.zeros(c.size, c.dtype), {}) for c in cut}
        self._layout, self._has_all = layout, False
        self._frames = frames_of(self.job, layout.cut(self.job))
        self._make_room()

    @property
    def _own(self) -> dict[int, Chunk]:
        return {index: state.chunk for index, state in self.chunks.items()}

    def _make_room(self) -> None:
        self._uploads = Uploads(self.job, self._own, self._frames)
        self._combination = self._fresh()

    def _fill(self, origin: Origin, message: InitChunk, payload: Any) -> list[Send]:
        chunk = chunk_of(self.chunks, message.chunk, self.rank)
        values = read_raw(chunk.chunk, payload)
        if message.member != self._seeder:
            return [Send(origin, another_seeder(message.request, self.rank))]
        first: list[Send] = []
        if not self._started:
            chunk.own()
            np.copyto(chunk.weights, values)
            chunk.slots = self._publisher.slots(chunk)
            chunk.filled = True
            if self._whole:
                first = self._keep_first()
        return [Send(origin, Ok(message.request)), *first]

    def _keep_first(self) -> list[Send]:
        assert self._layout is not None
        self._checkpoint.keep_model(self._layout, self.version, self.chunks)
        return [self._status()]

    @property
    def _started(self) -> bool:
        return self.version > 0 or self._attempt > 0 or len(self._uploads) > 0

    # Weights down

    def _pull(self, origin: Origin, message: Pull, now: float) -> list[Send]:
        chunk = filled_chunk(self.chunks, message.chunk, self.rank)
        if message.clock > self.version + 1:  # clients ask for what is published, and a server is one behind at most
            raise BadMessage(f"a Pull of version {message.clock}, but server {self.rank} is at {self.version}")
        waiter = Waiter(origin, message.member, message.request, message.clock, True, now)
        if message.clock <= self.version:
            return [self._answer(chunk, waiter)]
        self._waiters.add(message.chunk, waiter)
        return []

    def _answer(self, chunk: ChunkState, waiter: Waiter) -> Send:
        return Send(waiter.origin, Weights(waiter.request, chunk.chunk.index, self.version, 0), chunk.lend())

    def _inquire(self, origin: Origin, message: Inquire) -> Waiting:
        known = self._waiters.known(origin, message.member, self.chunks)
        return Waiting(message.request, tuple(r for r in message.requests if r not in known), self.version, ())

    # Deltas up

    def _held(self, message: Resume) -> UploadState | Error:
        """Return what is here of a client's delta."""
        return self._not_given(message) or UploadState(message.request, message.task, self._uploads.held(message.task))

    def _not_given(self, message: Upload | Resume) -> Error | None:
        """Return what somebody is told who speaks of a task that the scheduler has not given to it."""
        if message.token == self._key.token(message.task, message.rank):
            return None
        text = f"task {message.task} was not given to client {message.rank}: its token is another one"
        return Error(message.request, "token", text)

    def _upload(self, origin: Origin, message: Upload, payload: Any, now: float) -> list[Send]:
        filled_chunk(self.chunks, message.chunk, self.rank)
        if (refusal := self._not_given(message)) is not None:
            return [Send(origin, refusal)]
        answer, complete = self._uploads.take(message, payload, self.version, now)
        return [Send(origin, answer), *([self._status()] if complete else [])]

    # What the scheduler orders

    def order(self, order: RoundOrder | Unseal) -> list[Send]:
        """Do what the scheduler wants, as far as it is possible; say how far, after the answers that waited for it.

        Raises BadMessage for what cannot be meant; nothing has changed then.
        """
        if isinstance(order, Unseal):
            combinations.unseal(self._combination, order, (self.version, self._attempt))
            return []
        if order.version == self.version and self._whole:
            anew = order.attempt != self._attempt and not (self._phase == "prepared" and order.phase == "publish")
            self._demand_possible(order, anew=anew)
            if anew:
                self._begin(order.attempt)
            self._uploads.forget_below(order.floor)
            self._count(order)
            return [*self._go_on(order), self._status()]
        return [self._status()]

    def _demand_possible(self, order: RoundOrder, *, anew: bool) -> None:
        """Raise BadMessage for an order whose parts contradict each other, or what is here."""
        combinations.demand_masks(self._combination, order)
        if not anew and self._phase != "collect":
            return
        folded, combination = (0, self._fresh()) if anew else (self._folded, self._combination)
        new = order.entries[folded - order.first :] if order.first <= folded else ()
        counted = [(weight, scale, bound) for _, weight, scale, bound in new if weight > 0]
        wrong = combination.refusal(counted, order, complete=folded + len(new) >= order.count)
        if wrong:
            raise BadMessage(f"{order.phase} of round {order.version}: {wrong}")

    def _begin(self, attempt: int) -> None:
        """Collect anew; what was counted in the attempt before is gone, what is staged is not."""
        self._attempt, self._phase, self._folded = attempt, "collect", 0
        self._combination, self._distances = self._fresh(), None
        if self._prepared is not None:
            self._prepared = None
            self._checkpoint.drop_prepared()

    def _fresh(self) -> AnyCombination:
        return combinations.combination_for(self.job, self._frames, self._own, self.version, self._noise)

    def _count(self, order: RoundOrder) -> None:
        """Take the ledger's entries that are new, in their order."""
        for number, (task, weight, scale, bound) in enumerate(order.entries, order.first):
            if number != self._folded or self._phase != "collect":
                continue
            parts = self._uploads.settle(task)
            if weight > 0:
                if parts is None and self.chunks:
                    self._phase = "broken"  # it was here, and this process is not the one that had it
                    return
                self._combination.add(Counted(weight, scale, bound, parts or {}, order.clip))
            self._folded += 1

    def _go_on(self, order: RoundOrder) -> list[Send]:
        self._last = order
        complete = self._phase == "summed" or (self._folded >= order.count and self._phase == "collect")
        if order.phase == "measure" and complete:
            if self._distances is None:  # the order may come again before all servers have measured
                self._distances = self._combination.distances()
            measured = Distances(self.member, self._attempt, self._combination.count)
            return [Send(SCHEDULER, measured, payload=self._distances)]
        if order.phase not in ("sum", "prepare", "publish"):
            return []
        made = Prepared(self._attempt, self._uploads.floor, order.factor, order.share, {})
        if order.phase == "sum" and complete and self._phase == "collect":
            self._keep(combinations.summed(self._combination, made), "summed")
        if order.phase == "prepare" and complete and self._combination.ready:
            if (parts := combinations.results(self._combination, self.chunks, order)) is None:
                self._phase = "broken" if self._frames is None else "mismatch"
                return []
            self._clipped = self._combination.clipped
            self._keep(replace(made, parts=parts), "prepared")
        if order.phase == "publish" and self._phase == "prepared" and self._prepared and order.attempt == self._attempt:
            return self._publish(self._prepared)
        return []

    def _keep(self, prepared: Prepared, phase: ShardPhase) -> None:
        self._prepared = prepared
        self._checkpoint.keep_prepared(self.version, prepared)
        self._phase = phase

    def _publish(self, prepared: Prepared) -> list[Send]:
        """Apply what is prepared, and answer those who wait for the new version."""
        assert self._layout is not None
        since = self._trace.now()
        for index, chunk in self.chunks.items():
            found = prepared.parts[index]
            if found is not None:
                self._publisher.apply(chunk, found, prepared.factor, prepared.share)
            chunk.close()
        self.version += 1
        self._trace.add("apply", since, name="publish", clock=self.version)
        self._prepared = None
        self._begin(self._attempt)
        self._checkpoint.keep_model(self._layout, self.version, self.chunks)
        return [self._answer(self.chunks[index], waiter) for index, waiter in self._waiters.take()]

    def _restore(self) -> None:
        """Go on where the process before this one was killed."""
        model = self._checkpoint.model()
        if model is None:
            return
        with self._checkpoint.reading():
            self.version = model.version
            self._lay_out(model.layout)
            for index, chunk in self.chunks.items():
                chunk.weights = demand(model.arrays[f"weights/{index}"], chunk)
                slots = self._publisher.slots(chunk)
                chunk.slots = {slot: demand(model.arrays[f"{slot}/{index}"], chunk) for slot in slots}
                chunk.updates, chunk.version, chunk.filled = model.updates[index], model.version, True
        found = self._prepared = self._checkpoint.prepared(self.version, self.chunks, self._frames)
        if found is not None:
            self._attempt, self._phase = found.attempt, "summed" if found.masked else "prepared"
            self._uploads.forget_below(found.floor)
            combinations.go_on(self._combination, found)

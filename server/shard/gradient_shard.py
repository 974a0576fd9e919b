"""GradientShard: a server's part of a model that gradients are pushed to (sync, async, ssp), as a state machine.

How a worker comes in. It is a participant as soon as a view shows it, and waited for only from the clock that it
names. All servers must agree on that clock, and none may have closed it by then. So the worker asks each (Attach),
each says the first clock that is open for it and holds that clock on every chunk (see ``chunk``), the worker takes
the latest of all answers and tells it to all (Start). Between the two the clocks below go on: nobody waits for a
newcomer. Those who are there from the beginning (``initial``) are waited for at clock 0 before they have said
anything, lest the first to come closes it alone; once a clock was closed without one, it comes in like any other. A
worker that suspends itself, before a barrier or at its end, is not waited for until it starts again, and one that
attaches anew has dropped what it was at: no Scale will come for what it pushed before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ps.checkpoint.stored_model import StoredModel
from ps.config.job import JobConfig
from ps.errors import BadMessage
from ps.protocol.layout import Layout
from ps.protocol.membership import peers
from ps.protocol.messages import (
    Attach,
    Attached,
    ContributorsRequest,
    Error,
    HeldRequest,
    Init,
    InitChunk,
    InitMaster,
    Inquire,
    Keep,
    Late,
    Message,
    NormPart,
    Ok,
    Pull,
    Push,
    Recall,
    RoundOrder,
    Scale,
    Skip,
    Start,
    Suspend,
    Unseal,
    Veto,
    View,
    Waiting,
)
from ps.protocol.messages.rate import latest
from ps.server.send import Origin, Send
from ps.server.shard.beginning import Beginning, hold_first
from ps.server.shard.chunk import ChunkState, Participant, Waiter
from ps.server.shard.contribution import array_of, contribution_of, demand_near
from ps.server.shard.crew import contributors
from ps.server.shard.early import Early, not_yet
from ps.server.shard.first_values import (
    another_model,
    another_seeder,
    check_groups,
    chunk_of,
    cut_for,
    demand_full_precision,
    fill,
    fill_master,
    filled_chunk,
    layout_of,
    no_memory,
    room_for,
    show,
)
from ps.server.shard.places import Places
from ps.server.shard.progress import Progress
from ps.server.shard.waiting_requests import known_requests, waiting_requests
from ps.trace import OFF, Trace
from ps.xp import HostArray

_OF_NEWCOMERS = Attach | HeldRequest
_OF_MEMBERS = Start | Suspend | Push | Skip | Pull | Scale


class GradientShard:
    """The chunks of one server, their workers and what they wait for."""

    def __init__(self, rank: int, trace: Trace = OFF, threads: int = 0, saved: StoredModel | None = None) -> None:
        """``threads`` share out the work on a chunk; 0 takes a share of the cores. ``saved``: what it begins as."""
        self.rank = rank
        self._beginning = Beginning(saved)
        self._trace, self._threads = trace, threads
        self.chunks: dict[int, ChunkState] = {}
        self.participants: dict[int, Participant] = {}
        self.job = JobConfig()
        self._epoch = 0
        self._progress: Progress | None = None
        self.layout: Layout | None = None
        self._weights_memory: HostArray | None = None
        self.seeder = 0  # the member that gives the first values
        self._places: Places | None = None
        """Where workers have parts of the model."""
        self._early = Early()
        """Of workers that the views so far do not show, or not in a running job."""

    def expects(self, member: int) -> bool:
        """Whether a member's messages are a sign that the job goes on."""
        return member in self.participants

    @property
    def deserted(self) -> bool:
        """Whether no worker takes part, or is still to begin."""
        return all(participant.start is None and not participant.fresh for participant in self.participants.values())

    # Events

    def view(self, view: View, now: float) -> list[Send]:
        """Take a new view of the members: admit newcomers, forget those that are gone. Raises ConfigError."""
        self._epoch = view.epoch
        if view.job and self._progress is None:
            self.job = JobConfig.from_dict(view.job)
        workers = {p.member: p for p in peers(view) if p.role == "worker" and self.job.has_place(p.rank)}
        if self.job.pipeline:
            self._places = self._places or Places(self.participants, lambda: self.chunks, self.job.places)
            self._places.succeed(workers)
        for member, peer in workers.items():
            participant = self.participants.setdefault(member, Participant(member, peer.rank))
            if peer.initial and not participant.initial:  # it may have been here before the job ran
                participant.initial = True
                begun = self._beginning.clock(peer.rank, self.job)
                participant.start = begun if participant.fresh else participant.start
                for chunk in self.chunks.values():
                    chunk.slowest = None
        for member in [member for member in self.participants if member not in workers]:
            if self._places is not None:
                self._places.forget(self.participants[member])
            rank = self.participants.pop(member).rank
            for chunk in self.chunks.values():
                chunk.forget(member, rank)
        replies = [r for origin, attach in self._early.take() for r in self.receive(origin, attach, None, now)]
        return replies + list(self._advance_all())

    def receive(self, origin: Origin, message: Message, payload: Any, now: float) -> list[Send]:
        """Take a worker's message and return what is to be said now, see ``Shard``."""
        member = getattr(message, "member", 0)
        if isinstance(message, _OF_NEWCOMERS) and message.epoch > self._epoch:  # the view that shows it is under way
            self._early.keep(origin, message)
            return []
        if isinstance(message, Inquire):  # about requests; whether their worker lives is their own matter
            return [Send(origin, self._inquire(origin, message))]
        participant = self.participants.get(member)
        if participant is None and self.layout is None and isinstance(message, _OF_MEMBERS):
            return []  # this server has just come, and the view that shows the worker too: it asks again
        if participant is None:
            text = f"server {self.rank} does not know you: you left, or the others declared you dead"
            return [Send(origin, Error(getattr(message, "request", 0), "evicted", text))]
        match message:
            case Push() | Skip():
                return list(self._push(origin, participant, message, payload, now))
            case Pull():
                return list(self._pull(origin, message, now))
            case ContributorsRequest():
                return [Send(origin, contributors(message, self._filled(message.chunk), self.participants))]
            case Scale():
                return list(self._scale(origin, message, now))
            case Attach():
                return list(self._attach(origin, participant, message))
            case Start():
                return list(self._start(origin, participant, message))
            case Suspend():
                return list(self._suspend(origin, participant, message))
            case Init():
                return self._init(origin, message)
            case InitChunk():
                return self._fill(origin, message, payload)
            case InitMaster():
                return self._fill_master(origin, message, payload)
            case HeldRequest() | Keep() | Recall() if self._places is not None:
                return list(self._places.receive(origin, participant, message, payload))
            case _:
                raise BadMessage(f"a server has no use for {type(message).__name__}")

    def _clock(self, chunk: ChunkState) -> int:
        """Return how many clocks are closed, or, where clocks are not closed for all at once, the most that one did."""
        return chunk.version if self.job.lockstep else chunk.reached

    def order(self, order: RoundOrder | Unseal) -> list[Send]:
        """There are no rounds: nothing follows from it."""
        return []

    def tick(self, now: float) -> list[Send]:
        """Nothing is due because time has passed: whatever is, follows from a message."""
        return []

    def report(self, now: float) -> dict[str, Any]:
        """Return what the status shows of this server."""
        return {
            "clock": max(map(self._clock, self.chunks.values()), default=0),
            "bytes": sum(chunk.weights.nbytes for chunk in self.chunks.values()),
            "waiting": waiting_requests(self.chunks, self._blockers, now),
        }

    # The beginning

    def _init(self, origin: Origin, message: Init) -> list[Send]:
        layout = layout_of(message, self.job)
        if layout != layout.of_kind("trainable"):
            raise BadMessage(f"only what is trained goes to the servers in mode {self.job.mode}")
        check_groups(layout, self.job.specs.optimizer)
        if other := self._beginning.refusal(layout):
            return [Send(origin, Error(message.request, "layout", other))]
        if self.job.compress != "none":
            demand_full_precision(layout, f"compress {self.job.compress}")
        if self._progress is None or (layout != self.layout and not self._started()):
            try:
                self.hold(layout)
            except MemoryError:
                return [Send(origin, no_memory(message.request, self.rank, layout))]
        elif layout != self.layout:
            return [Send(origin, another_model(message.request, self.rank))]
        self.seeder = message.member
        return [Send(origin, Ok(message.request))]

    def adopt(self, layout: Layout) -> Progress:
        """Take chunks of this model from now on, which other servers hand over; return what updates them."""
        if self._progress is None:
            self._progress, self.layout = Progress(self.job, self.participants, self._trace, self._threads), layout
        return self._progress

    def hold(self, layout: Layout) -> None:
        """Have the chunks of a model, without values, and nothing of another one. Raises MemoryError."""
        if self._weights_memory is not None and self._weights_memory.nbytes != layout.nbytes:
            self._weights_memory = None
        try:
            cut = cut_for(self.rank, layout, self.job)
            self.chunks = {c.index: room_for(c, layout, self._weights_memory) for c in cut}
        except MemoryError:
            self.chunks, self._progress, self.layout = {}, None, None
            raise
        self._progress, self.layout = Progress(self.job, self.participants, self._trace, self._threads), layout
        hold_first(self.chunks.values(), self.participants.values())

    def show_in(self, memory: HostArray) -> None:
        """Keep the weights in memory that workers read, where others' are too, as they are here."""
        self._weights_memory = memory
        show(self.chunks, memory)

    def weights_memory(self, offered: HostArray | None) -> HostArray | None:
        """Return the memory in which the weights are kept, see ``Shard``."""
        if offered is not None and self._progress is None:
            self._weights_memory = offered
        return self._weights_memory

    def _fill(self, origin: Origin, message: InitChunk, payload: Any) -> list[Send]:
        progress, chunk = self.ready, chunk_of(self.chunks, message.chunk, self.rank)
        values = array_of(chunk.chunk, payload)
        if message.member != self.seeder:
            return [Send(origin, another_seeder(message.request, self.rank))]
        if not self._started():
            fill(chunk, values, progress.updater.optimizer(chunk.chunk))
            self._beginning.fill(chunk, self.layout, self.job)
        return [Send(origin, Ok(message.request))]

    def _fill_master(self, origin: Origin, message: InitMaster, payload: Any) -> list[Send]:
        progress, chunk = self.ready, self._filled(message.chunk)
        bits = array_of(chunk.chunk, payload)
        if message.member != self.seeder:
            return [Send(origin, another_seeder(message.request, self.rank))]
        if not self._started() and not self._beginning.is_saved:
            fill_master(chunk, bits, message.part, progress.updater.optimizer(chunk.chunk))
        return [Send(origin, Ok(message.request))]

    def _started(self) -> bool:
        most = self._beginning.most
        return any(chunk.version > most or chunk.done for chunk in self.chunks.values())

    # Coming and going

    def _attach(self, origin: Origin, participant: Participant, message: Attach) -> Iterator[Send]:
        """Say where a worker can come in. One of the first begins at 0, until a clock was closed without it."""
        participant.word, participant.attached = message.request, True
        if not participant.fresh:
            participant.start = None
        clock = 0
        if self._progress is not None:
            mode, chunks = self._progress.mode, self.chunks.values()
            if any(mode.late(chunk, self._beginning.clock(participant.rank, self.job)) for chunk in chunks):
                participant.start = None
            for chunk in chunks:
                held = chunk.holds.get(participant.member, participant.start)  # told before, and not closed since
                chunk.retire(participant.member)  # it begins anew: no Scale will come for what it pushed before
                entry = mode.join_clock(chunk, self.participants) if held is None else held
                chunk.hold(participant.member, entry)
                clock = max(clock, entry)
        yield Send(origin, Attached(message.request, clock))
        yield from self._advance_all()

    def _start(self, origin: Origin, participant: Participant, message: Start) -> Iterator[Send]:
        if self.chunks:
            demand_near(message.clock, max(chunk.reached for chunk in self.chunks.values()), "to start at clock")
        for chunk in self.chunks.values():
            if participant.member in chunk.holds:
                chunk.hold(participant.member, message.clock)
            chunk.slowest = None
            chunk.count(participant.member, max(message.clock, self._beginning.counted(chunk, participant)))
        participant.start, participant.fresh = message.clock, False
        participant.word, participant.attached = message.request, False
        yield Send(origin, Ok(message.request))
        yield from self._advance_all()

    def _suspend(self, origin: Origin, participant: Participant, message: Suspend) -> Iterator[Send]:
        participant.start, participant.fresh = None, False
        participant.word, participant.attached = message.request, False
        for chunk in self.chunks.values():
            chunk.retire(participant.member)
        yield Send(origin, Ok(message.request))
        yield from self._advance_all()

    # A gradient's way

    def _push(
        self, origin: Origin, participant: Participant, message: Push | Skip, payload: Any, now: float
    ) -> Iterator[Send]:
        mode, chunk = self.ready.mode, self._filled(message.chunk)
        if message.clock < chunk.done.get(participant.member, 0):  # a retry: it counted already, only its answer is due
            if chunk.squares is not None and chunk.squares[0] == message.clock and not message.pull:
                yield Send(origin, NormPart(message.request, message.chunk, chunk.squares[1]))
                return
        elif mode.late(chunk, message.clock):
            yield Send(origin, Late(message.request, message.chunk, chunk.collected))
            return
        else:
            demand_near(message.clock, chunk.reached, "a push for clock")
            if message.rates:
                demand_near(latest(message.rates)[0], chunk.rate[0], "a rate with the number")
            contribution = contribution_of(chunk, participant, message, payload, self.ready.compression)
            if self.job.lockstep and message.clock != chunk.version:
                raise BadMessage(f"a push for clock {message.clock} while clock {chunk.version} is collected")
            if participant.member in chunk.pending:
                raise BadMessage(f"a push for clock {message.clock} before the one before it was answered")
            chunk.count(participant.member, message.clock + 1)
            chunk.release(participant.member)
            chunk.pending[participant.member] = contribution
            if isinstance(message, Veto) and self.job.lockstep:
                chunk.vetoed = message.clock
            if self._places is not None:
                yield from self._places.given(participant, message.chunk, message.clock + 1)
        waiter = Waiter(origin, participant.member, message.request, message.clock + 1, message.pull, now)
        waiter.version = message.version
        chunk.park(waiter)
        yield from self.ready.advance(chunk)

    def _pull(self, origin: Origin, message: Pull, now: float) -> Iterator[Send]:
        chunk, where = self._filled(message.chunk), (message.aside, message.in_place)
        chunk.park(Waiter(origin, message.member, message.request, message.clock, True, now, *where))
        yield from self.ready.advance(chunk)

    def _scale(self, origin: Origin, message: Scale, now: float) -> Iterator[Send]:
        progress, chunk = self.ready, self._filled(message.chunk)
        combined = chunk.combined
        if combined is not None and combined.clock == message.clock and message.member in combined.scalers:
            progress.scale(chunk, message.scale)
        elif not self.job.lockstep or message.clock >= chunk.version:
            raise BadMessage(f"a Scale for clock {message.clock} of chunk {message.chunk}, where none is waited for")
        waiter = Waiter(origin, message.member, message.request, message.clock + 1, message.pull, now)
        waiter.version = message.version
        chunk.park(waiter)
        yield from progress.advance(chunk)

    def _advance_all(self) -> Iterator[Send]:
        for chunk in self.chunks.values():
            yield from self.ready.advance(chunk)

    def _inquire(self, origin: Origin, message: Inquire) -> Waiting:
        known, ranks, clock = known_requests(self.chunks, message.member, origin, self._blockers)
        early = self._early.known(origin, message)
        whole = self._places.known(origin, message.member) if self._places is not None else {}
        for waited_for in whole.values():
            ranks.update(waited_for)
        unknown = tuple(r for r in message.requests if r not in known and r not in early and r not in whole)
        if early:
            return not_yet(message.request, unknown)
        participant, progress = self.participants.get(message.member), self._progress
        wanted = (
            participant and progress and any(progress.wants(chunk, participant.rank) for chunk in self.chunks.values())
        ) or (participant and self._places is not None and self._places.wants(participant))
        return Waiting(message.request, unknown, clock, tuple(sorted(ranks)), bool(wanted))

    def _blockers(self, chunk: ChunkState, waiter: Waiter) -> tuple[int, ...]:
        return self.ready.blockers(chunk, waiter)

    # Checks

    @property
    def ready(self) -> Progress:
        """What closes clocks. Raises BadMessage before there is a model."""
        if self._progress is None:
            raise BadMessage("nothing was initialised: kv.init comes first")
        return self._progress

    def _filled(self, index: int) -> ChunkState:
        return filled_chunk(self.chunks if self.ready else {}, index, self.rank)

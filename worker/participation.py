"""Participation: a worker's part in the clocks of a job: its first weights, its steps, barriers, being late.

**Joining.** Each server opens a clock for itself, so a newcomer first presents itself to all (Attach). Each answers
with the first clock in which it can still take the worker in, and holds that clock open. The highest of them is the one
with which the worker can begin everywhere (Start): from then on all wait for it, and the weights it pulls are those
of that clock. Where connections broke meanwhile a server may have closed clocks without it; then versions differ, and
it joins again.

**Being late.** A push that is answered with Late did not count. Without backup workers that happens only to those whom
servers do not wait for any more, so the worker joins anew. With them every clock may be collected without the
slowest, and servers go on counting on it: it only catches up, from the clock that is collected by now, and again where
clocks were closed while it pulled their weights. Who is outrun so again and again joins anew as well: a newcomer's
first clock is held open until it has its weights, so that nobody trains on weights of several.

**Barriers.** Others may have steps to do while a worker waits in one, so the servers are told first not to wait for it
(Suspend). All begin again with the highest clock among them, and go on only when every one of them has its weights
and is known to every server: that is the second meeting.

**Being interrupted.** A step's gradients are on their way and count once, so the step is ended later, from where it
was; and so is a barrier, since the others wait in it: one that came in and did not go on would keep them there, while
it waits for their next gradients itself. Who was interrupted while joining has no clock to rely on, and joins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from ps.config.job import JobConfig
from ps.optim import clip_scale
from ps.optim.group import optimizer_of
from ps.protocol.layout import Chunk, Layout
from ps.protocol.messages import (
    Attach,
    Attached,
    Held,
    HeldRequest,
    Late,
    Message,
    NormPart,
    PartialPush,
    Pull,
    PullInPlace,
    Push,
    Scale,
    Skip,
    Start,
    Suspend,
    Veto,
    Vetoed,
)
from ps.protocol.messages.rate import Rate
from ps.worker.barrier import meet
from ps.worker.chunked_gradients import ChunkedGradients
from ps.worker.compression import Compression
from ps.worker.conversation import Call, Calls, Conversation, anew, resumable
from ps.worker.part import ModelPart
from ps.worker.rates import Rates
from ps.worker.seeding import claim, seed, seed_piecewise
from ps.xp import HostArray

MOST_JOINS = 10
"""Times to join anew, at most, before weights of several clocks are put up with."""
MOST_PULLS = 4
"""Times to catch up, at most, before a late worker joins anew, for which the others wait while it pulls once."""


class Participation:
    """What one worker has said and heard of a job's clocks."""

    def __init__(self, job: JobConfig, member: int, rank: int, epoch: Callable[[], int]) -> None:
        """``epoch`` returns that of the latest view this worker has of the members."""
        self.job = job
        self.servers: Callable[[], Iterable[int]] = lambda: range(job.servers)
        """Returns their ranks."""
        self.member = member
        self._rank = rank
        self.clock = 0
        """Steps this worker has done, or was given when it came late."""
        self.rejoins = 0
        """How often it has joined, or caught up."""
        self.versions: dict[int, int] = {}
        """Chunk -> version of the weights that it has."""
        self.lag = 0
        """How many clocks before these versions the weights are from that gradients are computed with."""
        self.in_place = False
        """Whether it reads the weights where the servers keep them: then none need to be sent."""
        self.rates: dict[str, Rates] = {}
        """By group of tensors."""
        self.compression = Compression(job, rank) if job.compress != "none" else None
        self.chunks: tuple[Chunk, ...] = ()
        self._held: tuple[Chunk, ...] = ()
        """Those of them that this worker has: all, unless it has a part of the model."""
        self._part: ModelPart | None = None
        self._own: set[int] = set()
        """The same, by index."""
        self._given: frozenset[int] | None = None
        """Those that it has gradients for, if they are not all: in the others it takes no part, and says so."""
        self._epoch = epoch
        self._told = 0
        """The latest clock that servers were told to wait for this worker from."""
        self._sent: set[int] = set()
        """The chunks whose gradients of the next step are sent already."""
        self._said: dict[str, tuple[Rate, ...]] | None = None
        """What the next step says of each group's learning rate, once a part of it is sent."""

    # Joining

    def claim(self, layout: Layout, part: ModelPart | None = None) -> Conversation[bool]:
        """Return whether this worker's first values count. LayoutMismatch is raised if the job's model is another.

        ``part``: the layout is that of the part of a model that this worker has.
        """
        self.chunks = self._held = (part or layout).cut(self.job)
        self._part = part
        if part is not None:
            own, self._given = part.holds(self.chunks), part.gives(self.chunks)
            self._held = tuple(chunk for chunk in self.chunks if chunk.index in own)
        self._own = {chunk.index for chunk in self._held}
        for group in {chunk.group for chunk in self.chunks}:
            optimizer = optimizer_of(self.job.specs.optimizer, group)
            self.rates[group] = Rates(self._rank, optimizer.lr, optimizer.weight_decay)
        return (yield from claim(layout if part is None else part.whole))

    def seed(self, layout: Layout, values: HostArray, masters: Mapping[str, HostArray]) -> Conversation[None]:
        """Give the servers the first values, and take part from clock 0 on."""
        yield from self._attach()
        if (part := self._part) is None:
            yield from seed(self.member, self.job, layout, self.chunks, values, masters)
        else:
            yield from seed_piecewise(self.member, self.job, part.whole, self.chunks, part.first)
        self.versions.update({chunk.index: 0 for chunk in self._held})
        if self.job.resume is None:
            yield from self._start(0)

    def go_on(self) -> Conversation[None]:
        """After ``seed``: the servers have what the job's checkpoint has by now, whatever was sent; begin with that."""
        if self.job.resume is not None:
            yield from self.join()
            self.rejoins -= 1

    def enter(self) -> Conversation[bool]:
        """Come in: in the place of another worker, if there is one to go on for; return whether so.

        Of the clocks for which all gradients of its pipeline are on the servers that one may have left words unsaid,
        which are said now. They are those of a worker without a gradient, as what was given is not taken again.
        """
        request = partial(HeldRequest, member=self.member, epoch=self._epoch(), clock=0)
        answers: list[Message] = yield self._all(request, "word of what was given in this worker's place")
        held = [answer for answer in answers if isinstance(answer, Held)]
        if not any(answer.heir for answer in held):
            yield from self.join()
            return False
        clock = min(answer.clock for answer in held)
        if clock:
            self.clock = clock - 1
            yield from self.step(None, 0.0, pull=False)
        yield from self._start(clock)
        yield self._refresh()
        return True

    def await_held(self) -> Calls:
        """Have the servers say when they hold all that this worker's pipeline gives in this clock."""
        return self._all(
            partial(HeldRequest, member=self.member, epoch=self._epoch(), clock=self.clock + 1),
            f"the gradients of all stages of clock {self.clock}",
        )

    def own(self) -> list[int]:
        """Return the chunks whose gradients are this worker's to give, and are not sent yet."""
        given = self._own if self._given is None else self._given
        return sorted(given - self._sent)

    def join(self, least: int = 0) -> Conversation[None]:
        """Come in, or back, at the next clock: agree on it with all servers and get its first weights.

        ``least``: of one that comes back, the clock that it was at, below which all that it gives has counted.
        """
        yield from anew(partial(self._join, least))

    def _join(self, least: int = 0) -> Conversation[None]:
        for _ in range(MOST_JOINS):
            yield from self._start(max(least, (yield from self._attach())))
            yield self._refresh()
            if not self.job.lockstep or self._had <= {self.clock}:
                break  # else the connection broke meanwhile, and clocks were closed without this worker
        self.rejoins += 1

    def _catch_up(self, clock: int) -> Conversation[None]:
        """Go on with the clock that is collected by now. The servers count on this worker all the while."""
        for _ in range(MOST_PULLS):
            yield from self._start(clock)
            yield self._refresh()
            clock = max(self._had)
            if self._had == {self.clock}:
                self.rejoins += 1
                return  # else clocks were closed meanwhile; those that are closed everywhere are passed over
        yield from self._join()  # the others step faster than it pulls: they wait for it, while it pulls once

    @property
    def _had(self) -> set[int]:
        """The versions of the chunks that this worker has."""
        return {self.versions[chunk.index] for chunk in self._held if chunk.index in self.versions}

    def _attach(self) -> Conversation[int]:
        """Present this worker to all servers; return the first clock in which all can take it in."""
        attach = partial(Attach, member=self.member, epoch=self._epoch())
        answers: list[Message] = yield self._all(attach, "leave to begin")
        return max(answer.clock for answer in answers if isinstance(answer, Attached))

    def _start(self, clock: int) -> Conversation[None]:
        """From this clock on the servers wait for this worker; from a later one if they were told that before, and it
        was interrupted then: they count the clocks before as done."""
        clock = self._told = max(clock, self._told)
        yield self._all(partial(Start, member=self.member, clock=clock), f"leave to begin at clock {clock}")
        self.clock = clock

    def retire(self) -> Calls:
        """Until the next Start no server waits for this worker."""
        return self._all(partial(Suspend, member=self.member), "leave to pause")

    def _all(self, make: Callable[[int], Message], label: str) -> Calls:
        return Calls(label, [Call(server, make) for server in self.servers()])

    def _refresh(self) -> Calls:
        """Bring the weights up to date."""
        kind = PullInPlace if self.in_place else Pull
        return Calls(f"clock {self.clock}", self.each(kind, clock=self.clock), refreshes=True)

    def each(self, kind: Callable[..., Message], *, versions: bool = False, **fields: Any) -> list[Call]:
        """Return a request without payload for every chunk that this worker has; ``versions``: it names that of its
        weights."""
        calls = []
        for c in self._held:
            known = {"version": self.versions.get(c.index, 0)} if versions else {}
            make = partial(kind, member=self.member, chunk=c.index, **fields, **known)
            calls.append(Call(c.server, make, None, c.region))
        return calls

    # Steps

    @property
    def two_phases(self) -> bool:
        """Whether the norm by which gradients are clipped is known only once all workers' are added up."""
        return self.job.clips_in_two_phases

    def pushes(self, gradients: ChunkedGradients, chunks: Iterable[int], examples: float, *, pull: bool) -> list[Call]:
        """Return what sends these chunks of this clock's step; to be called once for each chunk of a step."""
        said = self._say()
        scale = self._own_scale(gradients)
        found = []
        for index in chunks:
            chunk = self.chunks[index]
            self._sent.add(index)
            if self._given is not None and index not in self._given:
                found.append(self._skip(chunk, pull=pull and index in self._own))
                continue
            if gradients.lacks(index):
                found.append(self._skip(chunk, pull=pull, examples=examples))
                continue
            payload = gradients.chunk(chunk)
            if self.compression is not None:
                payload = self.compression.encode(payload, index, self.clock)
            absent = gradients.absent(index)
            make = partial(
                partial(PartialPush, absent=absent) if absent else Push,
                member=self.member,
                chunk=index,
                clock=self.clock,
                version=max(0, self.versions.get(index, 0) - self.lag),
                examples=examples,
                scale=scale,
                pull=pull and not self.in_place,
                rates=said[chunk.group],
            )
            found.append(Call(chunk.server, make, payload, chunk.region))
        return found

    def _say(self) -> dict[str, tuple[Rate, ...]]:
        if self._said is None:
            self._said = {group: rates.step() for group, rates in self.rates.items()}
        return self._said

    def _skip(self, chunk: Chunk, *, pull: bool, examples: float = 0.0, veto: bool = False) -> Call:
        make = partial(
            Veto if veto else Skip,
            member=self.member,
            chunk=chunk.index,
            clock=self.clock,
            pull=pull and not self.in_place,
            version=self.versions.get(chunk.index, 0),
            rates=self._say()[chunk.group],
            examples=examples,
        )
        return Call(chunk.server, make, None, chunk.region if chunk.index in self._own else (0, 0))

    def hear(self, chunk: int, rates: Sequence[Rate]) -> None:
        """Take what came with a chunk's weights: words about the learning rate of its group."""
        self.rates[self.chunks[chunk].group].hear(rates)

    def _own_scale(self, gradients: ChunkedGradients) -> float:
        """Async and SSP apply each worker's gradient alone, so its norm is known here, without a second phase."""
        if self.job.clip_norm is None or self.two_phases:
            return 1.0
        return clip_scale(gradients.norm_squared(), self.job.clip_norm)

    def step(
        self, gradients: ChunkedGradients | None, examples: float, *, pull: bool, veto: bool = False
    ) -> Conversation[None]:
        """Send what is not sent of a step's gradients (None: skip this clock), and do what follows from the answers.

        With ``pull`` they bring the weights up to date. To clip the aggregated gradient by its global norm all chunks'
        squares are added up first, and then the servers are told by which factor to scale. ``veto``: in sync mode
        nobody is to take the step; with backup workers, where the clock of some chunks may be closed by then, and in
        the other modes, it is skipped here alone.
        """
        clock, both = self.clock, self.two_phases
        refreshes = pull and not both
        if gradients is None:
            veto = veto and self.job.lockstep and not self.job.backup_workers
            own = self._own
            calls = [self._skip(chunk, pull=refreshes and chunk.index in own, veto=veto) for chunk in self.chunks]
        else:
            rest = [chunk.index for chunk in self.chunks if chunk.index not in self._sent]
            calls = self.pushes(gradients, rest, examples, pull=refreshes)
        self._sent, self._said = set(), None
        label = f"clock {clock}"
        answers: list[Message] = yield Calls(label, calls, refreshes, contributes=True, resumable=True, last=not both)
        self.clock = clock + 1
        late = [answer for answer in answers if isinstance(answer, Late)]
        if late:
            yield from self._come_back(late)
        elif both:
            scales = self._scales(clock, answers, pull=pull)
            answers = yield Calls(label, scales, refreshes=pull, contributes=True, resumable=True, last=True)
        if self.compression is not None and gradients is not None and not late:
            self._take_back(gradients, {answer.chunk for answer in answers if isinstance(answer, Vetoed)})

    def _take_back(self, gradients: ChunkedGradients, vetoed: set[int]) -> None:
        """Have error feedback be what it was before the gradients of these chunks, which nobody applied."""
        assert self.compression is not None
        self.compression.give_back(vetoed, {index: gradients.chunk(self.chunks[index]) for index in vetoed})

    def _scales(self, clock: int, answers: list[Message], *, pull: bool) -> list[Call]:
        assert self.job.clip_norm is not None
        squares = {answer.chunk: answer.value for answer in answers if isinstance(answer, NormPart)}
        scale = clip_scale(sum(squares[index] for index in sorted(squares)), self.job.clip_norm)
        calls = self.each(Scale, versions=True, clock=clock, scale=scale, pull=pull and not self.in_place)
        if self.job.delay:  # this worker's next step may come before those who have the other chunks have closed them
            for chunk in self.chunks:
                if chunk.index not in self._own:
                    make = partial(Scale, member=self.member, chunk=chunk.index, clock=clock, scale=scale, pull=False)
                    calls.append(Call(chunk.server, make))
        return calls

    def _come_back(self, late: list[Late]) -> Conversation[None]:
        """After a push that came too late: take part again from the next clock."""
        if self.compression is not None:
            self.compression.give_back({answer.chunk for answer in late})
        if self.job.backup_workers:
            yield from anew(partial(self._catch_up, max(answer.version for answer in late)))
        else:
            yield from self.join()

    # Together

    def barrier(self) -> Conversation[None]:
        """Meet all live workers; all go on with the highest clock among them, and its weights."""
        yield from resumable(self._barrier())

    def _barrier(self) -> Conversation[None]:
        yield self.retire()
        yield from self._start((yield from meet(self.clock)))
        yield self._refresh()
        yield from meet(self.clock)

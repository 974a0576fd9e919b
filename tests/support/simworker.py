"""SimWorker: a worker's script, and the witness of what its real conversations ask and are answered."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from ps.config.job import JobConfig
from ps.config.mode import BOUNDED
from ps.optim import square_sum
from ps.protocol.layout import Chunk, Layout
from ps.protocol.messages import (
    Attach,
    Late,
    Leave,
    Message,
    Ok,
    Pull,
    Push,
    Pushed,
    Skip,
    Start,
    Suspend,
    Weights,
    WeightsDelta,
)
from ps.worker.conversation import Calls, Conversation, Interrupted, Question
from ps.worker.participation import Participation
from ps.xp import HostArray

LAYOUT = Layout.of({"w": np.zeros((3, 250), np.float32), "b": np.zeros(330, np.float32)})


@dataclass(frozen=True)
class Plan:
    """What a worker's script does. ``steps``: the clock it trains up to."""

    steps: int
    barrier_at: int | None = None
    skips: frozenset[int] = frozenset()
    push_then_pull: bool = False
    lr_at: int | None = None


class Look:
    """The script has the weights that its last verb brought, and looks at them for a while."""


Life = Generator[Calls | Question | Look, Any, None]


@lru_cache(4096)
def gradient(rank: int, clock: int, chunk: Chunk) -> np.ndarray:
    """The gradient of a worker: exact in float32 and different for every rank, clock and chunk."""
    base = np.arange(chunk.size, dtype=np.float32) % 7 - 3
    return base + np.float32(rank + 1) / 8 + np.float32(clock % 16) / 4 + np.float32(chunk.index) / 2


@dataclass(frozen=True)
class StepGradients:
    """The gradients of one worker's step."""

    rank: int
    clock: int
    chunks: tuple[Chunk, ...]

    def chunk(self, chunk: Chunk) -> np.ndarray:
        return gradient(self.rank, self.clock, chunk)

    def absent(self, chunk: int) -> tuple[int, ...]:
        return ()

    def lacks(self, chunk: int) -> bool:
        return False

    def norm_squared(self) -> float:
        return sum(square_sum(self.chunk(chunk)) for chunk in self.chunks)


class SimWorker:
    """One worker's life and what it saw."""

    def __init__(
        self,
        member: int,
        rank: int,
        job: JobConfig,
        plan: Plan,
        epoch: Callable[[], int],
        home: HostArray | None = None,
    ) -> None:
        """``home``: the memory in which the servers keep the weights, where this worker reads them."""
        self.member = member
        self.rank = rank
        self.job = job
        self.plan = plan
        self.part = Participation(job, member, rank, epoch)
        self.part.in_place = home is not None
        self.weights = np.zeros(LAYOUT.nbytes, np.uint8) if home is None else home
        self.chunks = LAYOUT.chunks(job.servers, job.chunk_bytes)
        self.taking_part = False
        self.begins = 0
        """The clock from which it takes part."""
        self.undisturbed = True
        """Whether no answer was lost. Backups go on without a worker whose first weights of a clock got lost."""
        self.acknowledged: list[tuple[int, int, bool]] = []
        """(chunk, clock, skipped) of each push that was answered and not late."""
        self.finished = False
        self.steps: list[int] = []
        self.lates = 0
        self.attaches = 0
        """How often it asked servers where it can come in."""
        self.seeded = False
        self.interruptible = False
        """Whether the script could go on if it was interrupted now."""
        self.may_be_late = job.mode == "sync" and (job.backup_workers > 0 or plan.barrier_at is not None)

    @property
    def clock(self) -> int:
        return self.part.clock

    # The script

    def life(self) -> Life:
        self.seeded = yield from self._watch(self.part.claim(LAYOUT))
        if self.job.pipeline:  # it has all of the weights, and gradients for its stage's part
            place, places = self.job.place_of(self.rank), self.job.places
            self.part._given = frozenset(chunk.index for chunk in self.chunks if chunk.index % places == place)
        if self.seeded:
            values = first_buffer(self.chunks, self.rank)
            yield from self._watch(self.part.seed(LAYOUT, values, {}))
            if not self.part.in_place:
                self.weights[:] = values
        else:
            yield from self._watch(self.part.join(), exact=True)
        yield Look()
        self.interruptible = True
        while self.clock < self.plan.steps:
            if self.plan.barrier_at is not None and self.clock >= self.plan.barrier_at:
                self.plan = replace(self.plan, barrier_at=None)
                yield from self._watch(self.part.barrier(), meets=True)
            else:
                yield from self._step()
            yield Look()
        self.interruptible = False
        yield from self._watch(self._leave())
        self.finished = True

    def _step(self) -> Life:
        clock, lates = self.clock, self.lates
        if self.plan.lr_at == clock:
            for rates in self.part.rates.values():
                rates.set((self.rank + 1) / 64, None)  # the others may set another one
        self.steps.append(clock)
        apart = self.plan.push_then_pull and not self.part.in_place  # who reads in place goes on with a copy then
        gradients = None if clock in self.plan.skips else StepGradients(self.rank, clock, self.chunks)
        yield from self._watch(self.part.step(gradients, 1.0, pull=not apart))
        if apart and self.lates == lates:
            yield from self._watch(self._pull())

    def _pull(self) -> Conversation[None]:
        yield Calls("a pull", self.part.each(Pull, clock=self.clock), refreshes=True, resumable=True)

    def _leave(self) -> Conversation[None]:
        yield self.part.retire()
        yield Question(lambda request, member: Leave(request, member, {}), Ok, "the scheduler to hear a goodbye")

    # The witness

    def _watch(
        self, conversation: Conversation[Any], *, exact: bool = False, meets: bool = False
    ) -> Generator[Calls | Question, Any, Any]:
        """Have a conversation, and check what is said in it.

        ``exact``: what it pulls is of its clock; else only where no backup closes clocks without this worker. When it
        ``meets`` others, whoever was furthest may have died since.
        """
        answers: Any = None
        interrupted = False
        while True:
            try:
                asked = conversation.throw(Interrupted()) if interrupted else conversation.send(answers)
            except StopIteration as end:
                return end.value
            if isinstance(asked, Calls):
                self._note(asked)
            try:
                answers, interrupted = (yield asked), False
            except Interrupted:
                interrupted = True
                continue
            if isinstance(asked, Calls):
                self._check(asked, answers, exact=exact, meets=meets)

    def _note(self, asked: Calls) -> None:
        message = asked.calls[0].make(0)
        if isinstance(message, Start):
            self.taking_part, self.begins = True, message.clock
        elif isinstance(message, Attach | Suspend):
            self.taking_part = False
            self.attaches += isinstance(message, Attach)

    def _check(self, asked: Calls, answers: list[Message], *, exact: bool, meets: bool) -> None:
        kind = kind_of(asked)
        if kind in (Push, Skip):
            clock = self.steps[-1]
            late = [answer for answer in answers if isinstance(answer, Late)]
            lost = {answer.chunk for answer in late}
            self.acknowledged += [(c.index, clock, kind is Skip) for c in self.chunks if c.index not in lost]
            self.lates += bool(late)
            assert not late or self.may_be_late, f"worker {self.rank} was late at clock {clock}"
            if late:
                return
        if not asked.refreshes:
            return
        in_time = self.undisturbed or not self.job.backup_workers
        if issubclass(kind, Pull):
            in_time = not meets and (not self.job.backup_workers or (exact and self.undisturbed))
        expected = self.clock if issubclass(kind, Pull) else self.steps[-1] + 1
        for message in answers:
            assert isinstance(message, Weights | WeightsDelta | Pushed), f"{message!r} instead of weights"
            assert not isinstance(message, Pushed) or self.part.in_place
            if self.job.mode == "sync" and in_time:
                assert message.version == expected, f"worker {self.rank} at {expected} got {message!r}"
            assert message.staleness >= 0
            if self.job.mode in BOUNDED:
                assert message.staleness <= self.job.staleness


def kind_of(asked: Calls) -> Any:
    """What messages these are."""
    return type(asked.calls[0].make(0))


def first_values(chunk: Chunk, rank: int) -> np.ndarray:
    """The seeding worker's values."""
    return np.linspace(-1, 1, chunk.size, dtype=np.float32) + np.float32(rank)


def first_buffer(chunks: tuple[Chunk, ...], rank: int) -> HostArray:
    """The seeding worker's values as one flat buffer."""
    buffer = np.zeros(LAYOUT.nbytes, np.uint8)
    for chunk in chunks:
        buffer[chunk.offset : chunk.offset + chunk.nbytes] = first_values(chunk, rank).view(np.uint8)
    return buffer


def describe(worker: SimWorker) -> dict[str, Any]:
    """What to print of a worker that hangs."""
    return {"rank": worker.rank, "clock": worker.clock, "taking_part": worker.taking_part}

"""SimWorker: a worker's protocol, as worker/cluster.py speaks it, as a generator without sockets.

It yields the requests it waits for and is sent their answers. What it saw is kept for the invariants.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ps.config.job import JobConfig
from ps.optim import clip_scale
from ps.protocol.layout import Chunk, Layout
from ps.protocol.messages import (
    Attach,
    Attached,
    BarrierEnter,
    Init,
    InitChunk,
    InitDone,
    InitRequest,
    Late,
    Leave,
    Message,
    NormPart,
    Pull,
    Push,
    Pushed,
    Scale,
    Skip,
    Start,
    Suspend,
    Weights,
)
from ps.protocol.messages.rate import Rate
from ps.worker.rates import Rates

SCHEDULER = -1
LAYOUT = Layout.of({"w": np.zeros((3, 250), np.float32), "b": np.zeros(330, np.float32)})


@dataclass(frozen=True)
class Ask:
    """One request: to a server's rank or the SCHEDULER."""

    to: int
    make: Callable[[int], Message]
    payload: bytes | None = None


@dataclass(frozen=True)
class Plan:
    """What a worker's script does. ``steps``: the clock it trains up to."""

    steps: int
    barrier_at: int | None = None
    skips: frozenset[int] = frozenset()
    push_then_pull: bool = False
    lr_at: int | None = None


Life = Generator[list[Ask], list[tuple[Message, bytes | None]], None]


def gradient(rank: int, clock: int, chunk: Chunk) -> np.ndarray:
    """The gradient of a worker: exact in float32 and different for every rank, clock and chunk."""
    base = np.arange(chunk.size, dtype=np.float32) % 7 - 3
    return base + np.float32(rank + 1) / 8 + np.float32(clock % 16) / 4 + np.float32(chunk.index) / 2


class SimWorker:
    """One worker's life and what it saw."""

    def __init__(
        self, member: int, rank: int, job: JobConfig, plan: Plan, epoch: Callable[[], int], in_place: bool = False
    ) -> None:
        self.member = member
        self.rank = rank
        self.job = job
        self.plan = plan
        self.epoch = epoch
        self.in_place = in_place
        """Whether it reads the weights where the servers keep them, and so needs none sent."""
        self.last = False
        """Whether the script goes on, and may read the weights, when what is asked now is answered."""
        self.clock = 0
        self.rates = Rates(rank)
        self.says: tuple[Rate, ...] = ()
        self.chunks = LAYOUT.chunks(job.servers, job.chunk_bytes)
        self.seen: dict[int, int] = {}
        """Chunk -> version of the weights it has."""
        self.taking_part = False
        self.undisturbed = True
        """Whether no answer was lost. Backups go on without a worker whose first weights of a clock got lost."""
        self.acknowledged: list[tuple[int, int, bool]] = []
        """(chunk, clock, skipped) of each push that was answered and not late."""
        self.finished = False
        self.steps: list[int] = []
        self.lates = 0
        self.seeded = False
        self.may_be_late = job.mode == "sync" and (job.backup_workers > 0 or plan.barrier_at is not None)

    # Conversations

    def life(self) -> Life:
        [(grant, _)] = yield [Ask(SCHEDULER, lambda r: InitRequest(r, self.member, LAYOUT.pack()))]
        self.seeded = grant.seed  # type: ignore[attr-defined]
        if self.seeded:
            yield from self._seed()
        else:
            yield from self._enter()
        while self.clock < self.plan.steps:
            if self.plan.barrier_at is not None and self.clock >= self.plan.barrier_at:
                self.plan = Plan(self.plan.steps, None, self.plan.skips, self.plan.push_then_pull, self.plan.lr_at)
                yield from self._barrier()
                continue
            yield from self._step()
        self.taking_part = self.last = False
        yield self._all(lambda r: Suspend(r, self.member))
        yield [Ask(SCHEDULER, lambda r: Leave(r, self.member, {}))]
        self.finished = True

    def _all(self, make: Callable[[int], Message]) -> list[Ask]:
        return [Ask(server, make) for server in range(self.job.servers)]

    def _seed(self) -> Life:
        yield from self._attach()
        settings = (self.job.servers, self.job.chunk_bytes, LAYOUT.pack())
        yield self._all(lambda r: Init(r, self.member, *settings))
        yield [
            Ask(c.server, lambda r, c=c: InitChunk(r, self.member, c.index), first_values(c, self.rank).tobytes())  # type: ignore[misc]
            for c in self.chunks
        ]
        yield [Ask(SCHEDULER, lambda r: InitDone(r, self.member))]
        self.seen = {c.index: 0 for c in self.chunks}
        yield from self._start(0)

    def _attach(self) -> Generator[list[Ask], list[tuple[Message, bytes | None]], int]:
        epoch = self.epoch()
        answers = yield self._all(lambda r: Attach(r, self.member, epoch))
        return max(a.clock for a, _ in answers if isinstance(a, Attached))

    def _start(self, clock: int) -> Life:
        self.clock = clock
        self.taking_part = True
        self.last = self.seeded and not self.steps and clock == 0
        yield self._all(lambda r: Start(r, self.member, clock))

    def _enter(self) -> Life:
        self.taking_part = self.last = False
        clock = yield from self._attach()
        yield from self._start(clock)
        yield from self._pull(exact=True)

    def _catch_up(self, clock: int) -> Life:
        for _ in range(10):
            yield from self._start(clock)
            yield from self._pull()
            clock = max(self.seen.values())
            if clock == self.clock:
                break

    def _pull(self, exact: bool = False) -> Life:
        self.last = True
        answers = yield [Ask(c.server, lambda r, c=c: Pull(r, self.member, c.index, self.clock)) for c in self.chunks]  # type: ignore[misc]
        self._land(answers, self.clock if (exact and self.undisturbed) or not self.job.backup_workers else None)

    def _land(self, answers: list[tuple[Message, bytes | None]], expected: int | None) -> None:
        for message, _ in answers:
            assert isinstance(message, Weights | Pushed), f"{message!r} instead of weights"
            assert isinstance(message, Weights) or self.in_place
            self.seen[message.chunk] = message.version
            if self.job.mode == "sync" and expected is not None:
                assert message.version == expected, f"worker {self.rank} at {expected} got {message!r}"
            assert message.staleness >= 0
            if self.job.mode == "ssp":
                assert message.staleness <= self.job.staleness

    def _pushes(self, pull: bool) -> list[Ask]:
        clock, skip, says = self.clock, self.clock in self.plan.skips, self.says
        made = []
        for c in self.chunks:
            if skip:
                made.append(Ask(c.server, lambda r, c=c: Skip(r, self.member, c.index, clock, pull, -1, says)))  # type: ignore[misc]
                continue
            version = self.seen[c.index]
            made.append(
                Ask(
                    c.server,
                    lambda r, c=c, v=version: Push(r, self.member, c.index, clock, v, 1.0, 1.0, pull, says),  # type: ignore[misc]
                    gradient(self.rank, clock, c).tobytes(),
                )
            )
        return made

    def _step(self) -> Life:
        clock, self.last = self.clock, False
        if self.plan.lr_at == clock:
            self.rates.set((self.rank + 1) / 64)  # the others may set another one
        self.says = self.rates.step()
        self.steps.append(clock)
        two_phase = self.job.mode == "sync" and self.job.clip_norm is not None
        apart = self.plan.push_then_pull and not self.in_place  # who reads in place goes on with a copy then
        pull = not two_phase and not apart
        self.last = pull
        answers = yield self._pushes(pull and not self.in_place)
        late = [message for message, _ in answers if isinstance(message, Late)]
        skipped = clock in self.plan.skips
        counted = [c.index for c, (a, _) in zip(self.chunks, answers, strict=True) if not isinstance(a, Late)]
        self.acknowledged += [(index, clock, skipped) for index in counted]
        if late:
            self.lates += 1
            assert self.may_be_late, f"worker {self.rank} was late at clock {clock}"
            if self.job.backup_workers:
                yield from self._catch_up(max(message.version for message in late))
            else:
                yield from self._enter()
            return
        if two_phase:
            squares = [a for a, _ in answers if isinstance(a, NormPart)]
            assert len(squares) == len(self.chunks), answers
            scale = clip_scale(sum(s.value for s in sorted(squares, key=lambda s: s.chunk)), self.job.clip_norm or 0)
            self.last = pull = not apart
            brings = pull and not self.in_place
            answers = yield [
                Ask(c.server, lambda r, c=c: Scale(r, self.member, c.index, clock, scale, brings))  # type: ignore[misc]
                for c in self.chunks
            ]
        self.clock += 1
        if pull:
            self._land(answers, self.clock if self.undisturbed or not self.job.backup_workers else None)
        else:
            yield from self._pull()

    def _barrier(self) -> Life:
        self.taking_part = self.last = False
        yield self._all(lambda r: Suspend(r, self.member))
        [(first, _)] = yield [Ask(SCHEDULER, lambda r: BarrierEnter(r, self.member, self.clock))]
        yield from self._start(first.clock)  # type: ignore[attr-defined]
        answers = yield [
            Ask(c.server, lambda r, c=c: Pull(r, self.member, c.index, self.clock))  # type: ignore[misc]
            for c in self.chunks
        ]
        self._land(answers, None)  # the one that was furthest may have died since
        self.last = True
        yield [Ask(SCHEDULER, lambda r: BarrierEnter(r, self.member, self.clock))]


def first_values(chunk: Chunk, rank: int) -> np.ndarray:
    """The seeding worker's values."""
    return np.linspace(-1, 1, chunk.size, dtype=np.float32) + np.float32(rank)


def describe(worker: SimWorker) -> dict[str, Any]:
    """What to print of a worker that hangs."""
    return {"rank": worker.rank, "clock": worker.clock, "taking_part": worker.taking_part}

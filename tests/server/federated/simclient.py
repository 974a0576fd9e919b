"""SimClient: a client's protocol, as worker/federated/connection.py speaks it, as a generator without sockets.

It yields the requests it waits for, or the seconds it pauses, and is sent the answers. What it makes of a task depends
on the task and its character alone, so that the invariants can work it out again.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ps.protocol.layout import Chunk, Layout
from ps.protocol.messages import (
    Assign,
    Busy,
    Decline,
    Finished,
    Poll,
    Pull,
    Resume,
    Submit,
    Upload,
)

SCHEDULER = -1
MODEL = Layout.of(
    {"w": np.zeros((7, 5)), "b": np.zeros(9), "seen": np.zeros(3), "count": np.zeros(2, np.int64)},
    {"seen": "buffer", "count": "counter"},
)
HONEST, SHIRKER, FADER = "honest", "shirker", "fader"
"""Shirkers decline now and then, faders vanish between two chunks."""
LIARS = ("nan", "huge", "short", "greedy", "tireless", "modest")
"""NaN in the delta, a norm out of all proportion, frames of the wrong size, claims of 1e12 examples, of 1e11 steps, and
of a negative number of examples."""


@dataclass(frozen=True)
class Ask:
    """A request for the scheduler or the server of a rank."""

    to: int
    make: Any
    payload: bytes | None = None


@dataclass
class Pause:
    seconds: float


class Vanished(Exception):
    """The client's process has died."""


@dataclass
class Work:
    """What a client made of a task."""

    rank: int
    parts: dict[int, Any]
    examples: float
    steps: int


@dataclass
class SimClient:
    """One process of a client; ``done`` tells which verdicts it heard."""

    member: int
    rank: int
    character: str
    chunks: tuple[Chunk, ...]
    seed: int
    works: dict[int, Work]
    """Task -> what was made of it, of all clients."""
    finished: bool = False
    heard: list[tuple[int, str]] = field(default_factory=list)
    verdict_since: float | None = None

    def life(self) -> Generator[list[Ask] | Pause, list[tuple[Any, bytes | None]], None]:
        while True:
            [(answer, _)] = yield [Ask(SCHEDULER, lambda n: Poll(n, self.member, 0, {}))]
            if isinstance(answer, Finished):
                self.finished = True
                return
            if not isinstance(answer, Assign):
                yield Pause(answer.seconds)
                continue
            task, round = answer.task, answer.round
            chance = random.Random(f"{self.seed}/{self.rank}/{task}/{self.character}")
            version = yield from self._pull(round)
            if self.character == SHIRKER and chance.random() < 0.5:
                yield [Ask(SCHEDULER, lambda n, task=task: Decline(n, self.member, task, "tired"))]
                continue
            work = self.works.setdefault(task, self._train(task, chance))
            assert work.rank == self.rank, f"task {task} was given to two clients"
            yield Pause(chance.random() * 3)
            yield from self._deliver(task, round, version, work, chance)

    def _pull(self, version: int) -> Any:
        while True:
            answers = yield [
                Ask(c.server, lambda n, c=c, v=version: Pull(n, self.member, c.index, v, False)) for c in self.chunks
            ]
            versions = {message.version for message, _ in answers}
            if len(versions) == 1:
                return versions.pop()
            version = max(versions)

    def _train(self, task: int, chance: random.Random) -> Work:
        rng = np.random.default_rng((self.seed, self.rank, task))
        parts = {}
        for chunk in self.chunks:
            values = rng.normal(size=chunk.size) if chunk.dtype != "int64" else rng.integers(0, 9, chunk.size)
            parts[chunk.index] = values.astype(chunk.dtype)
        examples, steps = float(rng.integers(1, 40)), int(rng.integers(1, 6))
        first = next(chunk.index for chunk in self.chunks if chunk.dtype != "int64")
        if self.character == "nan":
            parts[first][-1] = np.nan
        if self.character == "huge":
            parts[first] *= 1e5
        examples = {"greedy": 1e12, "modest": -3.0}.get(self.character, examples)
        return Work(self.rank, parts, examples, 10**11 if self.character == "tireless" else steps)

    def _deliver(self, task: int, round: int, version: int, work: Work, chance: random.Random) -> Any:
        while True:
            servers = sorted({chunk.server for chunk in self.chunks})
            answers = yield [Ask(s, lambda n: Resume(n, self.member, task)) for s in servers]
            known = {index for message, _ in answers for index in message.chunks}
            missing = [chunk for chunk in self.chunks if chunk.index not in known]
            late = False
            while missing and not late:
                if self.character == FADER and chance.random() < 0.3:
                    raise Vanished
                answers = yield [self._upload(task, round, chunk, work) for chunk in missing]
                late = any(type(message).__name__ == "Late" for message, _ in answers)
                later = {message.chunk: message.seconds for message, _ in answers if isinstance(message, Busy)}
                missing = [chunk for chunk in missing if chunk.index in later]
                if missing:
                    yield Pause(max(later.values()))
            make = lambda n: Submit(n, self.member, task, version, work.examples, work.steps, {"loss": 1.0})  # noqa: E731
            [(answer, _)] = yield [Ask(SCHEDULER, make)]
            if answer.verdict != "resume" or late:
                self.heard.append((task, "late" if answer.verdict == "resume" else answer.verdict))
                return

    def _upload(self, task: int, round: int, chunk: Chunk, work: Work) -> Ask:
        frame = work.parts[chunk.index].tobytes()
        return Ask(
            chunk.server,
            lambda n: Upload(n, self.member, task, round, self.rank, chunk.index),
            frame[:-1] if self.character == "short" else frame,
        )


def honest(count: int) -> list[str]:
    """The characters of so many honest clients."""
    return [HONEST] * count

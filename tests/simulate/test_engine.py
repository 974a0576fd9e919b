"""Promises of the engine, against a small federation that writes down what it is told, and one that is real."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass

import numpy as np
import pytest

from ps.errors import Refused, StateError
from ps.protocol.messages import (
    Assign,
    Busy,
    Error,
    Message,
    Poll,
    Pull,
    Resume,
    Stored,
    Submit,
    Submitted,
    Upload,
    UploadState,
    Wait,
    Weights,
)
from ps.simulate.availability import Span
from ps.simulate.engine import Engine
from ps.simulate.local_work import LocalWork
from ps.simulate.task import TrainingResult, TrainingTask
from ps.simulate.traces import ClientRates
from ps.xp import HostArray
from support.federation import plan_of

NBYTES = 208
"""Of the model of ``plan_of``: 12 x 4 weights and 4 biases."""
FRAME = NBYTES // 4
"""Bytes of each chunk's delta here, of which there are four."""


class FakeCluster:
    """Assigns a task to every poll until ``goal`` deltas were submitted, which makes a round; notes everything."""

    def __init__(self, clients: int, rounds: int, goal: int = 1, **job: object) -> None:
        plan = plan_of(workers=clients, rounds=rounds, chunk_size=1024, **job)
        self.job, self.layout = plan.job, plan.layout
        self.chunks = self.layout.chunks(1, 64)
        self.version = 0
        self.seen: list[tuple[float, int, Message | str]] = []
        self.reply: deque[Message] = deque()
        self.waits: deque[float] = deque()
        self.verdict = "accepted"
        self._goal, self._submitted, self._next = goal, 0, 0
        self._answers: list[tuple[int, Message]] = []
        self._ranks: dict[int, int] = {}

    def join(self, rank: int, now: float) -> int:
        member = 1000 + len(self._ranks)
        self._ranks[member] = rank
        self.seen.append((now, rank, "join"))
        return member

    def leave(self, member: int, now: float) -> None:
        self.seen.append((now, self._ranks[member], "leave"))

    def tell(self, member: int, message: Message, now: float) -> None:
        self.seen.append((now, self._ranks[member], message))
        if isinstance(message, Submit):
            self._answers.append((member, Submitted(message.request, message.task, self.verdict)))
            self._submitted += 1
            if self._submitted % self._goal == 0:
                self.version += 1
        elif self.waits:
            self._answers.append((member, Wait(message.request, self.version, self.waits.popleft())))
        else:
            self._next += 1
            self._answers.append((member, Assign(message.request, self._next, self.version, 50.0, False)))

    def call(self, server: int, message: Message, payload: HostArray | None, now: float) -> Message:
        assert server == 0
        match message:
            case Pull():
                return Weights(message.request, message.chunk, self.version, 0)
            case Resume():
                return UploadState(message.request, message.task, ())
            case Upload():
                self.seen.append((now, self._ranks[message.member], message))
                return self.reply.popleft() if self.reply else Stored(message.request, message.task, message.chunk)
        raise AssertionError(message)

    def weights(self) -> HostArray:
        return np.full(self.layout.nbytes, self.version, np.uint8)

    def answers(self) -> list[tuple[int, Message]]:
        heard, self._answers = self._answers, []
        return heard

    def tick(self, now: float) -> None:
        self.seen.append((now, -1, "tick"))

    def wake(self, now: float) -> float | None:
        return None

    def of(self, kind: type[Message] | str, client: int | None = None) -> list[tuple[float, int]]:
        """When and from whom messages of a kind came."""
        found = [
            (now, rank)
            for now, rank, what in self.seen
            if what == kind or (isinstance(kind, type) and isinstance(what, kind))
        ]
        return [(now, rank) for now, rank in found if client in (None, rank)]


class FakePool:
    """Makes frames at once, and checks that every task is settled once."""

    def __init__(self, chunks: int) -> None:
        self.given: dict[int, TrainingTask] = {}
        self.settled: dict[int, bool] = {}
        self.versions: set[int] = set()
        self._chunks = chunks

    def publish(self, version: int, weights: HostArray) -> None:
        assert set(weights.tolist()) == {version}
        self.versions.add(version)

    def give(self, task: TrainingTask, due: float) -> None:
        assert task.ticket not in self.given and task.version in self.versions
        self.given[task.ticket] = task

    def take(self, ticket: int) -> TrainingResult:
        assert ticket in self.given and ticket not in self.settled
        return TrainingResult(
            ticket, 8, 2, {"loss": 1.0}, tuple(np.zeros(FRAME, np.uint8) for _ in range(self._chunks))
        )

    def settle(self, ticket: int, accepted: bool) -> None:
        assert ticket in self.given and ticket not in self.settled
        self.settled[ticket] = accepted


@dataclass
class FakeTraces:
    """Two seconds a step, the model in four seconds up and in two down; on until ``off`` and again from ``on``."""

    off: float = math.inf
    on: float = math.inf
    gives: float | None = None
    step: float = 2.0

    def rates(self, client: int) -> ClientRates:
        return ClientRates(self.step, NBYTES / 4, NBYTES / 2)

    def span(self, client: int, now: float) -> Span:
        if now < self.off:
            return Span(True, self.off)
        return Span(False, self.on) if now < self.on else Span(True, math.inf)

    def gives_up(self, client: int, ticket: int) -> float | None:
        share, self.gives = self.gives, None
        return share


def engine_of(cluster: FakeCluster, traces: FakeTraces) -> tuple[Engine, FakePool]:
    pool = FakePool(len(cluster.chunks))
    sizes = [8] * cluster.job.workers  # two steps of four
    return Engine(cluster, pool, traces, LocalWork(4), sizes, heartbeat=10.0), pool


def test_a_client_pulls_trains_uploads_chunk_by_chunk_submits_and_polls_again() -> None:
    cluster = FakeCluster(clients=1, rounds=2)
    engine, pool = engine_of(cluster, FakeTraces())
    engine.run()
    assert cluster.of(Poll) == [(0.0, 0), (10.0, 0)]
    # 2 s down, 2 x 2 s of training, 1 s for each of four chunks
    assert [now for now, _ in cluster.of(Upload)] == [7.0, 8.0, 9.0, 10.0, 17.0, 18.0, 19.0, 20.0]
    assert [now for now, _ in cluster.of(Submit)] == [10.0, 20.0]
    polls = [message.version for _, _, message in cluster.seen if isinstance(message, Poll)]
    assert polls == [-1, 0]
    assert list(pool.settled.values()) == [True, True]
    assert (engine.counters.trained, engine.counters.accepted, engine.counters.dropped) == (2, 2, 0)
    assert engine.counters.up.tolist() == engine.counters.down.tolist() == [2 * NBYTES]


def test_a_client_that_is_told_to_wait_comes_back_when_it_was_told_to() -> None:
    cluster = FakeCluster(clients=1, rounds=1)
    cluster.waits.extend([3.5, 0.25])
    engine, _ = engine_of(cluster, FakeTraces())
    engine.run()
    assert cluster.of(Poll) == [(0.0, 0), (3.5, 0), (3.75, 0)]


def test_a_client_that_gives_up_says_nothing_more_and_comes_back_when_its_round_is_over() -> None:
    cluster = FakeCluster(clients=1, rounds=1)
    engine, pool = engine_of(cluster, FakeTraces(gives=0.85))  # of 10 s: two of four chunks are there
    engine.run()
    assert cluster.of("leave") == [(18.5, 0)], "missed after the heartbeat time-out"
    assert cluster.of("join") == [(0.0, 0), (50.0, 0)]
    assert [now for now, _ in cluster.of(Upload)][:3] == [7.0, 8.0, 57.0]
    assert cluster.of(Submit) == [(60.0, 0)]
    assert sorted(pool.settled.values()) == [False, True]
    assert engine.counters.dropped == 1


def test_a_client_that_gives_up_before_it_has_trained_is_not_computed() -> None:
    cluster = FakeCluster(clients=1, rounds=1)
    engine, pool = engine_of(cluster, FakeTraces(gives=0.5))
    engine.run()
    assert len(pool.given) == 1
    assert cluster.of(Submit) == [(60.0, 0)]


def test_a_client_that_is_off_for_a_moment_is_not_missed() -> None:
    cluster = FakeCluster(clients=1, rounds=1)
    engine, pool = engine_of(cluster, FakeTraces(off=8.5, on=12.0))
    engine.run()
    assert cluster.of("leave") == []
    assert cluster.of(Poll) == [(0.0, 0), (12.0, 0)]
    assert cluster.of(Submit) == [(22.0, 0)]
    assert sorted(pool.settled.values()) == [False, True]


def test_a_client_that_is_off_when_it_would_poll_leaves_and_joins_again() -> None:
    cluster = FakeCluster(clients=1, rounds=1)
    cluster.waits.append(5.0)
    engine, _ = engine_of(cluster, FakeTraces(off=4.0, on=100.0))
    engine.run()
    assert cluster.of("leave") == [(5.0, 0)]
    assert cluster.of("join") == [(0.0, 0), (100.0, 0)]
    assert cluster.of(Submit) == [(110.0, 0)]


def test_a_server_without_room_gets_the_chunk_again_later_when_all_others_are_there() -> None:
    cluster = FakeCluster(clients=1, rounds=1)
    cluster.reply.append(Busy(0, 0, 30.0))
    engine, _ = engine_of(cluster, FakeTraces())
    engine.run()
    uploads = [(now, message.chunk) for now, _, message in cluster.seen if isinstance(message, Upload)]
    assert uploads == [(7.0, 0), (8.0, 1), (9.0, 2), (10.0, 3), (41.0, 0)]
    assert cluster.of(Submit) == [(41.0, 0)]


def test_an_upload_that_is_turned_down_ends_the_task_and_is_counted() -> None:
    cluster = FakeCluster(clients=1, rounds=1)
    cluster.reply.append(Error(0, "late", "round 0 is over"))
    engine, pool = engine_of(cluster, FakeTraces())
    engine.run()
    assert engine.counters.refused == Counter({"late": 1})
    assert cluster.of(Poll) == [(0.0, 0), (8.0, 0)]
    assert sorted(pool.settled.values()) == [False, True]


def test_a_refused_contribution_is_counted_by_its_reason() -> None:
    cluster = FakeCluster(clients=1, rounds=2)
    cluster.verdict = "norm"
    engine, pool = engine_of(cluster, FakeTraces())
    engine.run()
    assert engine.counters.refused == Counter({"norm": 2})
    assert not any(pool.settled.values())


def test_what_the_scheduler_finds_wrong_is_no_silence() -> None:
    cluster = FakeCluster(clients=1, rounds=1)
    cluster._answers.append((1000, Error(0, "evicted", "you were declared dead")))
    with pytest.raises(Refused, match="you were declared dead"):
        engine_of(cluster, FakeTraces())[0].run()


def test_rounds_that_are_never_published_end_the_simulation_with_advice() -> None:
    cluster = FakeCluster(clients=2, rounds=1, goal=10**9)
    with pytest.raises(StateError, match=r"round 0 was not published in 30 virtual days.*--availability"):
        engine_of(cluster, FakeTraces(step=86_400.0))[0].run()


def test_the_simulation_ends_when_whoever_watches_has_seen_enough() -> None:
    cluster = FakeCluster(clients=3, rounds=100)
    watched: list[tuple[int, float]] = []

    def published(version: int, now: float, weights: HostArray) -> bool:
        watched.append((version, now))
        return version == 2

    Engine(cluster, FakePool(len(cluster.chunks)), FakeTraces(), LocalWork(4), [8] * 3, published).run()
    assert watched == [(0, 0.0), (1, 10.0), (2, 10.0)]

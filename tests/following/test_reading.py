"""Promises of a reading: one clock on all servers whatever the order of events, and nothing that does not fit."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest

from ps.config.job import JobConfig
from ps.errors import BadMessage
from ps.following.reading import Permit, Reading
from ps.protocol.layout import Layout
from ps.protocol.messages import Error, Init, InitChunk, Mark, Marked, Message, Moved, Peek, Peeked, Push, Start, View
from ps.server.shard.chunk_transfer import is_quiet
from ps.server.shard.followers import Followers
from ps.server.shard.gradient_shard import GradientShard
from support.identity import KEY

SERVERS = 2
LAYOUT = Layout.of({"w": np.zeros(1500, np.float32), "b": np.zeros(5, np.float64)})


class Job:
    """A worker and its servers; each chunk goes from clock to clock on its own."""

    def __init__(self, **job: Any) -> None:
        self.job = JobConfig(servers=SERVERS, workers=1, optimizer="sgd:lr=1", chunk_size=1024, **job)
        self.chunks = LAYOUT.chunks(SERVERS, self.job.chunk_bytes)
        self.shards = [GradientShard(rank) for rank in range(SERVERS)]
        self.followers = [Followers(rank, KEY, shard) for rank, shard in enumerate(self.shards)]
        self.clocks = dict.fromkeys(range(len(self.chunks)), 0)
        row = (1, "worker", 0, True, "host", ())
        for shard in self.shards:
            shard.view(View(1, "running", "", "", self.job.to_dict(), (row,)), 0.0)
            self.tell(shard, Init(0, 1, SERVERS, self.job.chunk_bytes, LAYOUT.pack()))
        for chunk in self.chunks:
            self.tell(self.shards[chunk.server], InitChunk(0, 1, chunk.index), bytes(chunk.nbytes))
        for shard in self.shards:
            self.tell(shard, Start(0, 1, 0))

    def tell(self, shard: GradientShard, message: Message, payload: Any = None) -> None:
        for send in shard.receive(b"worker", message, payload, 0.0):
            if send.loan is not None:
                send.loan.stay, send.loan.tracker = False, type("Gone", (), {"done": True})()

    def push(self, index: int) -> None:
        """A chunk's next step adds 1 to each element; no chunk is two clocks ahead of another."""
        chunk, clock = self.chunks[index], self.clocks[index]
        if clock > min(self.clocks.values()):
            return
        self.clocks[index] += 1
        message = Push(1000 + clock, 1, index, clock, clock, 1.0, 1.0, True)
        self.tell(self.shards[chunk.server], message, np.full(chunk.size, -1, chunk.dtype).tobytes())


def reading(job: Job, **fields: Any) -> Reading:
    permit = Permit(5, KEY.leave(5))
    return Reading(LAYOUT, job.job, permit, itertools.count(1), **{"masters": False, "now": 0.0, **fields})


def play(job: Job, seed: int, *, lossy: bool) -> Reading:
    """Let a reading and training go on in any order, until the reading is done."""
    chance, now = random.Random(seed), 0.0
    read = reading(job)
    mail: list[tuple[int, Message, Any]] = []
    """To servers (payload None) and back."""
    back: list[tuple[int, Message, Any]] = []
    for _ in range(20_000):
        if read.done:
            return read
        now += chance.choice((0.0, 0.001, 0.05))
        match chance.randrange(4):
            case 0 | 1:
                for _ in range(chance.randrange(8)):
                    job.push(chance.randrange(len(job.chunks)))
            case 2:
                mail += [(rank, message, None) for rank, message in read.tick(now)]
                if mail:
                    rank, message, _ = mail.pop(0)
                    assert isinstance(message, Mark | Peek)
                    send = job.followers[rank].receive(b"f", message, now)
                    if not (lossy and chance.random() < 0.2):
                        payload = None if send.loan is None else send.loan.weights.tobytes()
                        back.append((rank, send.message, payload))
            case 3 if back:
                rank, answer, payload = back.pop(chance.randrange(len(back)))
                mail += [(to, ask, None) for to, ask in read.hear(rank, answer, payload, now)]
    raise AssertionError("it is never done")


@pytest.mark.parametrize("lossy", [False, True])
def test_in_any_order_of_events_a_snapshot_is_of_one_clock_on_all_servers(lossy: bool) -> None:
    clocks = set()
    for seed in range(30):
        read = play(Job(), seed, lossy=lossy)
        values = {float(value) for vector in read.found.flat.values() for value in vector}
        assert values == {float(read.clock)}, f"seed {seed}"
        clocks.add(read.clock)
    assert len(clocks) > 3, "and not of the beginning alone"


def test_without_lockstep_no_chunk_is_torn() -> None:
    for seed in range(15):
        job = Job(mode="async")
        read = play(job, seed, lossy=False)
        for chunk in job.chunks:
            assert len(set(read.found.flat[chunk.section][chunk.start : chunk.stop].tolist())) == 1


def test_when_training_stands_still_the_clock_that_was_reached_is_taken() -> None:
    job = Job()
    read = reading(job)
    [first, second] = read.tick(0.0)
    asked = [
        ask for to, mark in (first, second) for ask in read.hear(to, Marked(_number(mark), -1, 3, False), None, 0.1)
    ]
    for to, mark in asked:
        again = read.hear(to, Marked(_number(mark), 3, 4, False), None, 0.2)
        if again:
            break
    assert {getattr(mark, "clock", None) for _, mark in again} == {5}, "one beyond the farthest"
    assert all(read.tick(0.3 + i) == [] or read.clock == 4 for i in range(3))
    assert read.clock == 4


def _number(message: Message) -> int:
    return int(message.request)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("clock", "chunk", "less", "words"),
    [(1, 0, 0, "in answer to"), (0, 1, 0, "in answer to"), (0, 0, 1, r"has \d+ bytes, the frame \d+")],
)
def test_a_server_that_answers_with_something_else_is_not_believed(
    clock: int, chunk: int, less: int, words: str
) -> None:
    job = Job()
    read = reading(job)
    asked = read.tick(0.0)
    while asked and not isinstance(asked[0][1], Peek):
        rank, message = asked.pop(0)
        assert isinstance(message, Mark)
        answer = Marked(message.request, message.clock, 0, message.clock >= 0)
        asked += read.hear(rank, answer, None, 0.0)
    rank, message = asked[0]
    assert isinstance(message, Peek)
    with pytest.raises(BadMessage, match=words):
        read.hear(rank, Peeked(message.request, clock, chunk, False), bytes(job.chunks[0].nbytes - less), 0.0)
    assert read.found.missing == {each.index for each in job.chunks}


def test_what_nobody_asked_for_changes_nothing() -> None:
    job = Job()
    read = reading(job)
    read.tick(0.0)
    for message in (Peeked(1, 0, 0, False), Peeked(999, 0, 0, False), Marked(999, 0, 7, True)):
        assert read.hear(1 if message.request == 1 else 0, message, bytes(64), 0.0) == []
    assert (read.clock, read.done) == (-1, False)


def test_a_server_that_cannot_answer_yet_is_asked_again_after_a_rest() -> None:
    job = Job()
    read = reading(job)
    [(rank, mark), _] = read.tick(0.0)
    assert read.hear(rank, Error(_number(mark), "bad-message", "there is no model here"), None, 1.0) == []
    assert read.tick(1.0) == read.tick(1.05) == [], "and not as often as it can say so"
    assert [(to, getattr(each, "clock", None)) for to, each in read.tick(1.2)] == [(0, -1), (1, -1)]


class MovingJob(Job):
    """Its chunks go from one server to the other, each with all that is marked of it kept before that."""

    def __init__(self, **job: Any) -> None:
        super().__init__(**job)
        self.home = {chunk.index: chunk.server for chunk in self.chunks}
        for rank, shard in enumerate(self.shards):
            self.followers[rank] = Followers(rank, KEY, shard, self.home.get)

    def push(self, index: int) -> None:
        chunk = self.chunks[index]
        clock = self.clocks[index]
        if clock > min(self.clocks.values()):
            return
        self.clocks[index] += 1
        message = Push(1000 + clock, 1, index, clock, clock, 1.0, 1.0, True)
        self.tell(self.shards[self.home[index]], message, np.full(chunk.size, -1, chunk.dtype).tobytes())

    def move(self, index: int) -> None:
        """A chunk goes to the other server, if it may."""
        source = self.shards[self.home[index]]
        if is_quiet(source.chunks[index]):
            self.home[index] = 1 - self.home[index]
            self.shards[self.home[index]].chunks[index] = source.chunks.pop(index)


def test_a_snapshot_is_of_one_clock_while_chunks_go_from_server_to_server() -> None:
    moved = 0
    for seed in range(30):
        job, chance = MovingJob(), random.Random(seed)
        push = job.push

        def push_or_move(index: int, job: MovingJob = job, push: Any = push, chance: Any = chance) -> None:
            push(index)
            if chance.random() < 0.2:
                job.move(chance.randrange(len(job.chunks)))

        job.push = push_or_move  # type: ignore[method-assign]
        read = play(job, seed, lossy=bool(seed % 2))
        values = {float(value) for vector in read.found.flat.values() for value in vector}
        assert values == {float(read.clock)}, f"seed {seed}"
        moved += sum(rank != job.chunks[index].server for index, rank in job.home.items())
    assert moved > 20


def test_a_chunk_at_a_server_that_is_not_known_yet_is_told_and_not_asked_for_for_ever() -> None:
    job = Job()
    read = reading(job)
    asked = read.tick(0.0)
    while not any(isinstance(question, Peek) for _, question in asked):
        asked = [
            more
            for rank, question in asked
            for more in read.hear(rank, job.followers[rank].receive(b"f", question, 0.0).message, None, 0.0)
        ]
    rank, question = next(row for row in asked if isinstance(row[1], Peek))
    assert not read.strays
    again = read.hear(rank, Moved(question.request, 7), None, 0.0)
    assert read.strays and not any(isinstance(each, Peek) and each.chunk == question.chunk for _, each in again)

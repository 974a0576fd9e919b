"""SimJob: a whole job without sockets or time: real workers (KV to RequestQueue), real Shards, channels in memory.

Each worker has a thread of its own, but only one moves at a time: a worker keeps the baton until it waits in its
poller, and a seed decides who moves next. So a run is the same each time. Time is a number that passes when a worker's
patience ends; that also happens now and then while others could move.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ps import xp
from ps.config import job_from
from ps.errors import BadMessage
from ps.protocol.codec import decode
from ps.protocol.messages import View
from ps.protocol.messages.rate import UNSAID, Rate
from ps.server.shard.chunk import ChunkState, Combined, Contribution
from ps.server.shard.gradient_shard import GradientShard
from ps.server.shard.update import Updater
from ps.worker import KV
from ps.worker.cluster import ClusterStore
from ps.worker.exchange import Exchange
from ps.worker.step_log import StepLog
from support.simsession import SimChannel, SimSession

FIRST_WORKER = 100
"""The id of the worker with rank 0."""
BOUND = 30.0
"""Seconds after which a thread that has the baton has hung outside its poller."""

Script = Callable[[KV, "SimWorker"], None]


def held_lock() -> threading.Lock:
    """Return a lock that whoever wants it has to wait for: another thread lets it go."""
    lock = threading.Lock()
    lock.acquire()
    return lock


class Stopped(BaseException):
    """Ends the threads of a job that has failed; no error that a worker could deal with."""


class Witness(Updater):
    """An Updater that writes down whose contributions it was given, and of what."""

    seen: list[tuple[int, int, int, float | None]]
    """(chunk, worker's rank, clock, the value that all elements have, or None for a skipped step)."""
    applied: list[tuple[int, int]]
    """(chunk, clock) of the gradients that were scaled in a second phase."""

    def _note(self, chunk: ChunkState, contributions: Sequence[Contribution]) -> None:
        for c in contributions:
            value = None
            if isinstance(c.gradient, np.ndarray):
                value = float(c.gradient[0])
                assert (c.gradient == value).all(), f"two steps' gradients in one: {c}"
            elif c.gradient is not None:
                value = np.nan
            self.seen.append((chunk.chunk.index, c.rank, c.clock, value))

    def apply(
        self, chunk: ChunkState, contributions: Sequence[Contribution], staleness: int, rate: Rate = UNSAID
    ) -> None:
        self._note(chunk, contributions)
        super().apply(chunk, contributions, staleness, rate)

    def combine(self, chunk: ChunkState, contributions: Sequence[Contribution]) -> tuple[np.ndarray | None, float]:
        self._note(chunk, contributions)
        return super().combine(chunk, contributions)

    def apply_combined(self, chunk: ChunkState, combined: Combined, scale: float) -> None:
        if combined.gradient is not None:
            self.applied.append((chunk.chunk.index, combined.clock))
        super().apply_combined(chunk, combined, scale)


class SimWorker:
    """One worker's thread, and what lets it move."""

    def __init__(self, job: SimJob, rank: int, script: Script) -> None:
        self.job = job
        self.rank = rank
        self.member = FIRST_WORKER + rank
        self.channels = [SimChannel(job.room) for _ in job.shards]
        self.can_move: Callable[[], Any] = lambda: True
        self.deadline: float | None = None
        """When it moves in any case."""
        self.meets: int | None = None
        """The clock with which it stands in a barrier."""
        self.about = "its start"
        self.exchange: Exchange | None = None
        self.over = False
        self.error: BaseException | None = None
        self._script = script
        self._baton = held_lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def move(self) -> None:
        """Let it move until it waits again."""
        self.deadline = None
        self._baton.release()
        assert self.job.baton.acquire(timeout=BOUND), f"worker {self.rank} hangs, and not in its poller"
        if self.over:
            self._thread.join(BOUND)
        if self.error is not None:
            raise self.error

    def wait(self, about: str, can_move: Callable[[], Any], deadline: float | None = None) -> None:
        """Let the others move until this one can and is chosen."""
        self.about, self.can_move, self.deadline = about, can_move, deadline
        self.job.baton.release()
        self._baton.acquire()
        if self.job.stopped:
            raise Stopped

    def pause(self) -> None:
        """Compute for a while."""
        self.wait("its turn", lambda: True)

    def _run(self) -> None:
        self._baton.acquire()
        try:
            if not self.job.stopped:
                with KV(ClusterStore(SimSession(self)), xp.CPU, StepLog(None)) as kv:
                    self._script(kv, self)
        except Stopped:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self.over = True
            self.job.baton.release()


class SimJob:
    """One job; ``losses`` messages between workers and servers get lost, ``room`` is what a channel takes unsent."""

    def __init__(self, explicit: dict[str, Any], scripts: Sequence[Script], seed: int, losses: int, room: int) -> None:
        self.job = job_from({"workers": len(scripts), "transport": "tcp", **explicit})
        self.dice = random.Random(seed)
        self.now = 0.0
        self.moves = 0
        self.stopped = False
        self.room = room
        self.baton = held_lock()
        self.seed: bool | None = None
        """Whether the first values are on the servers; None before somebody has begun."""
        self.witness = Witness(self.job)
        self.witness.seen, self.witness.applied = [], []
        self._losses = losses
        self.shards = [GradientShard(rank) for rank in range(self.job.servers)]
        self.workers = [SimWorker(self, rank, script) for rank, script in enumerate(scripts)]
        self._news = [[self.view()] for _ in self.shards]
        self._pace = {key: 10 ** self.dice.uniform(-2, 0) for key in self._moves(everything=True)}
        for server in range(len(self.shards)):
            self._tell(server)

    def view(self) -> View:
        """Return the members as the scheduler tells them."""
        servers = [(1 + rank, "server", rank, True, "host, pid 1", ()) for rank in range(len(self.shards))]
        workers = [(w.member, "worker", w.rank, True, "host, pid 1", ()) for w in self.workers if not w.over]
        return View(1, "running", "", "", self.job.to_dict(), (*servers, *workers))

    # What may happen

    def run(self, most: int) -> None:
        """Let everything happen until all workers are done. Raises AssertionError after ``most`` moves."""
        try:
            while not all(worker.over for worker in self.workers):
                assert self.moves < most, f"no end after {most} moves and {self.now:.0f} s: {self._who_waits()}"
                self.moves += 1
                self._move()
        finally:
            self.stopped = True
            for worker in self.workers:
                while not worker.over:
                    worker.move()

    def _moves(self, *, everything: bool = False) -> list[tuple[str, int, int]]:
        """Return what can happen now without time passing: (what, worker's rank, server's rank)."""
        found = []
        for worker in self.workers:
            if everything or (not worker.over and worker.can_move()):
                found.append(("work", worker.rank, 0))
            for server, channel in enumerate(worker.channels):
                if everything or channel.up:
                    found.append(("serve", worker.rank, server))
                if everything or channel.down:
                    found.append(("bring", worker.rank, server))
        return found + [("tell", 0, server) for server, news in enumerate(self._news) if everything or news]

    def _move(self) -> None:
        found = self._moves()
        waiting = [worker for worker in self.workers if worker.deadline is not None and not worker.over]
        if waiting and (not found or self.dice.random() < 0.02):
            worker = min(waiting, key=lambda worker: worker.deadline)
            self.now = max(self.now, worker.deadline)
            worker.move()
            return
        assert found, f"nobody can move: {self._who_waits()}"
        what, rank, server = self.dice.choices(found, [self._pace[move] for move in found])[0]
        if what == "work":
            self._work(self.workers[rank])
        elif what == "serve":
            self._serve(self.workers[rank], server)
        elif what == "bring":
            letter = self.workers[rank].channels[server].bring()
            if self._loses():
                return
            self.workers[rank].channels[server].here.append(letter)
        else:
            self._tell(server)

    def _loses(self) -> bool:
        lost = self._losses > 0 and self.dice.random() < 0.05
        self._losses -= lost
        return lost

    def _work(self, worker: SimWorker) -> None:
        worker.move()
        if worker.over:
            for news in self._news:
                news.append(self.view())

    def _tell(self, server: int) -> None:
        self._perform(server, self.shards[server].view(self._news[server].pop(0), self.now))

    def _serve(self, worker: SimWorker, server: int) -> None:
        header, payload = worker.channels[server].up.popleft()
        if self._loses():
            return
        shard, message = self.shards[server], decode(header)
        assert message.payload == (payload is not None), f"{message!r} with a wrong number of frames"
        frame = None if payload is None else payload.tobytes()
        try:
            replies = shard.receive(b"%d" % worker.rank, message, frame, self.now)
        except BadMessage as error:
            raise AssertionError(f"server {server} refused {message!r}: {error}") from error
        if shard._progress is not None:
            shard._progress.updater = self.witness
        self._perform(server, replies)

    def _perform(self, server: int, replies: list[Any]) -> None:
        for reply in replies:
            self.workers[int(reply.to)].channels[server].say(reply)

    # What was seen

    def counted(self) -> Counter[tuple[int, int, int]]:
        """How often each (chunk, worker's rank, clock) was counted."""
        return Counter((chunk, rank, clock) for chunk, rank, clock, _ in self.witness.seen)

    def _who_waits(self) -> str:
        waiting = [worker for worker in self.workers if not worker.over]
        ranks = {w.rank: w.exchange.waiting_for if w.exchange else () for w in waiting}
        return "; ".join(f"worker {w.rank} waits for {w.about} (of workers {ranks[w.rank]})" for w in waiting)

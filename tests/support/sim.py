"""Sim: a whole job in one thread. Real SchedulerState and Shards, real conversations and exchanges of workers whose
scripts are planned, and a network that a seed decides.

A channel between two processes keeps its order, as ZeroMQ does; between channels anything may overtake. Requests
may be sent twice, messages between workers and servers may be lost with their connection, workers die, come late or
are interrupted, the scheduler restarts from what it saved. Invariants are checked as it goes; ``run`` fails when nobody
can move.
"""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ps.errors import BadMessage
from ps.protocol.messages import (
    Heartbeat,
    Hello,
    Init,
    Message,
    Placed,
    View,
    Welcome,
)
from ps.protocol.placement import unpacked
from ps.server.scheduler.registrar import Registrar
from ps.server.scheduler.state import SchedulerState
from ps.server.send import Send
from ps.server.shard.gradient_shard import GradientShard
from support.simchecks import check_bound, check_end
from support.simmail import Faults, Letter
from support.simprocess import SimProcess
from support.simspy import Log, Spy, Used
from support.simtrouble import trouble
from support.simworker import LAYOUT, Plan, SimWorker, describe

MAX_EVENTS = 60_000


class Sim:
    """One job."""

    worker_kind = SimWorker

    def __init__(
        self,
        explicit: dict[str, Any],
        plans: Sequence[Plan],
        seed: int,
        faults: Faults,
        window: int = 100,
        in_place: bool = False,
    ):
        """``in_place``: all share memory, in which the servers keep the weights and the workers read them."""
        self.random = random.Random(seed)
        self.explicit = {
            "chunk_size": 1024,
            "window": 1024 * window,
            "workers": len(plans),
            **explicit,
        }
        self.draw = itertools.count(1).__next__
        self.scheduler = SchedulerState(self.explicit, 0.0, Registrar(draw=self.draw))
        self.faults = faults
        self.home = np.zeros(LAYOUT.nbytes, np.uint8) if in_place else None
        self.reading: dict[int, dict[int, bytes]] = {}
        """What workers saw whose scripts look at the weights in place."""
        self.now = 1.0
        self.saved = ""
        self.cut = LAYOUT.chunks(self.explicit.get("servers", 1), self.explicit["chunk_size"])
        self.channels: dict[tuple[int, int], deque[Letter]] = {}
        self.shards: dict[int, GradientShard] = {}
        self.ranks = {rank + 1: rank for rank in range(self.explicit.get("servers", 1))}
        """Of servers, by their ids."""
        self.placed: dict[int, dict[int, int]] = {}
        """Member -> what it has heard of where chunks are."""
        self.epochs: dict[int, int] = {}
        self.workers: dict[int, SimWorker] = {}
        self.dead: set[int] = set()
        self.processes: dict[int, SimProcess] = {}
        self.log: Log = []
        self.used: Used = {}
        self.values: dict[tuple[int, int], bytes] = {}
        self.joins: list[Plan] = []
        self.plans = list(plans)
        self._seat_servers()
        for rank in range(len(plans)):
            self._hello("worker", rank)

    # Joining

    def _seat_servers(self) -> None:
        for rank in range(self.explicit.get("servers", 1)):
            self._hello("server", rank)
            self.shards[rank + 1] = GradientShard(rank)
            self.shards[rank + 1].weights_memory(self.home)

    def _hello(self, role: str, nonce: int) -> None:
        hello = Hello(0, 1000 * (role == "worker") + nonce, role, -1, "host", 1, "", (), {})
        member = self.scheduler._roster.next
        self._tell(self.scheduler.receive(hello, self.now), member)

    def join(self, plan: Plan) -> None:
        """A late worker comes."""
        self.plans.append(plan)
        self._hello("worker", 500 + len(self.plans))

    def _begin(self, member: int, view: View) -> None:
        """A worker knows that the job runs: its script starts."""
        rank = next(row[2] for row in view.members if row[0] == member)
        job = self.scheduler.job
        assert job is not None
        plan = self.plans[len(self.workers)]
        worker = self._made(self.worker_kind(member, rank, job, plan, lambda: self.epochs[member], self.home))
        self.workers[member] = worker
        self.processes[member] = SimProcess(
            worker, lambda to, letter: self._send(member, to, letter), lambda: check_bound(self, worker)
        )
        self._show(member, view)
        self.processes[member].begin()

    def _made(self, worker: SimWorker) -> SimWorker:
        """Return a new worker as it is to be."""
        return worker

    def _show(self, member: int, view: View) -> None:
        """A worker's process goes by another view of the servers."""
        servers = {row[2]: row[0] for row in view.members if row[1] == "server"}
        self.processes[member].view(servers, self.placed.get(member, {}))

    # The workers' side

    def _send(self, source: int, target: int, letter: Letter) -> None:
        self.channels.setdefault((source, target), deque()).append(letter)

    def _hear(self, member: int, source: int, letter: Letter) -> None:
        message = letter.message
        if isinstance(message, View):
            if message.epoch > self.epochs.get(member, -1):
                self.epochs[member] = message.epoch
                if message.phase == "running" and member not in self.workers:
                    self._begin(member, message)
                elif message.phase == "running" and member in self.processes:
                    self._show(member, message)
                    self._look(member)
            return
        if isinstance(message, Placed):
            self.placed[member] = unpacked(message.elsewhere)
            return
        process = self.processes.get(member)
        if process is None:
            return
        if letter.copy is not None:
            self._check_values(message, letter.copy)
        if source == 0:
            process.answer(message)
        else:
            self._answer(process, source, message, letter.copy if message.payload else None)
        self._look(member)

    def _answer(self, process: SimProcess, source: int, message: Message, payload: bytes | None) -> None:
        process.hear(self.ranks[source], message, payload)

    def _look(self, member: int) -> None:
        """A script has its weights: they are those of the versions that its worker knows."""
        process = self.processes[member]
        if not process.looking or member in self.reading:
            return
        seen = self._seen(process)
        for chunk, version in process.worker.part.versions.items():
            known = self.values.setdefault((chunk, version), seen[chunk])
            assert known == seen[chunk], f"chunk {chunk} is not of version {version}"
        if self.home is not None:
            self.reading[member] = seen
        else:
            process.looked()
            self._look(member)

    def _seen(self, process: SimProcess) -> dict[int, bytes]:
        return {c.index: process.worker.weights[c.offset : c.offset + c.nbytes].tobytes() for c in self.cut}

    def _read_again(self, member: int) -> None:
        """A script has looked at the weights for a while: nothing has moved under it."""
        seen, process = self.reading.pop(member), self.processes[member]
        if member not in self.dead:
            assert self._seen(process) == seen, f"weights changed under {describe(process.worker)}"
            process.looked()
            self._look(member)

    # The servers' and the scheduler's side

    def _serve(self, server: int, source: int, letter: Letter) -> None:
        shard = self.shards[server]
        if isinstance(letter.message, View):
            if letter.message.epoch > self.epochs.get(server, -1):
                self.epochs[server] = letter.message.epoch
                self._perform(server, self._show_server(server, letter.message))
            return
        if source == 0:
            return
        origin = str(source).encode()
        try:
            payload = None if letter.payload is None else letter.payload.tobytes()
            replies = self._take(server, origin, letter.message, payload)
        except BadMessage as error:
            raise AssertionError(f"server {server} refused {letter.message!r}: {error}") from error
        if isinstance(letter.message, Init):
            self._spy(shard)
        self._perform(server, replies)

    def _take(self, server: int, origin: bytes, message: Message, payload: bytes | None) -> list[Send]:
        return self.shards[server].receive(origin, message, payload, self.now)

    def _spy(self, shard: GradientShard) -> None:
        progress = shard._progress
        if progress is not None and not isinstance(progress.updater, Spy):
            progress.updater = Spy(shard.job)
            progress.updater.log, progress.updater.used = self.log, self.used

    def _show_server(self, server: int, view: View) -> list[Send]:
        return self.shards[server].view(view, self.now)

    def _perform(self, server: int, replies: list[Send]) -> None:
        for reply in replies:
            letter = Letter(reply.message, reply=reply)
            if reply.loan is not None:
                reply.loan.tracker = letter
                letter.copy = reply.loan.weights.tobytes()
                assert reply.loan.stay == (self.home is not None)
                letter.sent = reply.loan.stay  # it is in the worker's memory
            self._send(server, int(reply.to), letter)

    def _schedule(self, source: int, message: Message) -> None:
        self._tell(self.scheduler.receive(message, self.now), source)

    def _tell(self, sends: Sequence[Send], source: int) -> None:
        if self.scheduler.changed:
            self.saved = json.dumps(self.scheduler.dump())
            self.scheduler.changed = False
        for send in sends:
            if not isinstance(send.message, Welcome):
                self._send(0, send.to or source, Letter(send.message))

    # Events

    def run(self) -> None:
        """Let everything happen until all live workers are done. Raises AssertionError when they cannot be."""
        idle = answered = 0
        for _ in range(MAX_EVENTS):
            if self._over():
                break
            self.now += 0.001
            full = [key for key, letters in self.channels.items() if letters]
            if full and self.random.random() < 0.03 and self._trouble(full):
                continue
            if self.reading and (not full or self.random.random() < 0.05):
                self._read_again(self.random.choice(sorted(self.reading)))
                continue
            if full:
                self._deliver(self.random.choice(full))
                continue
            known, answered = answered, sum(process.answered for process in self.processes.values())
            idle = 0 if answered > known else idle + 1
            assert idle < 6, f"nobody can move: {self._who_hangs()}"
            self._look_after()
        else:
            raise AssertionError(f"no end after {MAX_EVENTS} events: {self._who_hangs()}")
        for _ in range(4):
            self._drain()
            self._look_after()
        self._drain()
        if not self.is_lost:
            self._check_end()

    def _over(self) -> bool:
        return len(self.workers) == len(self.plans) and all(
            w.finished or m in self.dead for m, w in self.workers.items()
        )

    def _drain(self) -> None:
        while full := [key for key, letters in self.channels.items() if letters]:
            self._deliver(full[0])

    def _deliver(self, key: tuple[int, int]) -> None:
        source, target = key
        letter = self.channels[key].popleft()
        if letter.reply is not None and letter.reply.loan is not None:
            lent = letter.reply.loan.weights.tobytes()
            assert letter.sent or lent == letter.copy, f"{letter.message!r}: the weights changed while they were lent"
            letter.sent = True
        if target in self.dead:
            return
        if target == 0:
            self._schedule(source, letter.message)
        elif target in self._servers():
            self._serve(target, source, letter)
        else:
            self._hear(target, source, letter)

    def _trouble(self, full: list[tuple[int, int]]) -> bool:
        """Let one thing go wrong, if any may; return whether one did."""
        return trouble(self, full)

    def _change_servers(self, kind: str) -> bool:
        """Have a server come or go; return whether one does."""
        return False

    @property
    def is_lost(self) -> bool:
        """Whether the job has failed for want of a server."""
        return False

    def _restart(self) -> None:
        for key in [key for key in self.channels if key[0] == 0]:
            self.channels[key].clear()
        self.scheduler = SchedulerState.load(json.loads(self.saved), self.now, draw=self.draw)

    def _look_after(self) -> None:
        """What time brings: heartbeats, deaths found out, questions after lost requests."""
        for _ in range(3):  # beats of less than half the time-out: else the scheduler thinks that it stood still itself
            self.now += 4.0
            for member in [*self._servers(), *(record.member for record in self.scheduler.live("worker"))]:
                if member not in self.dead:
                    self._schedule(member, Heartbeat(member, self.epochs.get(member, 0), {}))
            self._tell(self.scheduler.tick(self.now), 0)
        for member, process in self.processes.items():
            if member not in self.dead:
                process.look_after()

    def _servers(self) -> list[int]:
        """The server processes."""
        return list(self.shards)

    def _who_hangs(self) -> Any:
        hanging = {m: describe(w) for m, w in self.workers.items() if not w.finished and m not in self.dead}
        return hanging, {member: self.processes[member].waits_for() for member in hanging}

    # Invariants

    def _check_values(self, message: Message, copy: bytes) -> None:
        key = (message.chunk, message.version)  # type: ignore[attr-defined]
        assert self.values.setdefault(key, copy) == copy, f"two contents of chunk and version {key}"

    def _done(self, member: int) -> int:
        """Clocks of which every chunk has this worker's contribution."""
        return min(chunk.done.get(member, 0) for shard in self.shards.values() for chunk in shard.chunks.values())

    def applied(self) -> Counter[tuple[int, int, int]]:
        """How often each (chunk, member, clock) was counted."""
        return Counter((index, member, clock) for index, entry in self.log for member, _, clock, _ in entry)

    def _is_kept(self) -> bool:
        """Whether the last worker was killed, and may come back: the model is kept for a while."""
        last = self.scheduler._roster.last("worker")
        return last is not None and last.member in self.dead and self.scheduler.phase == "running"

    def _check_end(self) -> None:
        check_end(self)

    def _holders(self) -> Iterable[GradientShard]:
        """Return who has the chunks."""
        return self.shards.values()

    def weights(self) -> bytes:
        """All weights, chunk by chunk."""
        chunks = {c.chunk.index: c for shard in self._holders() for c in shard.chunks.values()}
        assert sorted(chunks) == [c.index for c in self.cut]
        return b"".join(chunks[index].weights.tobytes() for index in sorted(chunks))

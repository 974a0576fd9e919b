"""Sim: a whole job in one thread. Real SchedulerState and Shards, SimWorkers, and a network that a seed decides.

A channel between two processes keeps its order, as ZeroMQ does; between channels anything may overtake. Requests
may be sent twice, messages between workers and servers may be lost with their connection, workers die or come late,
the scheduler restarts from what it saved. Invariants are checked as it goes; ``run`` fails when nobody can move.
"""

from __future__ import annotations

import json
import random
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from simmail import Faults, Letter
from simspy import Log, Spy, Used
from simworker import LAYOUT, SCHEDULER, Plan, SimWorker, describe

from ps.errors import BadMessage
from ps.protocol.messages import (
    Error,
    Heartbeat,
    Hello,
    Init,
    Inquire,
    Late,
    Message,
    Pushed,
    View,
    Waiting,
    Weights,
    Welcome,
)
from ps.server.scheduler.state import SchedulerState
from ps.server.send import Send
from ps.server.shard.gradient_shard import GradientShard

MAX_EVENTS = 60_000


class Sim:
    """One job."""

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
        self.explicit = {"chunk_size": 1024, "window": 1024, "workers": len(plans), **explicit}
        self.scheduler = SchedulerState(self.explicit, 0.0)
        self.faults = faults
        self.window = window
        self.home = np.zeros(LAYOUT.nbytes, np.uint8) if in_place else None
        self.reading: dict[int, tuple[list[Any], dict[int, bytes]]] = {}
        """Workers whose scripts look at the weights in place: what they were answered, and what they saw then."""
        self.now = 1.0
        self.saved = ""
        self.cut = LAYOUT.chunks(self.explicit.get("servers", 1), self.explicit["chunk_size"])
        self.channels: dict[tuple[int, int], deque[Letter]] = {}
        self.shards: dict[int, GradientShard] = {}
        self.epochs: dict[int, int] = {}
        self.workers: dict[int, SimWorker] = {}
        self.dead: set[int] = set()
        self.lives: dict[int, Any] = {}
        self.queue: dict[int, dict[int, deque[tuple[int, Message, bytes | None]]]] = {}
        self.flying: dict[int, dict[int, tuple[int, Message, bytes | None]]] = {}
        self.answers: dict[int, dict[int, tuple[Message, bytes | None]]] = {}
        self.order: dict[int, list[int]] = {}
        self.numbers: Counter[int] = Counter()
        self.log: Log = []
        self.used: Used = {}
        self.values: dict[tuple[int, int], bytes] = {}
        self.joins: list[Plan] = []
        self.plans = list(plans)
        self.answered = 0
        for rank in range(self.explicit.get("servers", 1)):
            self._hello("server", rank)
            self.shards[rank + 1] = GradientShard(rank)
            self.shards[rank + 1].weights_memory(self.home)
        for rank in range(len(plans)):
            self._hello("worker", rank)

    # Joining

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
        worker = SimWorker(
            member,
            rank,
            job,
            self.plans[len(self.workers)],
            lambda: self.epochs[member],
            in_place=self.home is not None,
        )
        self.workers[member] = worker
        self.queue[member] = {to: deque() for to in range(-1, job.servers)}
        self.flying[member], self.answers[member] = {}, {}
        self.lives[member] = worker.life()
        self._ask(member, next(self.lives[member]))

    # The workers' side

    def _ask(self, member: int, asks: list[Any]) -> None:
        self.order[member] = []
        for ask in asks:
            self.numbers[member] += 1
            number = self.numbers[member]
            self.order[member].append(number)
            self.queue[member][ask.to].append((number, ask.make(number), ask.payload))
        self._flow(member)

    def _flow(self, member: int) -> None:
        for to, waiting in self.queue[member].items():
            while waiting and sum(t == to for t, _, _ in self.flying[member].values()) < self.window:
                number, message, payload = waiting.popleft()
                self.flying[member][number] = (to, message, payload)
                self._send(member, 0 if to == SCHEDULER else to + 1, Letter(message, payload))

    def _send(self, source: int, target: int, letter: Letter) -> None:
        self.channels.setdefault((source, target), deque()).append(letter)

    def _hear(self, member: int, letter: Letter) -> None:
        message = letter.message
        if isinstance(message, View):
            if message.epoch > self.epochs.get(member, -1):
                self.epochs[member] = message.epoch
                if message.phase == "running" and member not in self.workers:
                    self._begin(member, message)
            return
        if isinstance(message, Waiting):
            for number in message.unknown:
                if number in self.flying[member]:
                    to, again, payload = self.flying[member][number]
                    self._send(member, to + 1, Letter(again, payload))
            return
        number = getattr(message, "request", 0)
        if number not in self.flying.get(member, {}):
            return
        assert not isinstance(message, Error), f"worker {member}: {message!r} to {self.flying[member][number]}"
        del self.flying[member][number]
        self.answered += 1
        self.answers[member][number] = (message, letter.copy)
        if letter.copy is not None:
            self._check_values(message, letter.copy)
        if isinstance(message, Pushed | Weights):
            self.workers[member].rates.hear(message.rates)
        self._flow(member)
        if not self.flying[member] and not any(self.queue[member].values()):
            answers = [self.answers[member].pop(number) for number in self.order[member]]
            late = any(isinstance(message, Late) for message, _ in answers)
            if self.home is not None and self.workers[member].last and not late:
                self.reading[member] = answers, self._seen(answers)
            else:
                self._go_on(member, answers)

    def _go_on(self, member: int, answers: list[Any]) -> None:
        try:
            asks = self.lives[member].send(answers)
        except StopIteration:
            return
        self._check_bound(self.workers[member])
        self._ask(member, asks)

    def _seen(self, answers: list[Any]) -> dict[int, bytes]:
        """Return the weights in place as a worker sees them, which must be those of the versions it was told."""
        assert self.home is not None
        seen = {c.index: self.home[c.offset : c.offset + c.nbytes].tobytes() for c in self.cut}
        for message, _ in answers:
            if isinstance(message, Pushed | Weights):
                self._check_values(message, seen[message.chunk])
        return seen

    def _read_again(self, member: int) -> None:
        """A script has looked at the weights for a while: nothing has moved under it."""
        answers, seen = self.reading.pop(member)
        if member not in self.dead:
            assert self._seen([]) == seen, f"weights changed under {describe(self.workers[member])}"
            self._go_on(member, answers)

    # The servers' and the scheduler's side

    def _serve(self, server: int, source: int, letter: Letter) -> None:
        shard = self.shards[server]
        if isinstance(letter.message, View):
            if letter.message.epoch > self.epochs.get(server, -1):
                self.epochs[server] = letter.message.epoch
                self._perform(server, shard.view(letter.message, self.now))
            return
        if source == 0:
            return
        origin = str(source).encode()
        try:
            replies = shard.receive(origin, letter.message, letter.payload, self.now)
        except BadMessage as error:
            raise AssertionError(f"server {server} refused {letter.message!r}: {error}") from error
        if isinstance(letter.message, Init):
            progress = shard._progress
            if progress is not None and not isinstance(progress.updater, Spy):
                progress.updater = Spy(shard.job)
                progress.updater.log, progress.updater.used = self.log, self.used
        self._perform(server, replies)

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
            idle, answered = (0 if self.answered > answered else idle + 1), self.answered
            assert idle < 6, f"nobody can move: {self._who_hangs()}"
            self._look_after()
        else:
            raise AssertionError(f"no end after {MAX_EVENTS} events: {self._who_hangs()}")
        for _ in range(4):
            self._drain()
            self._look_after()
        self._drain()
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
        elif target in self.shards:
            self._serve(target, source, letter)
        else:
            self._hear(target, letter)

    def _trouble(self, full: list[tuple[int, int]]) -> bool:
        """Let one thing go wrong, if any may; return whether one did."""
        faults, dice = self.faults, self.random
        alive = [m for m in self.workers if m not in self.dead and not self.workers[m].finished]
        kinds = [kind for kind, left in vars(faults).items() if left > 0]
        if not kinds or not alive:
            return False
        kind = dice.choice(kinds)
        member = dice.choice(alive)
        if kind == "repeats":
            if not self.flying[member]:
                return False
            to, message, payload = self.flying[member][dice.choice(sorted(self.flying[member]))]
            self._send(member, to + 1, Letter(message, payload))
        elif kind == "losses":
            lossy = [key for key in full if 0 not in key]
            if not lossy:
                return False
            self._lose(dice.choice(lossy))
            for worker in self.workers.values():
                worker.undisturbed = False
        elif kind == "deaths":
            if len(alive) < 2:
                return False
            self.dead.add(member)
        elif kind == "joins":
            if self.scheduler.over:
                return False
            self.join(self.joins.pop())
        else:
            self._restart()
        setattr(faults, kind, getattr(faults, kind) - 1)
        return True

    def _lose(self, key: tuple[int, int]) -> None:
        for letter in self.channels[key]:
            letter.sent = True
        self.channels[key].clear()

    def _restart(self) -> None:
        for key in [key for key in self.channels if key[0] == 0]:
            self.channels[key].clear()
        self.scheduler = SchedulerState.load(json.loads(self.saved), self.now)

    def _look_after(self) -> None:
        """What time brings: heartbeats, deaths found out, questions after lost requests."""
        for _ in range(3):  # beats of less than half the time-out: else the scheduler thinks that it stood still itself
            self.now += 4.0
            for member in [*self.shards, *(record.member for record in self.scheduler.live("worker"))]:
                if member not in self.dead:
                    self._schedule(member, Heartbeat(member, self.epochs.get(member, 0), {}))
            self._tell(self.scheduler.tick(self.now), 0)
        for member, flying in self.flying.items():
            if member in self.dead:
                continue
            for to in {to for to, _, _ in flying.values()}:
                lost = tuple(number for number, (t, _, _) in flying.items() if t == to)
                if to == SCHEDULER:
                    self._send(member, 0, Letter(flying[lost[0]][1]))
                else:
                    self._send(member, to + 1, Letter(Inquire(0, member, lost)))

    def _who_hangs(self) -> Any:
        hanging = {m: describe(w) for m, w in self.workers.items() if not w.finished and m not in self.dead}
        return hanging, {
            m: [message for _, message, _ in f.values()][:3] for m, f in self.flying.items() if m in hanging
        }

    # Invariants

    def _check_values(self, message: Message, copy: bytes) -> None:
        key = (message.chunk, message.version)  # type: ignore[attr-defined]
        assert self.values.setdefault(key, copy) == copy, f"two contents of chunk and version {key}"

    def _check_bound(self, worker: SimWorker) -> None:
        """SSP: whoever begins a clock is at most ``staleness`` ahead of all that take part."""
        if self.explicit.get("mode") != "ssp" or not worker.taking_part or not worker.steps:
            return
        for member, other in self.workers.items():
            if member not in self.dead and other.taking_part:
                ahead = worker.steps[-1] - max(other.clock, self._done(member))
                assert ahead <= worker.job.staleness, f"{describe(worker)} is {ahead} ahead of {describe(other)}"

    def _done(self, member: int) -> int:
        """Clocks of which every chunk has this worker's contribution."""
        return min(chunk.done.get(member, 0) for shard in self.shards.values() for chunk in shard.chunks.values())

    def applied(self) -> Counter[tuple[int, int, int]]:
        """How often each (chunk, member, clock) was counted."""
        return Counter((index, member, clock) for index, entry in self.log for member, _, clock, _ in entry)

    def _check_end(self) -> None:
        applied = self.applied()
        assert not [key for key, count in applied.items() if count > 1], "counted twice"
        for member, worker in self.workers.items():
            for index, clock, _ in worker.acknowledged:
                assert applied[index, member, clock] == 1 or self._lost_with_all(member), "acknowledged, not counted"
        for index, entry in self.log:
            if self.explicit.get("mode", "sync") == "sync":
                assert len({clock for _, _, clock, _ in entry}) == 1
                ranks = [(rank, member) for member, rank, _, _ in entry]
                assert ranks == sorted(ranks), f"chunk {index} was not added in rank order"
        if not self.explicit.get("backup_workers") or all(worker.undisturbed for worker in self.workers.values()):
            torn = {step: rates for step, rates in self.used.items() if len(rates) > 1}
            assert len(torn) <= len(self.dead), f"parts of the model were trained with different rates: {torn}"
        for shard in self.shards.values():
            for chunk in shard.chunks.values():
                gone = set(self.workers) - set(shard.participants)
                tables = (chunk.done, chunk.holds)
                assert not any(gone & table.keys() for table in tables), "remembers the gone"
                assert not chunk.waiters and not chunk.pending and chunk.combined is None, "somebody was forgotten"
                assert len(chunk.loans) < 100
        assert self.scheduler.phase == "ended", (self.scheduler.phase, self.scheduler.reason)

    def _lost_with_all(self, member: int) -> bool:
        return member in self.dead

    def weights(self) -> bytes:
        """All weights, chunk by chunk."""
        chunks = {c.chunk.index: c for shard in self.shards.values() for c in shard.chunks.values()}
        assert sorted(chunks) == [c.index for c in LAYOUT.chunks(len(self.shards), 1024)]
        return b"".join(chunks[index].weights.tobytes() for index in sorted(chunks))

"""Rounds: the scheduler's part of a federated job as a state machine. Messages and the time in, messages out.

A round goes from ``select`` (who takes part) to ``collect`` (their contributions come), ``close`` (the servers combine
them) and ``publish`` (all servers make the new version theirs). All of it outlives the process: what was decided is
saved before it is said, and what servers and clients know they say again.
"""

from __future__ import annotations

import logging
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ps.algorithms import AlgorithmSpec
from ps.config.job import JobConfig
from ps.errors import BadMessage, UsageError
from ps.protocol.layout import Layout
from ps.protocol.messages import (
    Assign,
    Decline,
    Distances,
    Finished,
    Message,
    Ok,
    Order,
    Poll,
    Standing,
    Submit,
    Submitted,
    Wait,
)
from ps.rules import RuleSpec
from ps.server.federated.history import entry
from ps.server.federated.ledger import Ledger
from ps.server.federated.pace import CROWD, Pace
from ps.server.federated.task import ACCEPTED, OPEN, SUBMITTED, Task
from ps.server.federated.usual import KNOWN, Usual
from ps.server.federated.verdict import judge

log = logging.getLogger("ps.scheduler")

WINDOW = 1.0
"""Seconds for which a selection waits for more clients once enough are there."""
RESUME = "resume"
"""The verdict that is none: upload again what a server has lost, and submit again."""
MOST_FAILED = 100
"""Attempts at one round before the job is given up."""

Out = tuple[int, Message]
"""(member, message)."""


class Rounds:
    """Selects clients, judges what they contribute, and brings the servers from version to version.

    ``clients`` returns how many clients are live; ``server`` the member id of a server by rank, 0 when it is gone.
    """

    def __init__(
        self,
        job: JobConfig,
        layout: Layout,
        now: float,
        *,
        clients: Callable[[], int],
        server: Callable[[int], int],
    ) -> None:
        self.job = job
        self.phase = "select"
        self.history: list[dict[str, Any]] = []
        self.refused: Counter[str] = Counter()
        self.capped = 0
        self.abandoned = 0
        self.changed = True
        self.failure = ""
        """Why the job cannot go on, if it cannot."""
        self._clients = clients
        self._server = server
        self._algorithm = AlgorithmSpec.parse(job.algorithm).build()
        self._rule = RuleSpec.parse(job.aggregator if job.aggregator != "auto" else self._algorithm.aggregator).build()
        chunks = layout.chunks(job.servers, job.chunk_bytes)
        self._owners = frozenset(chunk.server for chunk in chunks)
        self._ledger = Ledger(job.servers)
        self._pace = Pace(job.round_deadline)
        self._usual = Usual()
        self._tasks: dict[int, Task] = {}
        self._active: set[int] = set()
        self._ready: set[int] = set()
        """Submitted, and with all servers: only the verdict is missing."""
        self._by_rank: dict[int, int] = {}
        """Client -> its active task."""
        self._parked: dict[int, tuple[int, int]] = {}
        """Member -> (request, rank) of a Poll that waits for the selection."""
        self._next = 1
        self._origin = now
        self._since = now
        self._deadline = math.inf
        self._distances: dict[int, np.ndarray[Any, Any]] = {}
        self._round_refused: Counter[str] = Counter()
        self._failed = 0
        """Attempts at this round that were abandoned."""

    # Looking

    @property
    def version(self) -> int:
        """How many rounds are published."""
        return self._ledger.version

    @property
    def asynchronous(self) -> bool:
        """Whether clients are assigned whenever one is free (FedBuff)."""
        return self._algorithm.buffer > 0

    @property
    def goal(self) -> int:
        """The contributions that close a round."""
        if self.asynchronous:
            return self._algorithm.buffer
        return max(1, min(self.job.goal, self._clients()))

    def status(self) -> dict[str, Any]:
        """Return what ``psctl status`` shows of the rounds."""
        return {
            "algorithm": self.job.algorithm,
            "phase": self.phase,
            "round": self.version,
            "rounds": self.job.rounds,
            "attempt": self._ledger.attempt,
            "goal": self.goal,
            "accepted": self._ledger.counted,
            "active": len(self._active),
            "waiting": len(self._parked),
            "deadline_s": round(self._pace.deadline(), 3),
            "refused": dict(self.refused),
            "capped": self.capped,
            "abandoned": self.abandoned,
            "history": self.history[-1000:],
        }

    def wake(self, now: float) -> float | None:
        """Return when ``tick`` has something to do although nothing comes in, if ever."""
        if self.phase == "select" and self._parked and now < self._since + WINDOW:
            return self._since + WINDOW
        return self._deadline if self.phase == "collect" and self._deadline < math.inf else None

    # Clients

    def poll(self, message: Poll, rank: int, now: float) -> Iterator[Out]:
        """A client offers itself."""
        if self.phase == "done":
            yield message.member, Finished(message.request, self.version)
            return
        task = self._active_task(rank)
        if task is not None:
            if task.state == OPEN and not self._expired(task):
                task.member = message.member
                yield message.member, self._assignment(task, message.request, now)
            else:  # its contribution is being judged; a client that was restarted has nobody who waits for that
                yield message.member, Wait(message.request, self.version, self._wait(now))
            return
        self._parked.pop(message.member, None)
        self._parked[message.member] = (message.request, rank)
        yield from self._assign(now)

    def submit(self, message: Submit, rank: int, now: float) -> Iterator[Out]:
        """A client has uploaded all of its delta."""
        task = self._tasks.get(message.task)
        if task is None or task.rank != rank:
            self.refused["late" if message.task < self._next else "unknown"] += 1
            yield message.member, Submitted(message.request, message.task, "late")
            return
        task.member = message.member
        if task.state == OPEN:
            task.state, task.version = SUBMITTED, message.version
            task.examples, task.steps, task.report = message.examples, message.steps, dict(message.report)
            self._pace.tasks.append(now - task.began)
            self._consider(task)
            self.changed = True
        elif task.state != SUBMITTED:  # the answer was lost, or it was given up meanwhile
            yield message.member, Submitted(message.request, task.number, task.state)
            return
        task.request = message.request
        yield from self._decide_all(now)

    def decline(self, message: Decline, rank: int, now: float) -> Iterator[Out]:
        """A client gives its task back."""
        task = self._tasks.get(message.task)
        if task is not None and task.rank == rank and task.state == OPEN:
            self._refuse(task, "declined")
        yield message.member, Ok(message.request)
        yield from self._go_on(now)

    def client_lost(self, member: int, now: float) -> Iterator[Out]:
        """A client is gone; what it has submitted still counts."""
        self._parked.pop(member, None)
        for task in [self._tasks[number] for number in self._active]:
            if task.member == member and task.state == OPEN:
                self._refuse(task, "vanished")
        yield from self._go_on(now)

    # Servers

    def standing(self, message: Standing, server: int, now: float) -> Iterator[Out]:
        """A server says how far it is."""
        ledger = self._ledger
        if message.version not in (ledger.version, ledger.version + 1) or message.phase == "empty":
            self.failure = f"server {server} has come back without its part of the model; give servers a --state file"
            return
        before = ledger.told[server].standing
        ledger.heard(server, message)
        here = (message.version, message.attempt) == (ledger.version, ledger.attempt)
        went_back = before is not None and here and message.folded < before.folded and message.phase != "prepared"
        if here and (message.phase == "broken" or went_back) and self.phase != "publish":
            self._abandon(now, f"server {server} has lost contributions")
        for number, squares, wrong in message.staged:
            self._note(server, number, squares, wrong)
        yield from self._decide_all(now)

    def distances(self, message: Distances, server: int, payload: Any, now: float) -> Iterator[Out]:
        """A server has measured how far its contributions are apart."""
        count = self._ledger.counted
        if self._ledger.phase != "measure" or (message.attempt, message.count) != (self._ledger.attempt, count):
            return
        if memoryview(payload).nbytes != 8 * count * count:
            raise BadMessage(f"distances of {count} contributions have {8 * count * count} bytes")
        self._distances[server] = np.frombuffer(payload, np.float64).reshape(count, count).copy()
        yield from self._go_on(now)

    def server_lost(self, server: int, now: float) -> Iterator[Out]:
        """A server is gone. It comes back with what it had on disk, or not at all."""
        told = self._ledger.told[server].standing
        if told is None or not told.durable:
            self.failure = f"server {server} is gone and kept nothing on disk"
            return
        self._ledger.lost(server)
        if self.phase in ("collect", "close"):
            self._abandon(now, f"server {server} is gone")
        for number in sorted(self._active):
            task = self._tasks[number]
            task.shares.pop(server, None)
            if task.state == SUBMITTED:  # the client still has what the server has lost
                task.state = OPEN
                self._ready.discard(number)
                yield task.member, Submitted(task.request, number, RESUME)
        yield from self._go_on(now)

    # The time

    def tick(self, now: float) -> Iterator[Out]:
        """Look at the deadlines, and say again what servers have not done."""
        yield from self._go_on(now)

    # Inside: selection

    def _assign(self, now: float) -> Iterator[Out]:
        """Answer the Polls that can be answered."""
        if self._parked:
            for member in self._draw(self._wanted(now)):
                if self.phase == "select":
                    self._collect(now)
                request, rank = self._parked.pop(member)
                yield member, self._assignment(self._task(member, rank, now), request, now)
        if self.phase != "select" and not (self.asynchronous and len(self._parked) <= CROWD * self.job.goal):
            for member, (request, _) in self._parked.items():
                yield member, Wait(request, self.version, self._wait(now))
            self._parked.clear()

    def _wanted(self, now: float) -> int:
        """Return how many of those that wait are to take part now."""
        if self.phase == "done":
            return 0
        if self.asynchronous:
            return self.job.goal - len(self._active)
        if self.phase == "collect":  # in the place of those that declined or are gone
            return self.goal - self._ledger.counted - len(self._active) if now < self._deadline else 0
        if self.phase != "select":
            return 0
        clients, here = max(1, self._clients()), len(self._parked)
        if here < self.job.quorum or (here < clients - len(self._active) and now - self._since < WINDOW):
            return 0
        if self._algorithm.everyone:
            return here
        return math.ceil(self.job.over_select * self.goal) - len(self._active)

    def _collect(self, now: float) -> None:
        self.phase, self._since, self.changed = "collect", now, True
        self._deadline = math.inf if self.asynchronous else now + self._pace.deadline()

    def _draw(self, count: int) -> list[int]:
        """Return members to take part, drawn from those that wait: the same for the same seed and clients."""
        if count < 1:
            return []
        busy = {task.rank for task in self._tasks.values()}
        free = sorted((rank, member) for member, (_, rank) in self._parked.items() if self._may(rank, busy))
        chance = random.Random(f"{self.job.seed}/{self._ledger.attempt}/{self._next}")
        return [member for _, member in sorted(chance.sample(free, min(count, len(free))))]

    def _may(self, rank: int, busy: set[int]) -> bool:
        """Whether a client may take part once more before the next version."""
        return self.asynchronous or rank not in busy

    def _task(self, member: int, rank: int, now: float) -> Task:
        every = self.job.eval_every
        evaluate = every > 0 and (self.version % every == 0 or self.version == self.job.rounds - 1)
        task = Task(self._next, member, rank, self.version, now, evaluate)
        self._tasks[task.number], self._by_rank[rank] = task, task.number
        self._active.add(task.number)
        self._next += 1
        self.changed = True
        return task

    def _assignment(self, task: Task, request: int, now: float) -> Assign:
        left = self._deadline - now if self._deadline < math.inf else self._pace.deadline()
        return Assign(request, task.number, task.round, max(0.0, left), task.evaluate)

    def _active_task(self, rank: int) -> Task | None:
        task = self._tasks.get(self._by_rank.get(rank, 0))
        return task if task is not None and task.active else None

    def _expired(self, task: Task) -> bool:
        return task.number < self._ledger.floor

    def _wait(self, now: float) -> float:
        return self._pace.wait(now - self._since, self._clients(), self.goal)

    # Inside: contributions

    def _note(self, server: int, number: int, squares: float, wrong: str) -> None:
        task = self._tasks.get(number)
        if task is not None and task.active:
            task.shares[server] = squares
            task.wrong = task.wrong or wrong
            self._consider(task)
        elif number >= self._ledger.floor and number not in self._ledger.settled:
            self._ledger.enter(number)  # nobody's, or given up: it is not to be kept
            self.changed = True

    def _consider(self, task: Task) -> None:
        if task.state == SUBMITTED and self._owners <= task.shares.keys():
            self._ready.add(task.number)

    def _decide_all(self, now: float) -> Iterator[Out]:
        if self.phase == "collect" and self._ready and self._usual_enough():
            for number in sorted(self._ready):
                if self._ledger.counted >= self.goal:
                    break
                yield from self._decide(self._tasks[number])
        yield from self._go_on(now)

    def _usual_enough(self) -> bool:
        """Whether it is known what is usual, or nothing more will come from which it could be."""
        if self._usual.known:
            return True
        sound = [self._tasks[number] for number in sorted(self._ready) if not self._tasks[number].wrong]
        if len(self._usual.norms) + sum(not task.seen for task in sound) < KNOWN and self._active - self._ready:
            return False
        for task in sound:
            self._see(task)
        return True

    def _see(self, task: Task) -> None:
        if math.isfinite(task.examples) and not (task.seen or task.wrong):
            self._usual.see(math.sqrt(task.norm_squared), task.examples)
            task.seen = True

    def _decide(self, task: Task) -> Iterator[Out]:
        self._see(task)
        found = judge(task, self.version, self.job, self._algorithm, self._rule, self._usual)
        self.capped += found.capped
        self._ledger.enter(task.number, found.weight, found.scale, found.bound)
        if found.verdict == ACCEPTED:
            task.state = ACCEPTED
            self._end(task)
        else:
            self._refuse(task, found.verdict)
        yield task.member, Submitted(task.request, task.number, task.state)

    def _refuse(self, task: Task, why: str) -> None:
        task.state = why
        self.refused[why] += 1
        self._round_refused[why] += 1
        self._end(task)

    def _end(self, task: Task) -> None:
        self._active.discard(task.number)
        self._ready.discard(task.number)
        self.changed = True

    # Inside: from phase to phase

    def _go_on(self, now: float) -> Iterator[Out]:
        """Take every step that is due, and tell the servers what they are to do."""
        while True:
            before = self.phase, self._ledger.attempt, self._ledger.phase
            if self.phase == "collect":
                self._look_at_collection(now)
            if self.phase == "close":
                self._look_at_servers(now)
            if self.phase == "publish" and self._ledger.published:
                yield from self._published(now)
            if before == (self.phase, self._ledger.attempt, self._ledger.phase):
                break
        yield from self._assign(now)
        yield from self._orders(now)

    def _orders(self, now: float) -> Iterator[Out]:
        for server in range(self.job.servers):
            member = self._server(server)
            order: Order | None = self._ledger.order(server, now) if member else None
            if order is not None:
                yield member, order

    def _look_at_collection(self, now: float) -> None:
        accepted, late = self._ledger.counted, now >= self._deadline
        over = late or not (self._active or self.asynchronous or self._replaceable)
        if accepted >= self.goal or (over and accepted >= self.job.quorum and not self.asynchronous):
            self._close()
        elif over:
            self._abandon(now, f"{accepted} contributions came, and at least {self.job.quorum} are needed")

    @property
    def _replaceable(self) -> bool:
        """Whether there are clients that had no task in this attempt yet."""
        return self._clients() > len({task.rank for task in self._tasks.values()})

    def _close(self) -> None:
        mine = [(self._tasks[number], weight) for number, weight, _, _ in self._ledger.entries if weight > 0]
        self._ledger.factor = self._algorithm.factor([weight for _, weight in mine], [task.steps for task, _ in mine])
        self._ledger.share = len(mine) / self.job.workers
        self._distances.clear()
        self.phase, self._ledger.phase = "close", "measure" if self._rule.kind == "weigh" else "prepare"
        self.changed = True

    def _look_at_servers(self, now: float) -> None:
        if self._ledger.phase == "measure" and self._distances.keys() >= self._owners:
            assert self._rule.kind == "weigh"
            total = sum(self._distances[server] for server in sorted(self._owners))
            try:
                self._ledger.weights = tuple(float(weight) for weight in self._rule.weights(np.asarray(total)))
            except UsageError as error:
                self._abandon(now, str(error))
                return
            self._ledger.phase = "prepare"
            self.changed = True
        if self._ledger.phase == "prepare" and self._ledger.all_are("prepared"):
            self.phase = self._ledger.phase = "publish"
            self.changed = True

    def _published(self, now: float) -> Iterator[Out]:
        """Close the books of a round and go on with the next."""
        keep = (self.asynchronous or self.job.late != "drop") and self.version + 1 < self.job.rounds
        over = [task for task in self._tasks.values() if not (keep and task.active and not self._too_old(task))]
        for task in over:
            if task.active:
                yield from self._give_up(task)
        self._failed = 0
        seconds = now - self._since
        done = entry(
            self.version, self._ledger.attempt, now - self._origin, seconds, self._of_round(over), self._round_refused
        )
        self.history.append(done)
        self._pace.rounds.append(seconds)
        self._round_refused.clear()
        self._forget(over)
        self._ledger.publish(min(self._tasks, default=self._next))
        self.phase, self._since, self._deadline = "select", now, math.inf
        if self.version >= self.job.rounds:
            self.phase = "done"
            for member, (request, _) in self._parked.items():
                yield member, Finished(request, self.version)
            self._parked.clear()
        elif self.asynchronous:
            self._collect(now)  # those that train go on, whatever version they began with
        self.changed = True

    def _of_round(self, over: Iterable[Task]) -> Iterable[Task]:
        return [task for task in over if task.state == ACCEPTED or task.round == self.version or not self.asynchronous]

    def _too_old(self, task: Task) -> bool:
        return self.version + 1 - task.round > self.job.max_staleness

    def _give_up(self, task: Task) -> Iterator[Out]:
        """End a task whose contribution comes too late, or never."""
        waits = task.state == SUBMITTED
        self._refuse(task, "late" if waits else "unfinished")
        if waits:
            yield task.member, Submitted(task.request, task.number, "late")

    def _forget(self, tasks: Iterable[Task]) -> None:
        for task in tasks:
            self._tasks.pop(task.number, None)
            self._end(task)
            if self._by_rank.get(task.rank) == task.number:
                del self._by_rank[task.rank]

    def _abandon(self, now: float, why: str) -> None:
        """Give an attempt up on all servers alike and begin the round anew."""
        log.warning("round %d, attempt %d is abandoned: %s", self.version, self._ledger.attempt, why)
        self.abandoned += 1
        self._failed += 1
        if self._failed >= MOST_FAILED:
            self.failure = f"round {self.version} was abandoned {self._failed} times; the last time {why}"
        for task in list(self._tasks.values()):
            if task.active and now >= self._deadline:
                self._refuse(task, "unfinished")
            elif task.state == ACCEPTED:
                self.refused["abandoned"] += 1
        self._forget([task for task in self._tasks.values() if not task.active])
        self._ledger.begin(min(self._tasks, default=self._next))
        self.phase, self._since, self._deadline, self.changed = "select", now, math.inf, True

    # Across restarts

    def dump(self) -> dict[str, Any]:
        """Return everything a restarted scheduler needs but the history, as plain values."""
        return {
            "phase": self.phase,
            "ledger": self._ledger.dump(),
            "pace": self._pace.dump(),
            "usual": self._usual.dump(),
            "tasks": [task.dump() for task in self._tasks.values()],
            "next": self._next,
            "refused": dict(self.refused),
            "round_refused": dict(self._round_refused),
            "capped": self.capped,
            "abandoned": self.abandoned,
            "failed": self._failed,
        }

    def load(self, values: dict[str, Any], history: list[dict[str, Any]], now: float) -> None:
        """Take what ``dump`` returned; deadlines begin anew."""
        self.phase, self._next, self.history = values["phase"], values["next"], history
        self._ledger = Ledger.load(self.job.servers, values["ledger"])
        self._pace.load(values["pace"])
        self._usual.load(values["usual"])
        self._tasks = {row["number"]: Task.load(row, now) for row in values["tasks"]}
        self._active = {task.number for task in self._tasks.values() if task.active}
        self._by_rank = {self._tasks[number].rank: number for number in self._active}
        self.refused, self._round_refused = Counter(values["refused"]), Counter(values["round_refused"])
        self.capped, self.abandoned, self._failed = values["capped"], values["abandoned"], values["failed"]
        self._origin = now - (history[-1]["at"] if history else 0.0)
        if self.phase == "collect" and not self.asynchronous:
            self._deadline = now + self._pace.deadline()

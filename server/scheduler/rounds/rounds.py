"""Rounds: the scheduler's part of a federated job as a state machine. Messages and the time in, messages out.

A round goes from ``select`` (who takes part) to ``collect`` (their contributions come), ``close`` (the servers
combine them) and ``publish`` (all servers make the new version theirs). All of it outlives the process: what was
decided is saved before it is said, and what servers and clients know they say again.

Every event ends in ``_go_on``, which looks only at what is: phase, ledger, time. It takes steps until none is due,
and says to each server what it has not shown yet. So events that change nothing, or come twice, need no case.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any, Literal

from ps.config.federated import at_once, most_stale
from ps.config.job import JobConfig
from ps.errors import UsageError
from ps.protocol.layout import Layout
from ps.protocol.messages import Assign, Decline, Distances, Finished, Ok, Poll, RoundStatus, Submit, Submitted, Wait
from ps.server.scheduler.rounds.contributions import Contributions, Count, Lookup, Token
from ps.server.scheduler.rounds.deadlines import CROWD, Deadlines, needed
from ps.server.scheduler.rounds.durability import Durability
from ps.server.scheduler.rounds.history import entry
from ps.server.scheduler.rounds.returning import Returning
from ps.server.scheduler.rounds.selection import Offer, Selection
from ps.server.scheduler.rounds.slots import Slots
from ps.server.scheduler.rounds.task import ACCEPTED, OPEN, Task
from ps.server.scheduler.rounds.two_phase_commit import TwoPhaseCommit
from ps.server.send import Send

log = logging.getLogger("ps.scheduler")

WINDOW = 1.0
"""Seconds for which a selection waits for more clients once enough are there."""
MOST_FAILED = 100
"""Attempts at one round before the job is given up."""
MOST_HISTORY = 1000
"""Rounds of which an account is kept here, at most."""
SHOWN = 100
"""Of these, those that the status shows."""


class Rounds:
    """Selects clients, judges what they contribute, and brings the servers from version to version.

    ``clients`` returns how many clients are live; ``server`` the member id of a server by rank, 0 when it is gone;
    ``token`` what proves that a task was given to the client of a rank.
    """

    def __init__(
        self, job: JobConfig, layout: Layout, now: float, *, clients: Count, server: Lookup, token: Token
    ) -> None:
        self.job = job
        self.phase: Literal["select", "collect", "close", "publish", "done"] = "select"
        self.history: list[dict[str, Any]] = []
        self.abandoned = 0
        self.failure = ""
        """Why the job cannot go on, if it cannot."""
        self._clients, self._server = clients, server
        self._algorithm = job.specs.algorithm.build()
        aggregator = job.specs.aggregator.build()
        owners = frozenset(chunk.server for chunk in layout.chunks(job.servers, job.chunk_bytes))
        self._contributions = Contributions(job, self._algorithm, aggregator, owners, token)
        self._slots = Slots(at_once(job, self._algorithm))
        self._commit = TwoPhaseCommit(owners, self._algorithm, aggregator)
        self.durability = Durability(job.servers)
        self._deadlines = Deadlines(job.round_deadline, job.max_client_time)
        self._selection = Selection(job.seed)
        self._origin = self._since = now
        self._deadline = math.inf
        self._failed = 0
        """Attempts at this round that were abandoned."""
        self._closed_at = now
        """When the contributions that close this round were there."""
        self._overdue = False
        """Whether it was the deadline that closed it."""
        self._returning = Returning(now)

    # Looking

    @property
    def changed(self) -> bool:
        """Whether something happened that a restarted scheduler must know; whoever saves it sets this back."""
        return self._contributions.changed

    @changed.setter
    def changed(self, value: bool) -> None:
        self._contributions.changed = value

    @property
    def version(self) -> int:
        """How many rounds are published."""
        return self._contributions.ledger.version

    @property
    def asynchronous(self) -> bool:
        """Whether clients are assigned whenever one is free (FedBuff)."""
        return self._algorithm.buffer > 0

    @property
    def goal(self) -> int:
        """The contributions that close a round before its deadline."""
        if self.asynchronous:
            return self._algorithm.buffer
        return max(self.job.quorum, min(self.job.goal, self._clients()))

    @property
    def _active(self) -> int:
        return len(self._contributions.tasks.active)

    def status(self) -> dict[str, Any]:
        """Return what ``psctl status`` shows of the rounds."""
        return {
            "algorithm": self.job.algorithm,
            "phase": self.phase,
            "round": self.version,
            "rounds": self.job.rounds,
            "attempt": self._failed + 1,
            "goal": self.goal,
            "accepted": self._contributions.ledger.counted,
            "active": self._active,
            "waiting": len(self._selection),
            "deadline_s": round(self._deadlines.deadline(), 3),
            "refused": dict(self._contributions.tasks.refused),
            "spare": self._contributions.tasks.spare,
            "capped": self._contributions.admission.capped,
            "abandoned": self.abandoned,
            "durable": self.durability.durable,
            "slow": self._deadlines.slow,
            "fruitless": self._contributions.tasks.fruitless.clients,
            "history": self.history[-SHOWN:],
        }

    def wake(self, now: float) -> float | None:
        """Return when ``tick`` has something to do although nothing comes in, if ever."""
        if self.phase == "select" and len(self._selection) + self._active and now < self._since + WINDOW:
            return self._since + WINDOW
        if self.phase != "collect":
            return None
        hopes = (self._slots.look_at,) if self.asynchronous else () if self._active else self._returning.ends
        return min((at for at in (self._deadline, *hopes) if now < at < math.inf), default=None)

    # Clients

    def poll(self, message: Poll, rank: int, now: float) -> Iterator[Send]:
        """A client offers itself."""
        if self.phase == "done":
            yield Send(message.member, Finished(message.request, self.version))
            return
        task = self._contributions.tasks.active_of(rank)
        if task is None and self.phase == "collect":
            task = self._contributions.revive(rank)
        if task is None:
            rest = self._contributions.resting.left(rank, now)
            if rest or self._is_tired(rank):
                yield Send(message.member, Wait(message.request, self.version, rest or self._wait(now)))
                return
            self._selection.offer(Offer(message.member, message.request, rank))
            yield from self._go_on(now)
            return
        task.member, task.gone = message.member, False
        if task.state == OPEN:
            yield Send(message.member, self._assignment(task, message.request, now))
        else:  # its contribution is being judged; a client that was restarted has nobody who waits for that
            yield Send(message.member, Wait(message.request, self.version, self._wait(now)))

    def submit(self, message: Submit, rank: int, now: float) -> Iterator[Send]:
        """A client has uploaded all of its delta."""
        over = self._contributions.over(message.task, rank, message.token)
        if over is not None:
            yield Send(message.member, Submitted(message.request, message.task, over))
            return
        seconds = self._contributions.submit(message, now)
        if seconds is not None:
            self._deadlines.took(rank, seconds)
        yield from self._go_on(now)

    def decline(self, message: Decline, rank: int, now: float) -> Iterator[Send]:
        """A client gives its task back."""
        if self._contributions.decline(message.task, rank):
            self._contributions.resting.declined(rank, now)
            log.info("client %d gives its task back: %r", rank, message.why)
        yield Send(message.member, Ok(message.request))
        yield from self._go_on(now)

    def client_lost(self, member: int, rank: int, now: float, *, left: bool = False) -> Iterator[Send]:
        """A client is gone; what it has submitted still counts. One that ``left`` in good order gives its task back."""
        self._selection.withdraw(member)
        if left:
            self._contributions.left(member, rank)
        elif self._contributions.vanished(member, rank):
            self._returning.lost(now)
        yield from self._go_on(now)

    # Servers

    def server_status(self, message: RoundStatus, server: int, now: float) -> Iterator[Send]:
        """A server says how far it is."""
        ledger = self._contributions.ledger
        if message.phase == "empty" and not self.durability.has_lost(server):
            return  # said before it had the first values
        lost = ledger.lacks(server, message)
        if contradiction := ledger.contradiction(server, message):
            self.failure = contradiction
            return
        ledger.heard(server, message)
        self.changed |= self.durability.heard(server, message.durable)
        if lost:
            self._abandon(now, f"server {server} has lost contributions")
        self._contributions.note(server, message)
        yield from self._go_on(now)

    def distances(self, message: Distances, server: int, payload: Any, now: float) -> Iterator[Send]:
        """A server has measured how far its contributions are apart."""
        self._commit.measured(self._contributions.ledger, server, message, payload)
        yield from self._go_on(now)

    def server_lost(self, server: int, now: float) -> Iterator[Send]:
        """A server is gone. It comes back with what it had on disk, or not at all."""
        if self.durability.lost(server):
            self.failure = f"server {server} is gone and kept nothing on disk"
            return
        self._contributions.ledger.lost(server)
        self.changed = True
        if self.phase in ("collect", "close"):
            self._abandon(now, f"server {server} is gone")
        yield from self._contributions.lose(server)
        yield from self._go_on(now)

    # The time

    def tick(self, now: float) -> Iterator[Send]:
        """Look at the deadlines, and say again what servers and clients have not done."""
        yield from self._contributions.remind(now)
        yield from self._go_on(now)

    # Inside: selection

    def _is_tired(self, rank: int) -> bool:
        """Whether a client that comes at once after its task is to let others go first, of whom there are many."""
        crowd = CROWD * (self._slots.count if self.asynchronous else self.goal)
        crowded = self._clients() > crowd and not self._algorithm.everyone
        return crowded and self._contributions.tasks.had(rank) and self._selection.rest(rank)

    def _enough(self, now: float) -> bool:
        """Whether a selection can be made of those who wait, and of those who are still busy with a task."""
        here, all_here = len(self._selection) + self._active, self._clients()
        return self.asynchronous or (here >= self.job.quorum and (here >= all_here or now - self._since >= WINDOW))

    def _select(self, now: float) -> Iterator[Send]:
        """Begin to collect from clients that are drawn now, beside those that are still busy."""
        drawn = math.ceil(self.job.over_select * self.goal) - self._active
        wanted = len(self._selection) if self._algorithm.everyone else drawn
        self.phase, self._since, self.changed = "collect", now, True
        self._deadline = math.inf if self.asynchronous else now + self._deadlines.deadline(self._failed)
        if not self.asynchronous:
            yield from self._draw(wanted, now)

    def _fill_up(self, now: float) -> Iterator[Send]:
        """Draw clients in the place of those that are done or gone, and have the others come back later."""
        if self.asynchronous and self.phase != "done":
            yield from self._draw(self._slots.free(self._contributions.tasks, now, self._deadlines.deadline()), now)
        elif self.phase == "collect" and now < self._deadline:
            yield from self._draw(self.goal - self._contributions.ledger.counted - self._active, now)
        soon = self.asynchronous or self.phase != "collect" or self._deadlines.nearly_over(now - self._since)
        if self.phase != "select" and not (soon and len(self._selection) <= CROWD * self.job.goal):
            for offer in self._selection.dismiss():
                yield Send(offer.member, Wait(offer.request, self.version, self._wait(now)))

    def _draw(self, count: int, now: float) -> Iterator[Send]:
        """Give tasks to so many clients; in a synchronous round none takes part twice."""
        tasks = self._contributions.tasks
        if count < 1 or not self._selection:
            return
        busy = set() if self.asynchronous else tasks.ranks
        every = self.job.eval_every
        evaluate = self.version == self.job.rounds - 1 or (every > 0 and self.version % every == 0)
        for offer in self._selection.draw(count, busy, f"{self._contributions.ledger.attempt}/{tasks.next}"):
            task = self._contributions.open(offer, now, evaluate)
            yield Send(offer.member, self._assignment(task, offer.request, now))

    def _assignment(self, task: Task, request: int, now: float) -> Assign:
        left = self._deadline - now if self._deadline < math.inf else self._deadlines.deadline()
        token = self._contributions.token(task.number, task.rank)
        return Assign(request, task.number, task.round, max(0.0, left), task.evaluate, token)

    def _wait(self, now: float) -> float:
        seconds = self._deadlines.wait(now - self._since, self._clients(), self.goal, self._selection.chance())
        self._returning.sent_away(now + seconds)
        return seconds

    # Inside: from phase to phase

    def _go_on(self, now: float) -> Iterator[Send]:
        """Take every step that is due, and tell the servers what they are to do."""
        ledger = self._contributions.ledger
        while True:
            before = self.phase, ledger.attempt, ledger.phase
            if self.phase == "select" and self._enough(now):
                yield from self._select(now)
            if self.phase == "collect":
                yield from self._contributions.decide(self.goal, last=now >= self._deadline)
                self._look_at_collection(now)
            if self.phase == "close":
                self._look_at_servers(now)
            if self.phase == "publish" and ledger.published:
                yield from self._published(now)
            if before == (self.phase, ledger.attempt, ledger.phase):
                break
        yield from self._fill_up(now)
        for server in range(self.job.servers):
            member = self._server(server)
            order = ledger.order(server, now) if member else None
            if order is not None:
                yield Send(member, order)

    def _look_at_collection(self, now: float) -> None:
        accepted, late = self._contributions.ledger.counted, now >= self._deadline
        fresh = self._clients() > len(self._contributions.tasks.ranks)  # they had no task in this attempt yet
        hopeful = (fresh and self._returning.soon(now)) or (accepted < self.job.quorum and self._returning.again(now))
        over = late or not (self._active or self.asynchronous or hopeful)
        if accepted >= self.goal or (over and accepted >= self.job.quorum and not self.asynchronous):
            weights, steps = self._contributions.counted
            self._commit.begin(self._contributions.ledger, weights, steps, self.job.workers)
            self.phase, self._closed_at, self._overdue, self.changed = "close", now, late, True
        elif over:
            self._abandon(now, self._contributions.lacking(self.job.quorum))

    def _look_at_servers(self, now: float) -> None:
        ledger = self._contributions.ledger
        try:
            self.changed |= self._commit.go_on(ledger)
        except UsageError as error:
            self._abandon(now, str(error))
        if ledger.phase == "publish":
            self.phase = "publish"

    def _published(self, now: float) -> Iterator[Send]:
        """Close the books of a round and go on with the next."""
        contributions = self._contributions
        keep = (self.asynchronous or self.job.late != "drop") and self.version + 1 < self.job.rounds
        oldest = self.version + 1 - most_stale(self.job, self._algorithm)
        self._deadlines.late(task.rank for task in contributions.tasks if task.state == OPEN and self._overdue)
        over, verdicts = contributions.close(oldest, keep, self._overdue)
        yield from verdicts
        about = [t for t in over if t.state == ACCEPTED or t.round == self.version or not self.asynchronous]
        attempt, at, seconds = self._failed + 1, now - self._origin, now - self._since
        self.history.append(entry(self.version, attempt, at, seconds, about, contributions.tasks.of_round))
        del self.history[:-MOST_HISTORY]
        self._deadlines.rounds.append(
            seconds if self.asynchronous else needed(about, self._since, self._closed_at, now)
        )
        contributions.publish(over)
        self._failed, self._overdue = 0, False
        self.phase, self._since, self._deadline = "select", now, math.inf
        if self.version >= self.job.rounds:
            self.phase = "done"
            for offer in self._selection.dismiss():
                yield Send(offer.member, Finished(offer.request, self.version))

    def _abandon(self, now: float, why: str) -> None:
        """Give an attempt up on all servers alike and begin the round anew."""
        self.abandoned += 1
        self._failed += not self._contributions.tasks.given_back
        log.warning("round %d, attempt %d is abandoned: %s", self.version, self._failed, why)
        if self._failed >= MOST_FAILED or self._contributions.hopeless:
            self.failure = f"round {self.version} was abandoned {self._failed} times; the last time {why}"
        self._overdue = now >= self._deadline
        self._deadlines.late(task.rank for task in self._contributions.tasks if task.state == OPEN and self._overdue)
        self._contributions.abandon(late=self._overdue)
        self.phase, self._since, self._deadline = "select", now, math.inf

    # Across restarts

    def dump(self) -> dict[str, Any]:
        """Return everything a restarted scheduler needs but the history, as plain values."""
        return {
            "phase": self.phase,
            "contributions": self._contributions.dump(),
            "durability": self.durability.dump(),
            "pace": self._deadlines.dump(),
            "abandoned": self.abandoned,
            "failed": self._failed,
        }

    def load(self, values: dict[str, Any], history: list[dict[str, Any]], now: float) -> None:
        """Take what ``dump`` returned; deadlines begin anew."""
        self.phase = values["phase"]
        self._contributions.load(values["contributions"], now)
        self.durability.load(values["durability"])
        self.history = [done for done in history if done["round"] < self.version][-MOST_HISTORY:]
        self._deadlines.load(values["pace"])
        self.abandoned, self._failed = values["abandoned"], values["failed"]
        self._origin = now - (self.history[-1]["at"] if self.history else 0.0)
        if self.phase == "collect" and not self.asynchronous:
            self._deadline = now + self._deadlines.deadline()

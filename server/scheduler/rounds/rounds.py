"""Rounds: the scheduler's part of a federated job as a state machine. Messages and the time in, messages out.

A round goes from ``select`` (who takes part) to ``collect`` (their contributions come), ``close`` (the servers
combine them) and ``publish`` (all servers make the new version theirs). All of it outlives the process: what was
decided is saved before it is said, and what servers and clients know they say again.

Every event ends in ``_go_on``, which looks only at what is: phase, ledger, time. It takes steps until none is due,
and says to each server what it has not shown yet. So events that change nothing, or come twice, need no case.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

from ps.config.federated import most_stale
from ps.config.job import JobConfig
from ps.errors import BadMessage, UsageError
from ps.number import MOST_CLIENTS
from ps.protocol.layout import Layout
from ps.protocol.messages import Decline, Distances, Finished, HelpRequest, Ok, Poll, RoundStatus, Submit, Submitted
from ps.server.scheduler.rounds.assignments import Assignments
from ps.server.scheduler.rounds.attempt import Attempt
from ps.server.scheduler.rounds.contributions import Contributions, Count, Lookup, Token
from ps.server.scheduler.rounds.deadlines import Deadlines, needed
from ps.server.scheduler.rounds.durability import Durability
from ps.server.scheduler.rounds.helped import HelpedRound
from ps.server.scheduler.rounds.history import MOST_HISTORY, entry
from ps.server.scheduler.rounds.masked import go_on, masking_of
from ps.server.scheduler.rounds.masking import ClientWord
from ps.server.scheduler.rounds.picture import picture
from ps.server.scheduler.rounds.privacy import RoundPrivacy
from ps.server.scheduler.rounds.task import ACCEPTED
from ps.server.scheduler.rounds.two_phase_commit import TwoPhaseCommit
from ps.server.send import Send

log = logging.getLogger("ps.scheduler")

MOST_FAILED = 100
"""Attempts at one round before the job is given up."""


class Rounds:
    """Selects clients, judges what they contribute, and brings the servers from version to version.

    ``clients`` returns how many clients are live; ``server`` the member id of a server by rank, 0 when it is gone;
    ``token`` what proves that a task was given to the client of a rank.
    """

    def __init__(
        self,
        job: JobConfig,
        layout: Layout,
        now: float,
        *,
        clients: Count,
        server: Lookup,
        token: Token,
        job_id: str = "",
    ) -> None:
        self.job = job
        self.phase: Literal["select", "collect", "close", "publish", "done"] = "select"
        self.history: list[dict[str, Any]] = []
        self.abandoned = 0
        self._server = server
        self._algorithm = job.specs.algorithm.build()
        aggregator = job.specs.aggregator.build()
        owners = frozenset(chunk.server for chunk in layout.cut(job))
        self.privacy = RoundPrivacy(job, layout)
        self.failure = self.privacy.failure
        """Why the job cannot go on, if it cannot."""
        self._contributions = Contributions(job, self._algorithm, aggregator, owners, token, self.privacy)
        masked = job.specs.secure.build().masks
        self._commit = TwoPhaseCommit(owners, self._algorithm, aggregator, masked=masked)
        self.durability = Durability(job.servers)
        self._deadlines = Deadlines(job.round_deadline, job.max_client_time)
        self._attempt = Attempt(now)
        self.masking = masking_of(job, job_id)
        self._origin = now
        self._assignments = Assignments(
            job, self._algorithm, self._contributions, self._deadlines, self._attempt, now, clients
        )

    @property
    def changed(self) -> bool:
        """Whether something happened that a restarted scheduler must know; whoever saves it sets this back."""
        return self._contributions.changed

    @changed.setter
    def changed(self, value: bool) -> None:
        self._contributions.changed = value

    def saved(self, now: float) -> Iterator[Send]:
        """All that a restarted scheduler must know is on disk, if there is one: say what waited for that."""
        self.changed = False
        if self.privacy.saved(self._contributions.ledger):
            yield from self._go_on(now)

    @property
    def version(self) -> int:
        """How many rounds are published."""
        return self._contributions.ledger.version

    @property
    def under_way(self) -> int:
        """How many rounds there are with the one under way."""
        return min(self.version + 1, self.job.rounds)

    def status(self) -> dict[str, Any]:
        """Return what ``psctl status`` shows of the rounds."""
        parts = self._assignments, self._contributions, self._deadlines, self._attempt, self.durability
        phase = self.phase if self.masking is None else self.masking.shown(self.phase)
        return {**picture(self.job, *parts, self.history), "phase": phase, "abandoned": self.abandoned}

    def wake(self, now: float) -> float | None:
        """Return when ``tick`` has something to do although nothing comes in, if ever."""
        assignments, enough_at = self._assignments, self._assignments.enough_at
        if self.phase == "select" and assignments.waiting + assignments.active and now < enough_at:
            return enough_at
        ends = (self._attempt.deadline, *assignments.hopes()) if self.phase == "collect" else ()
        steps = (self.masking.until,) if self.masking is not None else ()
        return min((at for at in (*ends, *steps) if now < at < math.inf), default=None)

    def plan(self, rounds: int) -> None:
        """From now on there are no more rounds than so many."""
        self.job = dataclasses.replace(self.job, rounds=max(1, min(rounds, self.job.rounds)))
        self._assignments.rounds = self.job.rounds

    def end(self, rounds: int, now: float) -> Iterator[Send]:
        """All ends with so many rounds."""
        self.plan(rounds)
        yield from self._go_on(now)

    # Clients

    def poll(self, message: Poll, rank: int, now: float) -> Iterator[Send]:
        """A client offers itself."""
        if self.phase == "done":
            yield Send(message.member, Finished(message.request, self.version))
            return
        answer = self._assignments.offer(message, rank, self.version, self.phase == "collect", now)
        if answer is not None:
            yield answer
        else:
            yield from self._go_on(now)

    def submit(self, message: Submit, rank: int, now: float) -> Iterator[Send]:
        """A client has uploaded all of its delta."""
        masking = self.masking
        over = self._contributions.over(message.task, rank, message.token)
        if masking is not None and over in (None, ACCEPTED) and (said := masking.unmask(message.task, message.request)):
            yield Send(message.member, said)
            return
        here = self._contributions.tasks.get(message.task) is not None  # else it is of a round before
        if over == ACCEPTED and here and masking is not None and masking.asks and not masking.known:
            self._contributions.waits(message)  # it is asked who is in the sum when that is decided
            return
        if over is None and masking is not None and not masking.admits(message.task):
            over = "unfinished"
        if over is not None:
            yield Send(message.member, Submitted(message.request, message.task, over))
            return
        seconds = self._contributions.submit(message, now)
        if seconds is not None:
            self._deadlines.took(rank, seconds)
        yield from self._go_on(now)

    def mask(self, message: ClientWord, rank: int, now: float) -> Iterator[Send]:
        """A client has its part in what comes before masks, or takes them off."""
        over = self._contributions.over(message.task, rank, message.token)
        task = self._contributions.tasks.get(message.task)
        if over not in (None, ACCEPTED) or task is None or self.masking is None:
            yield Send(message.member, Submitted(message.request, message.task, over or "abandoned"))
            return
        self.changed |= not self.masking.asks  # seeds that are sealed for a helper outlive this process
        if (answer := self.masking.hear(message, rank, task.round)) is not None:
            yield Send(message.member, answer)
        yield from self._go_on(now)

    def help(self, message: HelpRequest, now: float, token: Callable[[int, int], int]) -> list[Send]:
        """A helper asks of which masks the sum is wanted; the first of what is returned is for it."""
        ledger, masking = self._contributions.ledger, self.masking
        if not isinstance(masking, HelpedRound):
            raise BadMessage("a helper, but this job's masks need none: --secure helper")
        self.changed |= message.offer != masking.offer
        proof = token(ledger.version, ledger.attempt)
        return [*masking.help(message, proof, now, over=self.phase == "done"), *self._go_on(now)]

    def decline(self, message: Decline, rank: int, now: float) -> Iterator[Send]:
        """A client gives its task back."""
        if self._contributions.decline(message.task, rank):
            self._contributions.resting.declined(rank, now)
            log.info("client %d gives its task back: %r", rank, message.why)
        elif self.masking is not None:
            self.masking.lose([message.task])
            log.info("client %d reveals nothing: %r", rank, message.why)
        yield Send(message.member, Ok(message.request))
        yield from self._go_on(now)

    def client_lost(self, member: int, rank: int, now: float, *, left: bool = False) -> Iterator[Send]:
        """A client is gone; what it has submitted still counts. One that ``left`` in good order gives its task back."""
        self._assignments.lost(member, rank, now, left)
        if self.masking is not None:
            self.masking.lose(task.number for task in self._contributions.tasks if task.member == member)
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
            yield from self._abandon(now, lost)
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
        kept = self.masking is not None and (self.masking.told or self._contributions.ledger.is_kept(server))
        self._contributions.ledger.lost(server)
        self.privacy.forget_keys()
        self.changed = True
        if self.phase == "collect" or (self.phase == "close" and not kept):
            yield from self._abandon(now, f"server {server} is gone")
        yield from self._contributions.lose(server)
        yield from self._go_on(now)

    def tick(self, now: float) -> Iterator[Send]:
        """Look at the deadlines, and say again what servers and clients have not done."""
        if self.masking is not None:
            self.masking.work()
        yield from self._contributions.remind(now)
        yield from self._go_on(now)

    @property
    def busy(self) -> bool:
        """Whether the next ``tick`` has work to do that is waited for."""
        return self.masking is not None and self.masking.busy

    def _go_on(self, now: float) -> Iterator[Send]:
        """Take every step that is due, and tell the servers what they are to do."""
        ledger = self._contributions.ledger
        while True:
            before = self._stage
            if self.phase == "select" and self.privacy.stops(self.version, self.job.rounds) and not self.failure:
                yield from self._finish()
            if self.phase == "select" and self._assignments.enough(now):
                self.phase, self.changed = "collect", True
                yield from self._assignments.begin(self.version, now)
                if self.masking is not None:
                    self.masking.begin(self.version, ledger.attempt, now)
            if self.masking is not None and self.phase in ("collect", "close"):
                here = all(self._server(server) for server in range(self.job.servers))
                closed = self.phase == "close"
                yield from go_on(self.masking, self._contributions, now, closed=closed, all_here=here)
                if self.masking.failure:
                    yield from self._abandon(now, self.masking.failure)
            if self.phase == "collect":
                if self._contributions.tasks.ready:
                    yield from self._contributions.decide(self._goal(), last=self._attempt.late(now))
                yield from self._look_at_collection(now)
            if self.phase == "close":
                yield from self._look_at_servers(now)
            if self.phase == "publish" and ledger.published:
                yield from self._published(now)
            if before == self._stage:
                break
        fixed = self.masking is not None and self.masking.fixed
        yield from self._assignments.fill_up(self.phase, self.version, now, fixed=fixed)
        for server in range(self.job.servers):
            member = self._server(server)
            order = ledger.order(server, now) if member else None
            if order is not None:
                if order.phase == "prepare" and self.masking is not None and (unseal := self.masking.unseal()):
                    yield Send(member, unseal)
                yield Send(member, order)

    @property
    def _stage(self) -> tuple[str, int, str, str]:
        ledger = self._contributions.ledger
        return self.phase, ledger.attempt, ledger.phase, self.masking.phase if self.masking is not None else ""

    def _goal(self) -> int:
        goal = MOST_CLIENTS if self.privacy.sampled else self._assignments.goal
        return goal if self.masking is None else self.masking.goal(goal, self._contributions.ledger.survivors)

    def _look_at_collection(self, now: float) -> Iterator[Send]:
        assignments, ledger, masking = self._assignments, self._contributions.ledger, self.masking
        counted, asynchronous = ledger.counted, assignments.asynchronous
        survivors = ledger.survivors if masking is not None else []  # with thousands of clients looking takes a while
        going = assignments.active or asynchronous or (masking is None and assignments.hopeful(counted, now))
        over = self._attempt.late(now) or not going
        enough = over and not asynchronous and (counted >= self.job.quorum or self.privacy.sampled)
        refusal = masking.refusal(survivors) if masking is not None and enough else ""
        if counted >= self._goal() or (enough and not refusal):
            self._attempt.close(now)
            self.privacy.pay(ledger, [self._contributions.tasks[number].rank for number in ledger.survivors])
            yield from assignments.send_back(self.version, now)
            self.phase, self.changed = "close", True
            self._commit.begin(ledger, *self._contributions.counted, self.job.workers)
        elif over:
            yield from self._abandon(now, refusal or self._contributions.lacking(self.job.quorum))

    def _look_at_servers(self, now: float) -> Iterator[Send]:
        ledger = self._contributions.ledger
        try:
            self.changed |= self._commit.go_on(ledger)
        except UsageError as error:
            yield from self._abandon(now, str(error))
        if ledger.phase == "publish":
            self.phase = "publish"

    def _published(self, now: float) -> Iterator[Send]:
        """Close the books of a round and go on with the next."""
        contributions, attempt, asynchronous = self._contributions, self._attempt, self._assignments.asynchronous
        keep = (asynchronous or self.job.late != "drop") and self.version + 1 < self.job.rounds
        oldest = self.version + 1 - most_stale(self.job, self._algorithm)
        self._deadlines.late(self._contributions.tasks.late(self._attempt.overdue))
        over, verdicts = contributions.close(oldest, keep, attempt.overdue)
        yield from verdicts
        about = [t for t in over if t.state == ACCEPTED or t.round == self.version or not asynchronous]
        at, seconds = now - self._origin, now - attempt.since
        told = self.privacy.told(about, contributions.tasks.of_round)
        self.history.append(entry(self.version, attempt.failed + 1, at, seconds, *told))
        del self.history[:-MOST_HISTORY]
        self._deadlines.rounds.append(seconds if asynchronous else needed(about, attempt.since, attempt.closed_at, now))
        contributions.publish(over)
        if self.masking is not None:
            yield from self.masking.end(ACCEPTED)
        attempt.succeed(now)
        self.phase = "select"
        if self.version >= self.job.rounds:
            yield from self._finish()

    def _finish(self) -> Iterator[Send]:
        self.phase, self.changed = "done", True
        yield from self._contributions.drop("unfinished")
        yield from self._assignments.finish(self.version)

    def _abandon(self, now: float, why: str) -> Iterator[Send]:
        """Give an attempt up on all servers alike and begin the round anew."""
        self.abandoned += 1
        self._attempt.fail(now, not self._contributions.tasks.given_back)
        failed = self._attempt.failed
        log.warning("round %d, attempt %d is abandoned: %s", self.version, failed, why)
        if failed >= MOST_FAILED or self._contributions.hopeless:
            self.failure = f"round {self.version} was abandoned {failed} times; the last time {why}"
        self._deadlines.late(self._contributions.tasks.late(self._attempt.overdue))
        if self.masking is not None:  # no mask is used for two sums: all begin anew
            yield from self._contributions.drop("abandoned")
            yield from self.masking.end("abandoned")
        self._contributions.abandon(late=self._attempt.overdue)
        self.phase = "select"

    # Across restarts

    def dump(self) -> dict[str, Any]:
        """Return everything a restarted scheduler needs but the history, as plain values."""
        return {
            "phase": self.phase,
            "contributions": self._contributions.dump(),
            "durability": self.durability.dump(),
            "pace": self._deadlines.dump(),
            "abandoned": self.abandoned,
            "failed": self._attempt.failed,
            **({"masking": self.masking.dump()} if self.masking is not None else {}),
        }

    def load(self, values: dict[str, Any], history: list[dict[str, Any]], now: float) -> None:
        """Take what ``dump`` returned; deadlines begin anew."""
        self.phase = values["phase"]
        self._contributions.load(values["contributions"], now)
        self.durability.load(values["durability"])
        self.history = [done for done in history if done["round"] < self.version][-MOST_HISTORY:]
        self._deadlines.load(values["pace"])
        self.abandoned, self._attempt.failed = values["abandoned"], values["failed"]
        self._origin = now - (self.history[-1]["at"] if self.history else 0.0)
        if self.phase == "collect" and not self._assignments.asynchronous:
            self._attempt.deadline = now + self._deadlines.deadline()
        if self.masking is not None:
            self.masking.load(values["masking"], now)

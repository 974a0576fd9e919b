"""Contributions: what clients do for the round under way, from task to verdict, for the servers to count."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from ps.aggregators import Aggregator
from ps.algorithms import Algorithm
from ps.config.job import JobConfig
from ps.protocol.messages import RoundStatus, Submit, Submitted
from ps.protocol.messages.words import Refusal, Ruling
from ps.server.scheduler.rounds.admission import Admission
from ps.server.scheduler.rounds.ledger import Ledger
from ps.server.scheduler.rounds.privacy import RoundPrivacy
from ps.server.scheduler.rounds.resting import Resting
from ps.server.scheduler.rounds.selection import Offer
from ps.server.scheduler.rounds.task import ACCEPTED, DECLINED, OPEN, SPARE, STALE, SUBMITTED, VANISHED, Task
from ps.server.scheduler.rounds.tasks import Tasks
from ps.server.send import Send

Count = Callable[[], int]
Lookup = Callable[[int], int]
Token = Callable[[int, int], int]
"""Returns what proves that a task was given to the client of a rank."""

RESUME: Final = "resume"
"""The verdict that is none: upload again what a server has lost, and submit again."""
OVERDUE = 5.0
"""Seconds after which a client hears that a server does not show its part of what was submitted."""
BAD: Sequence[Refusal] = ("claim", "malformed", "nan", "norm")
"""Refusals of what is wrong in itself."""
VAIN = 3
"""Attempts in a row, and clients, with nothing but such refusals before a job is given up."""
AHEAD = 1000
"""Numbers of tasks that do not exist yet for which something was uploaded, and which are then left out."""


class Contributions:
    """The tasks, the judging of them, and the ledger that comes of it.

    ``changed`` says whether something happened that a restarted scheduler must know.
    """

    def __init__(
        self,
        job: JobConfig,
        algorithm: Algorithm,
        aggregator: Aggregator,
        owners: frozenset[int],
        token: Token,
        privacy: RoundPrivacy,
    ) -> None:
        """``owners`` are the servers that have a part of the model."""
        self.token = token
        self.privacy = privacy
        self.ledger = Ledger(job.servers)
        privacy.arm(self.ledger)
        self.tasks = Tasks(owners)
        self.admission = Admission(job, algorithm, aggregator)
        self.resting = Resting()
        self.changed = True
        self._shows_reports = job.dp is None
        """Whether a client's own numbers are for others; otherwise they are not even kept."""
        self._bad = self._vain = 0
        """Refusals of what clients can do nothing but repeat, and attempts in a row that came to nothing but these."""
        self._enough = min(VAIN, job.workers)
        how = job.specs.secure.build()
        self._hidden = how.masks
        """Whether a client counts once in a sum: of two deltas of its own it is one of the clients alone."""
        self._masked = how.masks and not how.helper

    # What clients say

    def open(self, offer: Offer, now: float, evaluate: bool) -> Task:
        """Give a client a task in the round after the published version."""
        self.changed = True
        return self.tasks.open(offer.member, offer.rank, self.ledger.version, now, evaluate)

    def over(self, number: int, rank: int, token: int) -> Ruling | None:
        """Return what a client is told that submits to a task to which it cannot: not its own, or over."""
        if token != self.token(number, rank):
            self.tasks.refused["token"] += 1
            return "token"
        task = self.tasks.get(number)
        if task is not None and task.rank == rank:
            return None if task.active else task.ruling  # the answer was lost, or it was given up meanwhile
        known = self.tasks.verdict(number, rank)
        if known is None:
            self.tasks.refused["late" if number < self.tasks.next else "unknown"] += 1
        return known or "late"

    def submit(self, message: Submit, now: float) -> float | None:
        """Take a submission to a task that is not over; return the seconds it took, None when it is said again."""
        task = self.tasks[message.task]
        task.member, task.request, task.gone = message.member, message.request, False
        if task.state != OPEN:
            return None
        self.tasks.submit(task, message if self._shows_reports else _protected(message), now)
        self.changed = True
        return now - task.began

    def waits(self, message: Submit) -> None:
        """A client asks again for the verdict on what it has submitted."""
        task = self.tasks[message.task]
        task.member, task.request = message.member, message.request

    def decline(self, number: int, rank: int) -> bool:
        """A client gives its task back; return whether it had it."""
        task = self.tasks.get(number)
        if task is None or task.rank != rank or task.state != OPEN:
            return False
        self.refuse(task, DECLINED)
        return True

    def left(self, member: int, rank: int) -> None:
        """A client has left in good order; what it has submitted still counts."""
        task = self.tasks.active_of(rank)
        if task is not None and task.member == member:
            task.gone = self.changed = True
            self.decline(task.number, rank)

    def vanished(self, member: int, rank: int) -> bool:
        """A client is gone; what it has submitted still counts. Return whether it had not submitted yet."""
        task = self.tasks.active_of(rank)
        if task is not None and task.member == member:
            task.gone = self.changed = True
            if task.state == OPEN:  # servers keep what they have of it until the round closes
                self.tasks.refuse(task, VANISHED)
                return True
        return False

    def revive(self, rank: int) -> Task | None:
        """A client that had vanished is there again, as another process perhaps: return the task it goes on with."""
        task = self.tasks.vanished_of(rank)
        if self._masked:  # its keys have gone with the process
            return None
        if task is None or task.number in self.ledger.settled:
            return None
        self.tasks.revive(task)
        self.changed = True
        return task

    # What servers say

    def note(self, server: int, status: RoundStatus) -> None:
        """A server has all of its part of these contributions."""
        tasks, ledger = self.tasks, self.ledger
        for number, squares, wrong in status.staged:
            task = tasks.get(number)
            if task is not None and (task.active or task.state == VANISHED):
                tasks.share(task, server, squares, wrong)
            elif number >= ledger.floor and number not in ledger.settled:
                ledger.enter(number)  # nobody's, or given up: it is not to be kept
                if tasks.next <= number < tasks.next + AHEAD:
                    tasks.next = number + 1
                self.changed = True

    def lose(self, server: int) -> Iterator[Send]:
        """A server is gone, and with it what was not published; the clients still have it."""
        for number in sorted(self.tasks.active):
            task = self.tasks[number]
            task.shares.pop(server, None)
            if task.state == SUBMITTED:
                yield from self._resume(task)

    def remind(self, now: float) -> Iterator[Send]:
        """Have clients look for what servers do not show although it was submitted."""
        for task in self.tasks.short:
            if now - task.submitted >= OVERDUE:
                yield from self._resume(task)

    def _resume(self, task: Task) -> Iterator[Send]:
        self.tasks.reopen(task)
        self.changed = True
        if task.gone:
            self.refuse(task, VANISHED)
        else:
            yield Send(task.member, Submitted(task.request, task.number, RESUME))

    # Verdicts

    def decide(self, goal: int, last: bool) -> Iterator[Send]:
        """Judge what is here, in the order of the tasks, until ``goal`` contributions count.

        The first wait for others to be compared with, unless these are the ``last``.
        """
        tasks = self.tasks
        ready = [tasks[number] for number in sorted(tasks.ready)]
        if not ready or not self.admission.possible(
            ready, self.ledger.version, more=len(tasks.active) > len(ready) and not last
        ):
            return
        for task in ready:
            if self.ledger.counted >= goal:
                break
            if self._hidden and any(self.tasks[number].rank == task.rank for number in self.ledger.survivors):
                continue
            found = self.admission.decide(task, self.ledger.version, self.ledger.clip)
            self.ledger.enter(task.number, found.weight, found.scale, found.bound)
            if found.verdict == ACCEPTED:
                task.steps = found.steps
                tasks.accept(task)
                self.changed = True
            else:
                self.refuse(task, found.verdict)
            if found.verdict != ACCEPTED or not self._masked:  # else it is asked first who is in the sum
                yield Send(task.member, Submitted(task.request, task.number, task.ruling))

    def refuse(self, task: Task, why: Refusal) -> None:
        """End a task that counts for nothing; what servers have of it they are to drop."""
        self.tasks.refuse(task, why)
        if task.number not in self.ledger.settled:
            self.ledger.enter(task.number)
        self.changed = True

    @property
    def counted(self) -> tuple[list[float], list[float]]:
        """The weights and the effective local steps of the contributions that count."""
        entries = [(task, weight) for task, weight, _, _ in self.ledger.entries if weight > 0]
        return [weight for _, weight in entries], [
            self.admission.effective(self.tasks[task].steps) for task, _ in entries
        ]

    # The end of a round or an attempt

    def lacking(self, quorum: int) -> str:
        """Return why an attempt with fewer than ``quorum`` contributions is given up."""
        bad = sum(self.tasks.refused[why] for why in BAD)
        self._vain = self._vain + 1 if bad > self._bad and not self.ledger.counted else 0
        self._bad = bad
        refused = ", ".join(f"{count} × {why}" for why, count in sorted(self.tasks.of_round.items()))
        text = f"{self.ledger.counted} contributions counted, and at least {quorum} are needed"
        text += f"; refused were {refused}" if refused else ""
        return text + ". Is the learning rate too large?" if self.tasks.of_round["nan"] else text

    @property
    def hopeless(self) -> bool:
        """Whether more attempts would come to nothing too: some did, in which several clients, none of whom can end a
        job alone, sent nothing but NaN and the like."""
        return self._vain >= VAIN and self.tasks.fruitless.count(BAD) >= self._enough

    def _give_up(self, task: Task, why: Refusal | None = None) -> Iterator[Send]:
        """End a task whose contribution comes too late, or never, or is not needed any more; ``why`` if not that."""
        waits = task.state == SUBMITTED
        self.refuse(task, why or ("late" if waits else "unfinished"))
        if waits:
            yield Send(task.member, Submitted(task.request, task.number, task.ruling))

    def close(self, oldest: int, keep: bool, overdue: bool) -> tuple[list[Task], list[Send]]:
        """End the tasks that do not count beyond this round; return them, and what their clients are told.

        ``keep``: those that are under way may count later, if they began in round ``oldest`` or after it. ``overdue``:
        it was the deadline that closed the round.
        """
        over = [task for task in self.tasks if not (keep and task.active and task.round >= oldest)]
        sends: list[Send] = []
        for task in over:
            if task.active:
                sends += self._give_up(task, STALE if task.round < oldest else None if overdue else SPARE)
        return over, sends

    def publish(self, over: Iterable[Task]) -> None:
        """The round is published; ``over`` are all tasks but those that may still count."""
        self._vain = 0
        self.tasks.of_round.clear()
        self.resting.clear()
        self.tasks.forget(over)
        self.ledger.publish(self.tasks.floor)
        self.privacy.published(self.ledger)
        self._drop(over)

    def drop(self, why: Refusal) -> Iterator[Send]:
        """End all tasks that are under way; say so to those who wait for a verdict."""
        for number in sorted(self.tasks.active):
            yield from self._give_up(self.tasks[number], why)

    def abandon(self, late: bool) -> None:
        """The attempt is given up; tasks that are under way go on, unless it is too ``late`` for them."""
        for task in list(self.tasks):
            if task.active and late:
                self.refuse(task, "unfinished")
            elif task.state == ACCEPTED:
                self.tasks.refused["abandoned"] += 1
        over = [task for task in self.tasks if not task.active]
        self.privacy.abandon()
        self.tasks.forget(over, "abandoned")
        self.ledger.begin(self.tasks.floor)
        self._drop(over)

    def _drop(self, tasks: Iterable[Task]) -> None:
        """Have the servers forget what is over and not below the floor, as far as it has come."""
        for task in tasks:
            if task.number >= self.ledger.floor:
                self.ledger.enter(task.number)
        self.changed = True

    # Across restarts

    def dump(self) -> dict[str, Any]:
        """Return all as plain values."""
        return {
            "ledger": self.ledger.dump(),
            "tasks": self.tasks.dump(),
            "judging": self.admission.dump(),
            "privacy": self.privacy.dump(),
        }

    def load(self, values: dict[str, Any], now: float) -> None:
        """Take what ``dump`` returned."""
        self.ledger = Ledger.load(self.ledger.servers, values["ledger"])
        self.tasks.load(values["tasks"], now)
        self.admission.load(values["judging"])
        self.privacy.load(values["privacy"])


def _protected(message: Submit) -> Submit:
    """Return a submission without what its client says of its data and its training."""
    return dataclasses.replace(message, report={}, examples=0.0, steps=0)

"""Assignments: which clients get a task, and when the others are to come back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from ps.algorithms import Algorithm
from ps.config.federated import at_once
from ps.config.job import JobConfig
from ps.config.privacy import samples
from ps.protocol.messages import Assign, Finished, Poll, Wait
from ps.server.scheduler.rounds.attempt import Attempt
from ps.server.scheduler.rounds.contributions import Contributions, Count
from ps.server.scheduler.rounds.deadlines import CROWD, Deadlines
from ps.server.scheduler.rounds.poisson_sampling import PoissonSampling
from ps.server.scheduler.rounds.returning import Returning
from ps.server.scheduler.rounds.selection import Offer, Selection
from ps.server.scheduler.rounds.slots import Slots
from ps.server.scheduler.rounds.task import OPEN, Task
from ps.server.send import Send

WINDOW = 1.0
"""Seconds for which a selection waits for more clients once enough are there."""
MANY = 1000
"""Clients of a job beyond which all who are not drawn stay, their Poll unanswered until they are: were they to come
again, each would come many times for each task. Jobs of fewer draw as they always have."""


class Assignments:
    """Those who wait are drawn by chance; ``clients`` returns how many are live."""

    def __init__(
        self,
        job: JobConfig,
        algorithm: Algorithm,
        contributions: Contributions,
        deadlines: Deadlines,
        attempt: Attempt,
        now: float,
        clients: Count,
    ) -> None:
        self.rounds = job.rounds
        """How many there are, in all."""
        self._job = job
        self._wanted, self._quorum = job.goal, job.quorum
        self._algorithm = algorithm
        self._contributions = contributions
        self._deadlines = deadlines
        self._attempt = attempt
        self._clients = clients
        self._selection = Selection(job.seed)
        self.sampling = PoissonSampling(job.goal / job.workers) if samples(job) else None
        """With differential privacy that counts on it: draws each client by itself."""
        self._slots = Slots(at_once(job, algorithm))
        self._returning = Returning(now)
        self._stay = stays(job)

    # Looking

    @property
    def asynchronous(self) -> bool:
        """Whether clients are assigned whenever one is free (FedBuff)."""
        return self._algorithm.buffer > 0

    @property
    def goal(self) -> int:
        """The contributions that close a round before its deadline."""
        if self.asynchronous:
            return self._algorithm.buffer
        return max(self._quorum, min(self._wanted, self._clients()))

    @property
    def active(self) -> int:
        """How many have a task that is not over."""
        return len(self._contributions.tasks.active)

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return len(self._selection)

    @property
    def enough_at(self) -> float:
        """When those that are here are enough to begin with, as far as they are at all."""
        return self._attempt.since + WINDOW

    def enough(self, now: float) -> bool:
        """Whether a selection can be made of those who wait, and of those who are still busy with a task."""
        here, all_here = self.waiting + self.active, self._clients()
        return self.asynchronous or (here >= self._quorum and (here >= all_here or now >= self.enough_at))

    def hopes(self) -> tuple[float, ...]:
        """Return when somebody is not counted on any more who is now."""
        if self.sampling is not None:
            return ()
        if self.asynchronous:
            return (self._slots.look_at,)
        return () if self.active else self._returning.ends

    def hopeful(self, counted: int, now: float) -> bool:
        """Whether a collection, with so many contributions, may go on with clients that have no task of it yet."""
        if self.sampling is not None:  # whether a round ends must not depend on who is in it
            return False
        ranks = self._contributions.tasks.ranks
        fresh = self._clients() > len(ranks)  # they had none in this attempt
        if self._stay and not self.active and self._selection.has_free(ranks):
            return True
        return (fresh and self._returning.soon(now)) or (counted < self._quorum and self._returning.again(now))

    # Who offers itself, and who is gone

    def offer(self, message: Poll, rank: int, version: int, collecting: bool, now: float) -> Send | None:
        """Take a client's offer; return its answer, or None where it waits for one now."""
        contributions = self._contributions
        task = contributions.tasks.active_of(rank)
        if task is None and collecting:
            task = contributions.revive(rank)
        if task is None:
            rest = contributions.resting.left(rank, now)
            if rest or self._is_tired(rank) or not contributions.privacy.admits(rank):
                return Send(message.member, Wait(message.request, version, rest or self._wait(now)))
            self._selection.offer(Offer(message.member, message.request, rank))
            return None
        task.member, task.gone = message.member, False
        if task.state == OPEN:
            return Send(message.member, self._assignment(task, message.request, now))
        # its contribution is being judged; a client that was restarted has nobody who waits for that
        return Send(message.member, Wait(message.request, version, self._wait(now)))

    def lost(self, member: int, rank: int, now: float, left: bool) -> None:
        """A client is gone, or has ``left`` in good order."""
        self._selection.withdraw(member)
        if left:
            self._contributions.left(member, rank)
        elif self._contributions.vanished(member, rank):
            self._returning.lost(now)

    def _is_tired(self, rank: int) -> bool:
        """Whether a client that comes at once after its task is to let others go first, of whom there are many."""
        if self.sampling is not None or self._stay:
            return False
        crowd = CROWD * (self._slots.count if self.asynchronous else self.goal)
        crowded = self._clients() > crowd and not self._algorithm.everyone
        return crowded and self._contributions.tasks.had(rank) and self._selection.rest(rank)

    # Who is drawn

    def begin(self, version: int, now: float) -> Iterator[Send]:
        """Begin to collect from clients that are drawn now, beside those that are still busy."""
        drawn = math.ceil(self._job.over_select * self.goal) - self.active
        wanted = self.waiting if self._algorithm.everyone else drawn
        self._attempt.begin(now, math.inf if self.asynchronous else self._deadlines.deadline(self._attempt.failed))
        if self.sampling is not None:
            self.sampling.begin()
            self._selection.recall()
            yield from self._sample(self.sampling, version, now)
        elif not self.asynchronous:
            yield from self._draw(wanted, version, now)

    def fill_up(self, phase: str, version: int, now: float, *, fixed: bool) -> Iterator[Send]:
        """Draw clients in the place of those that are done or gone, and have the others come back later.

        ``fixed``: nobody can take part any more who does not yet.
        """
        if self.sampling is not None:  # all stay, so that each has its chance in every round
            if phase == "collect" and not (self._attempt.late(now) or fixed):
                yield from self._sample(self.sampling, version, now)
            return
        if self.asynchronous and phase != "done":
            free = self._slots.free(self._contributions.tasks, now, self._deadlines.deadline())
            yield from self._draw(free, version, now)
        elif phase == "collect" and self._selection and not (self._attempt.late(now) or fixed):
            yield from self._draw(self.goal - self._contributions.ledger.counted - self.active, version, now)
        if phase == "select" or self._stay or not self.waiting:
            return
        soon = self.asynchronous or phase != "collect" or self._deadlines.nearly_over(now - self._attempt.since)
        if not (soon and self.waiting <= CROWD * self._wanted):
            for offer in self._selection.dismiss():
                yield Send(offer.member, Wait(offer.request, version, self._wait(now)))

    def send_back(self, version: int, now: float) -> Iterator[Send]:
        """Have those come back later who have offered themselves and may not be in the next release any more: a client
        whose contribution counts offers itself before it is paid for."""
        if self._job.dp is None:  # else many thousands are asked about in vain
            return
        admits = self._contributions.privacy.admits
        for offer in self._selection.remove(lambda rank: not admits(rank)):
            yield Send(offer.member, Wait(offer.request, version, self._wait(now)))

    def finish(self, version: int) -> Iterator[Send]:
        """Tell those who wait that all rounds are done."""
        for offer in self._selection.dismiss():
            yield Send(offer.member, Finished(offer.request, version))

    def _draw(self, count: int, version: int, now: float) -> Iterator[Send]:
        """Give tasks to so many clients; in a synchronous round none takes part twice."""
        tasks = self._contributions.tasks
        if count < 1 or not self._selection:
            return
        busy = set() if self.asynchronous else tasks.ranks
        occasion = f"{self._contributions.ledger.attempt}/{tasks.next}"
        yield from self._open(self._selection.draw(count, busy, occasion), version, now)

    def _sample(self, sampling: PoissonSampling, version: int, now: float) -> Iterator[Send]:
        """Give tasks to those who are in the round, of those who wait and have none."""
        yield from self._open(self._selection.take(sampling.takes, self._contributions.tasks.ranks), version, now)

    def _open(self, offers: Iterable[Offer], version: int, now: float) -> Iterator[Send]:
        every = self._job.eval_every
        evaluate = version == self.rounds - 1 or (every > 0 and version % every == 0)
        for offer in offers:
            task = self._contributions.open(offer, now, evaluate)
            yield Send(offer.member, self._assignment(task, offer.request, now))

    def _assignment(self, task: Task, request: int, now: float) -> Assign:
        deadline = self._attempt.deadline
        left = deadline - now if deadline < math.inf else self._deadlines.deadline()
        token = self._contributions.token(task.number, task.rank)
        return Assign(request, task.number, task.round, max(0.0, left), task.evaluate, token)

    def _wait(self, now: float) -> float:
        elapsed, chance = now - self._attempt.since, self._selection.chance()
        seconds = self._deadlines.wait(elapsed, self._clients(), self.goal, chance)
        self._returning.sent_away(now + seconds)
        return seconds


def stays(job: JobConfig) -> bool:
    """Whether clients that are not drawn wait for the next draw, and are not told to come back later."""
    return job.workers > MANY

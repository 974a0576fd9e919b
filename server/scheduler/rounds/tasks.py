"""Tasks: the table of all tasks that may still count, and what became of those of the round before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Set
from typing import Any

from ps.protocol.messages import Submit
from ps.protocol.messages.words import Defect, Refusal, Ruling
from ps.server.scheduler.rounds.fruitless import Fruitless
from ps.server.scheduler.rounds.history import numbers
from ps.server.scheduler.rounds.task import ACCEPTED, DECLINED, OPEN, SPARE, SUBMITTED, VANISHED, Task

MOST_VERDICTS = 20_000
"""Clients whose last verdict is remembered, at most."""


class Tasks:
    """Tasks by number, and by the clients that have them.

    ``owners`` are the servers that have a part of every contribution; ``refused`` counts by reason, in all and of the
    round under way; that more were selected than were needed is none, and counted as ``spare``.
    """

    def __init__(self, owners: frozenset[int]) -> None:
        self.next = 1
        self.refused: Counter[str] = Counter()
        self.of_round: Counter[str] = Counter()
        self.spare = 0
        self.active: set[int] = set()
        self.ready: set[int] = set()
        """Submitted, and with all servers: only the verdict is missing."""
        self.fruitless = Fruitless()
        self._owners = owners
        self._tasks: dict[int, Task] = {}
        self._by_rank: dict[int, int] = {}
        """Client -> the task it was given last."""
        self._held: Counter[int] = Counter()
        """Client -> how many tasks it has here, so that nobody has to count them again for every contribution."""
        self._verdicts: dict[int, tuple[int, Ruling]] = {}
        """Client -> (task, verdict) until its next task is over, for those to whom the answer was lost: one that was
        killed before it heard it is given another task in the same breath in which it asks."""

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks.values())

    def __getitem__(self, number: int) -> Task:
        return self._tasks[number]

    def get(self, number: int) -> Task | None:
        """Return a task, if it is still known."""
        return self._tasks.get(number)

    def active_of(self, rank: int) -> Task | None:
        """Return the task that a client is busy with, if there is one."""
        task = self._tasks.get(self._by_rank.get(rank, 0))
        return task if task is not None and task.active else None

    def had(self, rank: int) -> bool:
        """Whether a client is known to have had a task that is over."""
        return rank in self._by_rank or rank in self._verdicts

    def vanished_of(self, rank: int) -> Task | None:
        """Return the task that a client had when it vanished, if it may still count."""
        task = self._tasks.get(self._by_rank.get(rank, 0))
        return task if task is not None and task.state == VANISHED else None

    def revive(self, task: Task) -> None:
        """A client that was thought to be gone goes on with its task."""
        task.state, task.gone = OPEN, False
        self.active.add(task.number)
        for count in (self.refused, self.of_round):
            count[VANISHED] -= 1
            if not count[VANISHED]:
                del count[VANISHED]

    def verdict(self, number: int, rank: int) -> Ruling | None:
        """Return what became of a client's task that is over, if it was its last."""
        last, verdict = self._verdicts.get(rank, (0, None))
        return verdict if last == number else None

    @property
    def floor(self) -> int:
        """The number below which all tasks are over."""
        return min(self._tasks, default=self.next)

    @property
    def ranks(self) -> Set[int]:
        """The clients that have or had a task here."""
        return self._held.keys()

    @property
    def given_back(self) -> bool:
        """Whether nothing stands in the way but that clients gave their tasks back: not a failure of anybody."""
        states = {task.state for task in self._tasks.values()}
        return DECLINED in states and states <= {DECLINED, ACCEPTED}

    def late(self, overdue: bool) -> list[int]:
        """Return whose tasks are open still, if it was the deadline that ended the collection."""
        return [task.rank for task in self if task.state == OPEN and overdue]

    @property
    def short(self) -> list[Task]:
        """Those submitted of which some server has not shown its part."""
        return [task for number in self.active - self.ready if (task := self._tasks[number]).state == SUBMITTED]

    # What becomes of a task

    def open(self, member: int, rank: int, round: int, now: float, evaluate: bool) -> Task:
        """Make a new task."""
        task = Task(self.next, member, rank, round, now, evaluate)
        self._tasks[task.number], self._by_rank[rank] = task, task.number
        self._held[rank] += 1
        self.active.add(task.number)
        self.next += 1
        return task

    def submit(self, task: Task, message: Submit, now: float) -> None:
        """Take what a client says of its contribution."""
        task.state, task.version, task.submitted = SUBMITTED, message.version, now
        task.examples, task.steps, task.report = message.examples, message.steps, numbers(message.report)
        self._consider(task)

    def share(self, task: Task, server: int, squares: float, wrong: Defect) -> None:
        """Note that a server has its part of a contribution."""
        task.shares[server] = squares
        task.wrong = task.wrong or wrong
        self._consider(task)

    def _consider(self, task: Task) -> None:
        if task.state == SUBMITTED and self._owners <= task.shares.keys():
            self.ready.add(task.number)

    def reopen(self, task: Task) -> None:
        """A contribution is not all there: its client is to bring the rest."""
        task.state = OPEN
        self.ready.discard(task.number)

    def accept(self, task: Task) -> None:
        """The contribution counts."""
        task.state = ACCEPTED
        self.fruitless.counted(task.rank)
        self._end(task)

    def refuse(self, task: Task, why: Refusal) -> None:
        """The contribution does not count."""
        task.state = why
        if why == SPARE:
            self.spare += 1
        else:
            self.refused[why] += 1
            self.of_round[why] += 1
            self.fruitless.refused(task.rank, why)
        self._end(task)

    def _end(self, task: Task) -> None:
        self.active.discard(task.number)
        self.ready.discard(task.number)

    def forget(self, tasks: Iterable[Task], lost: Refusal | None = None) -> None:
        """Drop tasks that are over, but for their verdicts; ``lost`` is what those are told that had been accepted."""
        for task in tasks:
            del self._tasks[task.number]
            self._held[task.rank] -= 1
            if not self._held[task.rank]:
                del self._held[task.rank]
            if self._by_rank.get(task.rank) == task.number:
                del self._by_rank[task.rank]
                self._verdicts.pop(task.rank, None)  # who was here last is the last to be forgotten
                self._verdicts[task.rank] = task.number, lost if lost and task.state == ACCEPTED else task.ruling
        while len(self._verdicts) > MOST_VERDICTS:
            del self._verdicts[next(iter(self._verdicts))]

    # Across restarts

    def dump(self) -> dict[str, Any]:
        """Return the table as plain values."""
        return {
            "next": self.next,
            "tasks": [task.dump() for task in self._tasks.values()],
            "verdicts": [[rank, number, verdict] for rank, (number, verdict) in self._verdicts.items()],
            "refused": dict(self.refused),
            "spare": self.spare,
            "of_round": dict(self.of_round),
        }

    def load(self, values: dict[str, Any], now: float) -> None:
        """Take what ``dump`` returned; what the servers have they say again."""
        self.next, self.spare = values["next"], values["spare"]
        self.refused, self.of_round = Counter(values["refused"]), Counter(values["of_round"])
        self._tasks = {row["number"]: Task.load(row, now) for row in values["tasks"]}
        self._by_rank = {task.rank: task.number for task in self._tasks.values()}
        self._held = Counter(task.rank for task in self._tasks.values())
        self.active = {task.number for task in self._tasks.values() if task.active}
        self._verdicts = {rank: (number, verdict) for rank, number, verdict in values["verdicts"]}

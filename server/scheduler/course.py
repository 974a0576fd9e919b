"""Course: the batches of one call of ``kv.batches``, handed out to workers as leases. No sockets, no clock, no disk.

All workers that make the same call share one course. Its batches, over all epochs, are its *cells*, numbered so that
cell s * grid + r is batch s of the r-th of ``grid`` shares: the order in which workers use them in lockstep. What is
not used is in exactly one place: nobody has had it yet (``next`` on), it was given back or its holder is gone
(``pool``), it is one worker's column of a block and was not asked for yet (``reserved``), or a worker holds it.

In lockstep a block of clocks is dealt to all workers at once, whoever asks first, so that cell and clock are the same
in every run while nobody comes or goes: worker i of n has cells i, n + i, 2n + i and so on of it. Elsewhere whoever
asks gets the next cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any

from ps.dataclass import dataclass
from ps.server.scheduler.cells import Run, column, count, each, runs_of, split
from ps.server.scheduler.holding import Holding, Point

MOST_AT_ONCE = 1 << 16
"""Cells of the pool that are dealt at once."""
MOST_RUNS = 500
"""Runs of one lease."""
FIRST = 4
"""Cells, or clocks of a block, that a worker is given which has not said how many it wants."""

Worker = tuple[int, int]
"""(rank, member)."""


@dataclass(slots=True)
class Course:
    """One call's cells. ``grid``: into how many shares an epoch is cut; ``cells``: of all epochs; ``least``: clocks of
    a block at least, 0 where blocks are as small as workers want them to be."""

    grid: int
    cells: int
    lockstep: bool
    least: int
    next: int = 0
    pool: list[Run] = field(default_factory=list)
    owed: dict[int, int] = field(default_factory=dict)
    """Rank -> the cell that it was at when a checkpoint was made: some chunks have it already, by that rank's clock."""
    reserved: dict[int, list[list[Run]]] = field(default_factory=dict)
    holdings: dict[int, Holding] = field(default_factory=dict)
    """By member."""
    gone: dict[int, Holding] = field(default_factory=dict)
    """Of members that are gone since a checkpoint began, by member."""
    among: tuple[int, ...] = ()
    """The members that the last block was dealt to."""
    moved: bool = False
    """Whether members have come or gone since the course began."""

    # What there is

    @property
    def free(self) -> int:
        """How many cells nobody has, and anybody may be given."""
        return count(self.pool) + self.cells - self.next

    @property
    def open(self) -> int:
        """How many are not used."""
        held = sum(holding.left for holding in self.holdings.values())
        return self.free + held + sum(map(self.kept_for, self.reserved)) + len(self.owed)

    def kept_for(self, member: int) -> int:
        """How many cells are reserved for a member."""
        return sum(count(runs) for runs in self.reserved.get(member, ()))

    def left_to(self, member: int) -> int:
        """How many cells a member has, or is to get."""
        holding = self.holdings.get(member)
        return (holding.left if holding else 0) + self.kept_for(member)

    @property
    def holders(self) -> list[int]:
        """The members that have cells which are not used."""
        return [member for member in {**self.holdings, **self.reserved} if self.left_to(member)]

    @property
    def is_active(self) -> bool:
        """Whether a worker is in the midst of it."""
        return any(not holding.back for holding in self.holdings.values())

    def end_of(self, member: int) -> int:
        """Return the clock at which a member will have used all that it has."""
        holding = self.holdings.get(member)
        return (holding.clock if holding else 0) + self.left_to(member)

    # Handing out

    def grant(self, worker: Worker, want: int, live: Sequence[Worker]) -> list[Run]:
        """Give a worker cells, if there are any for it; ``live``: all workers that take part, by rank."""
        rank, member = worker
        if rank in self.owed:
            return self._give(worker, [(self.owed.pop(rank), 1, 1)])
        if not self.lockstep:
            share = -(-self.free // (2 * max(1, len(live))))
            return self._give(worker, self._take(max(1, min(want or FIRST, share))))
        if not self.reserved.get(member):
            self._deal(worker, want, live)
        columns = self.reserved.get(member)
        return self._give(worker, columns.pop(0)) if columns else []

    def _give(self, worker: Worker, runs: list[Run]) -> list[Run]:
        rank, member = worker
        if runs:
            self.holdings.setdefault(member, Holding(rank)).runs += runs
        return runs

    def _deal(self, worker: Worker, want: int, live: Sequence[Worker]) -> None:
        """Reserve a block of clocks, a column for each worker: for all that may come, until members come or go."""
        everybody = tuple(member for _, member in live)
        self.moved |= bool(self.among) and self.among != everybody
        self.among = everybody
        active = {member for member, holding in self.holdings.items() if not holding.back}
        members = [one[1] for one in live if one == worker or not self.moved or one[1] in active]
        if worker not in live:
            members.append(worker[1])
        number = len(members)
        clocks = max(want, self.least) if self.least else min(want or FIRST, -(-self.free // (2 * number)))
        block = self._take(max(1, clocks) * number)
        for place, member in enumerate(members):
            if mine := column(block, place, number):
                self.reserved.setdefault(member, []).append(mine)

    def _take(self, number: int) -> list[Run]:
        """Take cells that nobody has: what was used before by somebody who is gone comes first."""
        if self.pool:
            found, rest = split(self.pool, min(number, MOST_AT_ONCE))
            self.pool = [*found[MOST_RUNS:], *rest]
            return found[:MOST_RUNS]
        number = min(number, self.cells - self.next)
        first, self.next = self.next, self.next + number
        return [(first, 1, number)] if number else []

    def release(self, member: int, live: Iterable[int]) -> None:
        """A worker has nothing left to do: let go of what is kept for others that do not come for it."""
        holding, here = self.holdings.get(member), set(live)
        for other in list(self.reserved):
            if self.moved or (holding and holding.used and other not in self.holdings):
                self._return([run for runs in self.reserved.pop(other) for run in runs])
                self.moved = True
        ranks = {self.holdings[each].rank for each in here if each in self.holdings}
        for rank in [rank for rank in self.owed if rank not in ranks]:
            self._return([(self.owed.pop(rank), 1, 1)])

    def _return(self, runs: Sequence[Run]) -> None:
        """Have cells be anybody's, in their order."""
        if runs:
            self.pool = runs_of(sorted(each([*self.pool, *runs])))

    # Coming back

    def give_back(self, member: int, *, frozen: bool, gone: bool = False) -> None:
        """A member has ended with the course, or is ``gone``: what it did not use is anybody's."""
        holding = self.holdings.get(member)
        runs = [run for runs in self.reserved.pop(member, ()) for run in runs]
        self.moved |= gone or bool(runs) or bool(holding and holding.left)
        self._return([*(holding.give_back() if holding else ()), *runs])
        if holding is not None and not frozen:
            holding.settle()
        if gone and holding is not None:
            del self.holdings[member]
            self.gone |= {member: holding} if frozen else {}

    # Checkpoints

    def settle(self) -> None:
        """What is used so far counts in every checkpoint from now on."""
        self.gone = {}
        for holding in self.holdings.values():
            holding.settle()

    def open_at(
        self, counted: Callable[[int], int], points: Mapping[int, Sequence[Point]]
    ) -> tuple[list[Run], dict[int, int]]:
        """Return what is not used in a checkpoint, and of each rank the cell that it was at.

        ``counted`` returns how many clocks of a rank are in it, ``points`` has what members have told for it.
        """
        found = list(self.pool)
        found += [run for columns in self.reserved.values() for runs in columns for run in runs]
        owed = dict(self.owed)
        for member, holding in self.gone.items():  # what it did not use is in the pool
            at = holding.counted(counted(holding.rank), points.get(member, ()), beyond=False)
            found += split(split(holding.runs, at - holding.first)[1], holding.used - at)[0]
        for member, holding in self.holdings.items():
            rank = holding.rank
            beyond = self.lockstep or member in points
            at = holding.counted(counted(rank), points.get(member, ()), beyond=beyond)
            rest = split(holding.runs, at - holding.first)[1]
            if rest and not self.lockstep:
                [(cell, _, _)], rest = split(rest, 1)
                owed[rank] = cell
            found += rest
        return [*runs_of(sorted(each(found))), (self.next, 1, self.cells - self.next)], owed

    @staticmethod
    def resumed(grid: int, cells: int, lockstep: bool, least: int, runs: Iterable[Run], owed: dict[int, int]) -> Course:
        """Return a course of which these cells are not used."""
        course = Course(grid, cells, lockstep, least, next=cells, owed=owed)
        course.pool = [run for run in runs if run[2]]
        while course.pool and course.pool[-1][1] == 1 and sum(course.pool[-1][::2]) == course.next:
            course.next = course.pool.pop()[0]
        return course

    # Across restarts

    def dump(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "numbers": [self.grid, self.cells, self.lockstep, self.least, self.next, self.moved],
            "pool": self.pool,
            "owed": list(self.owed.items()),
            "reserved": list(self.reserved.items()),
            "holdings": [[member, holding.dump()] for member, holding in self.holdings.items()],
            "among": self.among,
        }

    @staticmethod
    def load(values: Mapping[str, Any]) -> Course:
        """Return what ``dump`` wrote."""
        grid, cells, lockstep, least, first, moved = values["numbers"]
        return Course(
            grid,
            cells,
            lockstep,
            least,
            first,
            _runs(values["pool"]),
            dict(values["owed"]),
            {member: [_runs(runs) for runs in columns] for member, columns in values["reserved"]},
            {member: Holding.load(row) for member, row in values["holdings"]},
            {},
            tuple(values["among"]),
            moved,
        )


def _runs(values: Iterable[Sequence[int]]) -> list[Run]:
    return [(first, stride, number) for first, stride, number in values]

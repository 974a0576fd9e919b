"""Leases: which worker gets which batches, of all courses of a job. Messages and reports in, messages out.

A lease is handed out on request, and the request for the next one comes while the one before is used, so that nobody
waits for the scheduler. What is used workers say with their heartbeats and with each request; what a worker had not
used that is gone, or has broken off, is handed out anew. Whoever has nothing left to do waits until all of the course
is used, in case the holder of the rest dies.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, TypeAlias

from ps.dataclass import dataclass
from ps.errors import BadMessage
from ps.protocol.messages import Lease, LeaseRequest
from ps.server.scheduler.cells import Run
from ps.server.scheduler.course import Course, Worker
from ps.server.scheduler.holding import Point
from ps.server.scheduler.member_record import MemberRecord
from ps.server.send import Send

log = logging.getLogger("ps.scheduler")

MOST_COURSES = 1000
"""Courses under way at once."""
MOST_SHAPES = 100
"""Different data and batch sizes of which it is remembered which calls are over."""
MOST_LEAST = 1 << 16

Shape: TypeAlias = tuple[int, int]
"""(examples, batch size) of a call."""
Key: TypeAlias = tuple[int, Shape]
"""(which call of its script it is, its shape)."""


@dataclass(frozen=True, slots=True)
class Among:
    """The workers that a lease is handed out among: who is live, by rank, and who of them waits in a barrier."""

    live: tuple[Worker, ...] = ()
    idle: frozenset[int] = frozenset()
    ending: bool = False
    """Whether training is to end early: then nothing is handed out any more."""


AmongNow: TypeAlias = Callable[[], Among]
"""Returns these. It goes through all members, so it is called only where somebody waits."""


@dataclass(slots=True)
class Asked:
    """A request that waits."""

    worker: Worker
    message: LeaseRequest


@dataclass(slots=True)
class Leases:
    """Those of a job. ``bounded``: nobody may be many clocks ahead; ``elastic``: workers are to come and go."""

    lockstep: bool = True
    bounded: bool = False
    elastic: bool = False
    courses: dict[Key, Course] = field(default_factory=dict)
    over: dict[Shape, tuple[int, int, int]] = field(default_factory=dict)
    """The last call of a shape that is over, with all before it, how many cells it had, and its grid."""
    skip: int = 0
    """Cells that are counted already of courses to come, where a checkpoint does not say which."""
    changed: bool = False
    _parked: dict[int, Asked] = field(default_factory=dict)
    _answers: dict[int, Lease] = field(default_factory=dict)
    """Member -> what it was answered last, in case that was lost."""
    closed: dict[Key, Course] = field(default_factory=dict)
    """The courses that are over since that checkpoint began."""
    _cut: int = 0
    """The checkpoint that is being made: until it is, what is used since it began is remembered."""

    # Events

    def ask(self, record: MemberRecord, message: LeaseRequest, among: AmongNow) -> list[Send]:
        """A worker asks for a lease, or gives back what it has. Raises BadMessage for what cannot be."""
        member, worker = record.member, (record.rank, record.member)
        last = self._answers.get(member)
        if last is not None and last.request >= message.request:
            return [Send(member, last)] if last.request == message.request else []
        if message.cells < 1 or message.grid < 1 or message.examples < 1:
            raise BadMessage("a course has at least one batch")
        course = self.courses.get(_key(message)) or self._begin(message)
        self.changed = True
        if course is None:
            return [self._answer(member, message, None, "end")]
        if message.grid == course.grid:
            course.cells = max(course.cells, message.cells)  # others wanted fewer epochs
        if (holding := course.holdings.get(member)) is not None:
            holding.hear(message.used, message.clock, frozen=bool(self._cut))
        if message.wait == "back":
            course.give_back(member, frozen=bool(self._cut))
            self._parked.pop(member, None)
            return [self._answer(member, message, course, "end"), *self.look(among)]
        self._parked[member] = Asked(worker, message)
        sends = self.look(among)
        if message.wait == "no" and self._parked.pop(member, None) is not None:
            sends.append(self._answer(member, message, course, "none"))
        return sends

    def hear(self, record: MemberRecord, rows: Iterable[Sequence[int]], among: AmongNow) -> list[Send]:
        """Take what a worker reports of its courses: (call, used, clock, 1 if it has ended with it)."""
        said, news = {row[0]: row for row in rows}, False
        for (call, _), course in self.courses.items():
            holding = course.holdings.get(record.member)
            if holding is None or holding.back:
                continue
            _, used, clock, ended = said.get(call, (call, 0, 0, 1))
            news |= holding.hear(used, clock, frozen=bool(self._cut))
            if ended:
                course.give_back(record.member, frozen=bool(self._cut))
                news = self.changed = True
        return self.look(among) if news else []

    def lose(self, member: int, among: AmongNow) -> list[Send]:
        """A worker is gone."""
        self._parked.pop(member, None)
        self._answers.pop(member, None)
        for course in self.courses.values():
            if member in course.holdings or member in course.reserved:
                course.give_back(member, frozen=bool(self._cut), gone=True)
                self.changed = True
        return self.look(among)

    def look(self, among: AmongNow) -> list[Send]:
        """Answer who waits and can be answered by now."""
        if not self._parked:
            return []
        sends, workers = list[Send](), among()
        for member in sorted(self._parked, key=lambda each: self._parked[each].worker):
            asked = self._parked[member]
            if (send := self._look_at(asked, workers)) is not None:
                del self._parked[member]
                sends.append(send)
                self.changed = True
        return sends

    def _look_at(self, asked: Asked, among: Among) -> Send | None:
        worker, message = asked.worker, asked.message
        member, course = worker[1], self.courses.get(_key(message))
        if course is None or among.ending:
            return self._answer(member, message, course, "end")
        holding = course.holdings.get(member)
        if holding is not None and holding.back:
            return self._answer(member, message, course, "end")
        runs = course.grant(worker, message.want, among.live)
        if not runs and message.wait != "no":
            course.release(member, [each for _, each in among.live])
            runs = course.grant(worker, message.want, among.live)
        if runs:
            course.holdings[member].begin(message.clock)
            lease = Lease(message.request, "cells", course.grid, course.free + course.kept_for(member), tuple(runs))
            self._answers[member] = lease
            return Send(member, lease)
        if message.wait == "no":
            return None
        if not course.open:
            self._close(_key(message))
            return self._answer(member, message, course, "end")
        others = [other for other in course.holders if other != member]
        if not set(others) - among.idle:
            return self._answer(member, message, course, "end")
        if message.wait == "here" and self._must_step_aside(course, others, message.clock):
            return self._answer(member, message, course, "aside")
        return None

    def _must_step_aside(self, course: Course, others: Iterable[int], clock: int) -> bool:
        """Whether others cannot end without this worker, as they would wait for it, or it has to let them go on."""
        return self.bounded or (self.lockstep and any(course.end_of(other) > clock for other in others))

    def _answer(self, member: int, message: LeaseRequest, course: Course | None, state: Any) -> Send:
        lease = self._answers[member] = Lease(message.request, state, course.grid if course else message.grid, 0, ())
        return Send(member, lease)

    # Courses

    def _begin(self, message: LeaseRequest) -> Course | None:
        """Return a course that nobody is in yet, unless it is over."""
        call, shape = key = _key(message)
        last, used, grid = self.over.get(shape, (-1, 0, 0))
        is_longer = message.cells > used and message.grid == grid
        if message.wait == "back" or call < last or (call == last and not is_longer):
            return None
        for other in [other for other in self.courses if other[1] == shape and other[0] < call]:
            if not self.courses[other].is_active:  # all have broken it off
                self._close(other)
        if len(self.courses) >= MOST_COURSES:
            raise BadMessage(f"{MOST_COURSES} calls of kv.batches are under way, which is too many")
        if any(other[0] == call and self.courses[other].is_active for other in self.courses):
            log.warning(
                "workers call kv.batches with different data or batch sizes: each group of those with the "
                "same shares its examples out by itself"
            )
        skipped = used if call == last else min(self.skip, message.cells)
        self.skip -= 0 if call == last else skipped
        least = min(MOST_LEAST, -(-message.cells // (message.grid * max(1, message.epochs))))
        self.courses[key] = self.course(message.grid, message.cells, least, [(skipped, 1, message.cells - skipped)], {})
        if skipped == message.cells:
            self._close(key)
        return self.courses.get(key)

    def course(self, grid: int, cells: int, least: int, runs: Iterable[Run], owed: dict[int, int]) -> Course:
        """Return a course of which these cells are not used."""
        return Course.resumed(grid, cells, self.lockstep, 0 if self.elastic else least, runs, owed)

    def _close(self, key: Key) -> None:
        call, shape = key
        course = self.courses.pop(key)
        if self._cut:
            self.closed[key] = course
        mine = call, course.cells, course.grid
        self.over[shape] = max(mine, self.over.pop(shape, (-1, 0, 0)))
        while len(self.over) > MOST_SHAPES:
            del self.over[next(iter(self.over))]

    # Checkpoints

    def follow(self, cut: int) -> None:
        """Have it remembered what is used since the checkpoint ``cut`` began; 0: none is being made."""
        if cut != self._cut:
            self._cut, self.closed = cut, {}
            for course in self.courses.values():
                course.settle()

    # What is shown

    def waits(self) -> list[tuple[list[int], list[int]]]:
        """Return which ranks wait for the cells of which others."""
        found: dict[Key, tuple[list[int], list[int]]] = {}
        for asked in self._parked.values():
            key = _key(asked.message)
            if (course := self.courses.get(key)) is not None:
                whom = [course.holdings[each].rank for each in course.holders if each in course.holdings]
                found.setdefault(key, ([], whom))[0].append(asked.worker[0])
        return list(found.values())

    # Across restarts

    def dump(self) -> dict[str, Any]:
        """Return it as plain values; those that wait ask again."""
        answers = [[member, [a.request, a.state, a.grid, a.left, a.runs]] for member, a in self._answers.items()]
        return {
            "kind": [self.lockstep, self.bounded, self.elastic, self.skip],
            "courses": [[call, shape, course.dump()] for (call, shape), course in self.courses.items()],
            "over": [[shape, last] for shape, last in self.over.items()],
            "answers": answers,
        }

    @staticmethod
    def load(values: Mapping[str, Any]) -> Leases:
        """Return what ``dump`` wrote."""
        lockstep, bounded, elastic, skip = values["kind"]
        leases = Leases(lockstep, bounded, elastic, skip=skip)
        leases.courses = {(call, _shape(shape)): Course.load(row) for call, shape, row in values["courses"]}
        leases.over = {_shape(shape): (call, used, grid) for shape, (call, used, grid) in values["over"]}
        for member, (request, state, grid, left, runs) in values["answers"]:
            leases._answers[member] = Lease(request, state, grid, left, tuple((a, b, c) for a, b, c in runs))
        return leases


def _key(message: LeaseRequest) -> Key:
    return message.course, (message.examples, message.batch)


def _shape(values: Sequence[int]) -> tuple[int, int]:
    one, two = values
    return one, two


def points_of(about: Any) -> dict[int, list[Point]]:
    """Return what a worker has told of its steps for a checkpoint: call -> points; nothing of what is malformed."""
    found: dict[int, list[Point]] = {}
    for row in about if isinstance(about, list | tuple) else ():
        if isinstance(row, list | tuple) and len(row) == 3 and all(type(n) is int and n >= 0 for n in row):
            found.setdefault(row[0], []).append((row[1], row[2]))
    return found

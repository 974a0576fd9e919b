"""LeasedCourse: the batches of one call of ``kv.batches``, as the scheduler hands them out to this worker.

While a lease is used the next one is asked for, so that a step waits for none. A batch is used once its step is done:
the k-th step since the call is that of the k-th batch. LeaseLink: what that needs of a worker's connection.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from ps.dataclass import dataclass
from ps.errors import BadMessage, PeerLost, PSError
from ps.protocol.error_codes import refusal
from ps.protocol.messages import Error, Lease, LeaseRequest
from ps.protocol.messages.words import LeaseWait
from ps.worker.request_ahead import RequestAhead

log = logging.getLogger("ps.worker")

WORTH = 5.0
"""Seconds of work that a lease is to be; a worker asks the scheduler about once in so many."""
MOST_WANTED = 1 << 20
TICK = 0.1
MOST_ENDED = 20
SAMPLE = 16
"""Steps over which it is looked how many batches a step takes."""
MOST_POINTS = 30
"""Jumps of the clock that are remembered of a course, for a checkpoint."""


class LeaseLink(Protocol):
    """A worker's connection, as far as leases need it."""

    @property
    def member(self) -> int: ...

    @property
    def clock(self) -> int: ...

    @property
    def patience(self) -> float:
        """Seconds of a scheduler's silence after which nobody waits for it."""
        ...

    def check(self) -> None:
        """Raise what has ended this worker's membership; on the script's thread also what interrupts it."""
        ...

    @property
    def silence(self) -> float: ...

    def begin(self, make: Callable[[int, int], LeaseRequest]) -> RequestAhead:
        """Ask the scheduler; ``make`` takes the request's number and this member's id."""
        ...

    def step_aside(self) -> None:
        """Have servers not wait for this worker."""
        ...

    def come_back(self) -> None:
        """Take part again, from the next clock and with its weights."""
        ...

    def at_rest(self, *, resting: bool) -> None:
        """Say that the script waits, and nothing of what it keeps changes, or that it goes on."""
        ...


@dataclass(frozen=True, slots=True)
class BatchesCall:
    """Which call of ``kv.batches`` it is: the number of it, what all workers give, and how an epoch would be cut."""

    number: int
    examples: int
    batch_size: int
    epochs: int
    grid: int
    steps: int
    """Batches of an epoch in each share, where it is cut so."""


class LeasedCourse:
    """One worker's part of a course. ``cells`` may be read on another thread than the script's."""

    def __init__(self, link: LeaseLink, call: BatchesCall) -> None:
        self._link = link
        self.call = call
        self.grid = call.grid
        self._member = link.member
        self._cells = deque[tuple[int, int, int]]()
        self._next: RequestAhead | None = None
        self._taken = 0
        """Batches that were given to the script, of those that this member was handed out."""
        self._passed = 0
        """Taken before this process was taken for dead and came back; they are not of this member's."""
        self.point = 0, link.clock
        """How many batches were used, and the clock of the step that the next one is for; set at once."""
        self.jumps: deque[tuple[int, int]] = deque(maxlen=MOST_POINTS)
        """Points at which the clock was not one more for one more batch."""
        self.waiting: float | None = None
        """Since when more batches are waited for."""
        self._steps = self._given = self._before = 0
        """Steps, batches that the script has got, and those of them that it had when it was last looked at."""
        self._closed = False
        self._asked = False
        self._begun, self._count, self._want = 0.0, 0, 0
        self._owner = threading.get_ident()

    # Going through

    def open(self) -> int:
        """Return into how many shares an epoch is cut, which whoever came first has said."""
        self._more()
        return self.grid

    def cells(self) -> Iterator[int]:
        """Yield the numbers of this worker's batches, until there are none at this time."""
        while not self._closed:
            if self._member != self._link.member:
                self._begin_anew()
            if not self._cells and not self._more():
                return
            first, stride, number = self._cells.popleft()
            if number > 1:
                self._cells.appendleft((first + stride, stride, number - 1))
            self._taken += 1
            self._given += 1
            yield first

    def _begin_anew(self) -> None:
        """This process was declared dead and is another member now: what it was handed out others have."""
        self._member = self._link.member
        self._passed += self._taken - self.point[0]
        self._cells.clear()
        self._taken, self.point = 0, (0, self._link.clock)
        self.jumps.clear()
        self._drop()

    def _drop(self) -> None:
        if self._next is not None:
            self._next.close()
            self._next = None

    def stepped(self, clock: int) -> None:
        """A step is done, and ``clock`` in all; it was that of the next batch, if one was taken."""
        self._steps += 1
        if self._steps in (SAMPLE, 2 * SAMPLE):
            self._look_at_pace()
        used, before = self.point
        if self._passed:
            self._passed -= 1
        elif used < self._taken:
            if clock != before + 1:
                self.jumps.append((used, clock - 1))
            self.point = used + 1, clock

    def _look_at_pace(self) -> None:
        """Warn where steps take more batches than one each: which of them are used is then known at the end alone."""
        given, self._before = self._given - self._before, self._given
        if self._steps > SAMPLE and given >= 2 * SAMPLE:
            log.warning(
                "this script takes %d batches of kv.batches for %d steps, and a batch counts as used with its own "
                "step: where a worker dies, or a checkpoint is gone on from, some are used again. Take batches as "
                "large as a step, and cut them into micro-batches in the script",
                given,
                SAMPLE,
            )

    def _more(self) -> bool:
        """Have a further lease, if there is one without waiting for other workers."""
        if self._closed or self._cells:
            return bool(self._cells)
        pending = self._next = self._next or self._ask("no")
        lease = self._await(pending)
        return lease is not None and self._take(lease)

    def _await(self, pending: RequestAhead) -> Lease | None:
        """Return the answer to a request; None where the course was closed meanwhile. Raises PeerLost."""
        self.waiting = began = time.monotonic()
        link = self._link
        answer, wait = pending.look(), 0.0
        try:
            while answer is None:
                if self._closed:
                    return None
                link.check()
                if (now := time.monotonic()) - began > link.patience and link.silence > link.patience:
                    raise PeerLost(f"waited {now - began:.0f} s for examples, but the scheduler is silent")
                wait = TICK
                answer = pending.look(wait)
        finally:
            self.waiting = None
        pending.close()
        self._next = None
        if isinstance(answer, Error):
            raise refusal(answer)
        if not isinstance(answer, Lease):
            raise BadMessage(f"the scheduler answered {answer!r}; expected Lease")
        return answer

    def _take(self, lease: Lease) -> bool:
        """Take what a lease has; return whether it has any. Ask for the next one, if there may be one."""
        self.grid = lease.grid
        if any(number < 1 for _, _, number in lease.runs):
            raise BadMessage(f"the scheduler answered {lease!r}; expected at least one batch in each run")
        if lease.state != "cells" or self._member != self._link.member:
            return False
        now = time.monotonic()
        if self._count:
            self._measure((now - self._begun) / self._count)
        self._begun, self._count = now, sum(number for _, _, number in lease.runs)
        self._cells.extend(lease.runs)
        if lease.left:
            self._next = self._ask("no")
        return True

    def _measure(self, seconds: float) -> None:
        """Want as many batches as are worth so long; at most twice as many as last time."""
        fit = int(WORTH / seconds) if seconds > WORTH / MOST_WANTED else MOST_WANTED
        self._want = max(1, min(fit, 2 * max(self._count, self._want), MOST_WANTED))

    def _ask(self, wait: LeaseWait) -> RequestAhead:
        call, (used, clock) = self.call, self.point
        steps = call.steps * call.epochs * call.grid
        shape = call.number, call.examples, call.batch_size, call.epochs, call.grid, steps
        want, self._asked = self._want, True

        def make(number: int, member: int) -> LeaseRequest:
            return LeaseRequest(number, member, *shape, used, clock, want, wait)

        return self._link.begin(make)

    # The end

    def finish(self) -> bool:
        """All batches were gone through that there were; return whether there are more.

        It waits until all are used that others have, in case that one of them dies. The script's thread alone calls it.
        Without a scheduler it is not waited for.
        """
        if threading.get_ident() != self._owner:
            return False
        self._drop()
        self._link.at_rest(resting=True)
        self._passed += self._taken - self.point[0]  # their steps may be noted later, or they were left out
        self.point = self._taken, self._link.clock
        self._count = 0
        try:
            lease = self._wait_for_all()
        finally:
            self._link.at_rest(resting=False)
        self.point = self._taken, self._link.clock
        return lease is not None and self._take(lease)

    def _wait_for_all(self) -> Lease | None:
        wait: LeaseWait = "here"
        try:
            lease = self._await(self._ask(wait))
            if lease is not None and lease.state == "aside":
                self._link.step_aside()
                wait = "aside"
                lease = self._await(self._ask(wait))
        except PeerLost as error:
            if type(error) is not PeerLost:
                raise
            log.warning("%s. Whether all examples of this epoch were used is not known", error)
            lease = None
        except PSError:
            raise
        except BaseException:
            if wait == "aside":
                self._link.come_back()
            raise
        if wait == "aside":
            self._link.come_back()
        return lease

    def close(self) -> None:
        """Nothing more is wanted: what is not used is others'. Does not wait, and never raises PSError."""
        if not self._closed:
            self._closed = True
            self._drop()
            if self._asked:
                with contextlib.suppress(PSError):  # a clock that a server made up may be none that can be said
                    self._ask("back").close()


def reported(courses: Courses | None) -> dict[str, Any]:
    """Return what heartbeats say of a worker's courses, if batches are handed out to it."""
    return {} if courses is None else courses.report()


class Courses:
    """The courses that a worker is in."""

    def __init__(self, link: LeaseLink) -> None:
        self._link = link
        self._open: list[LeasedCourse] = []
        self._ended = deque[LeasedCourse](maxlen=MOST_ENDED)
        """The last ones that it is in no more, in case the word of that is lost."""

    def begin(self, call: BatchesCall) -> LeasedCourse:
        """Return the worker's part of a course that it comes to."""
        course = LeasedCourse(self._link, call)
        self._open = [*self._open, course]
        return course

    def end(self, course: LeasedCourse) -> None:
        """It has ended with it."""
        self._ended.append(course)
        self._open = [each for each in self._open if each is not course]
        course.close()

    def stepped(self, clock: int) -> None:
        """A step is done, with a batch of each."""
        for course in self._open:
            course.stepped(clock)

    # On another thread

    def report(self) -> dict[str, Any]:
        """Return how far the worker is, for its heartbeats."""
        over = {id(each): each for each in self._ended.copy()}
        rows = [[each.call.number, *each.point, 0] for each in self._open if id(each) not in over]
        return {"leases": [*rows, *([each.call.number, *each.point, 1] for each in over.values())]}

    def steps(self) -> list[list[int]]:
        """Return with which clocks batches were used, for a checkpoint: (call, used, clock)."""
        known = [*self._ended.copy(), *self._open]
        return [[each.call.number, *point] for each in known for point in (*each.jumps.copy(), each.point)]

    @property
    def waiting(self) -> float | None:
        """Since when the worker waits for batches, if it does."""
        return next((each.waiting for each in self._open if each.waiting is not None), None)

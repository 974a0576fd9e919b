"""ClusterLink: how a worker of a cluster asks for leases, and stands aside while others use theirs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from ps.config.sharing import by_leases
from ps.protocol.messages import LeaseRequest
from ps.worker.conversation import Conversation
from ps.worker.interrupt import HOLD
from ps.worker.leases import Courses
from ps.worker.participation import Participation
from ps.worker.request_ahead import RequestAhead
from ps.worker.session import Session


class SteppingStore(Protocol):
    """The store whose steps are taken with the batches."""

    @property
    def clock(self) -> int: ...

    def drain(self) -> None: ...

    def settle(self) -> None: ...


class ClusterLink:
    """That of one worker."""

    def __init__(
        self,
        session: Session,
        store: SteppingStore,
        part: Participation,
        run: Callable[[Conversation[None]], None],
    ) -> None:
        self._session = session
        self._store = store
        self._part = part
        self._run = run
        self._owner = threading.get_ident()

    @property
    def member(self) -> int:
        return self._session.member

    @property
    def clock(self) -> int:
        return self._store.clock

    @property
    def patience(self) -> float:
        return self._session.job.start_timeout

    @property
    def silence(self) -> float:
        return self._session.silence

    def check(self) -> None:
        self._session.check()
        if threading.get_ident() == self._owner:
            HOLD.check()
            self._session.tend()

    def begin(self, make: Callable[[int, int], LeaseRequest]) -> RequestAhead:
        return RequestAhead(self._session.client, make)

    def step_aside(self) -> None:
        if self._session.connected:
            with HOLD:
                self._run(self._aside())

    def _aside(self) -> Conversation[None]:
        yield self._part.retire()

    def come_back(self) -> None:
        if self._session.connected:
            with HOLD:
                self._run(self._part.join(self._part.clock))

    def at_rest(self, *, resting: bool) -> None:
        plan = self._session.cut_plan
        if resting:
            if self._session.connected:
                with HOLD:
                    self._store.drain()
                    self._store.settle()
            plan.pause()
        else:
            plan.go_on(self._store.clock)


def courses_of(
    session: Session, store: SteppingStore, part: Participation, run: Callable[[Conversation[None]], None]
) -> Courses | None:
    """Return what hands batches out to a worker; None where that is not the scheduler's concern."""
    if not by_leases(session.job):
        return None
    courses = Courses(ClusterLink(session, store, part, run))
    session.cut_plan.steps, session.data_wait = courses.steps, lambda: courses.waiting
    return courses

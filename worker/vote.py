"""StepVote: whether the servers hold the gradients of all stages of a pipeline, so that a step may be taken everywhere.

Two-phase commit (Gray 1978) whose log is the servers' memory: gradients are given first, and only when every server has
said that all are there does a worker say for others' chunks that it has nothing for them, without which no clock of
these ends. So who is lost before has changed nothing anywhere, and who is lost later is needed for nothing but words.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ps.protocol.messages import Keep, Recall
from ps.worker.batch import Batch
from ps.worker.landing import Landing
from ps.worker.participation import Participation
from ps.worker.session import Session
from ps.worker.traffic import Traffic
from ps.xp import HostArray


class StepVote:
    """One worker's questions about the step after its clock."""

    def __init__(self, session: Session, part: Participation, traffic: Traffic) -> None:
        self._session = session
        self._part = part
        self._traffic = traffic
        self._asked = -1
        """The clock that was asked after."""
        self._batch = Batch()

    def ask(self) -> None:
        """Have the servers say when they hold all gradients of the next step."""
        if self._asked == self._part.clock:
            return
        asked = self._part.await_held()
        self._asked, self._batch = self._part.clock, Batch(asked.label)
        self._session.exchange.submit_all(self._batch, asked.calls)
        self._session.exchange.poll()

    def wait(self) -> None:
        """Return when they do."""
        self.ask()
        self._session.exchange.wait(self._batch)

    @property
    def held(self) -> bool:
        """Whether they are known to."""
        if self._asked != self._part.clock:
            return False
        self._session.exchange.poll()
        return self._batch.done and self._batch.error is None

    # Buffers, which a server keeps for whoever takes this worker's place

    @property
    def _server(self) -> int:
        job = self._session.job
        return job.place_of(self._session.rank) % job.servers

    def keep(self, clock: int, values: HostArray) -> None:
        """Have the buffers kept as they are after so many steps; uint8."""
        batch = Batch(f"the buffers of clock {clock} to be kept")
        make = partial(Keep, member=self._session.member, clock=clock)
        self._session.exchange.submit(batch, self._server, make, values)
        self._session.exchange.wait(batch)

    def recall(self, clock: int) -> HostArray:
        """Return the buffers that were kept after so many steps. Raises BadMessage where none were."""
        landing = Landing(None, self._traffic)
        batch = Batch(f"the buffers of clock {clock}", landing)
        make = partial(Recall, member=self._session.member, clock=clock)
        self._session.exchange.submit(batch, self._server, make)
        self._session.exchange.wait(batch)
        return np.empty(0, np.uint8) if landing.kept is None else landing.kept

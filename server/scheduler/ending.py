"""Ending: where training ends, once a worker has asked for that: one clock for all, or the end of a round. Pure.

In sync mode nobody may pass the clock at which the others end. So all workers are asked first how far they have begun,
and begin nothing beyond that until it is decided: at the highest of these, and at one step more than whoever asked had
done, which the others may have begun already. What those have said counts who are gone by then. In async and ssp each
worker ends before its next step, in a federated job with the round under way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from ps.errors import BadMessage
from ps.protocol.fitting import printable
from ps.protocol.messages import StopReady, StopRequest
from ps.protocol.messages.words import FailureCode, JobPhase, StopPhase
from ps.protocol.ranges import MOST_AHEAD
from ps.server.scheduler.member_record import MemberRecord
from ps.server.send import Send

MOST_REASON = 300
"""Characters of a reason."""

Finish: TypeAlias = Callable[[JobPhase, FailureCode, str], list[Send]]
"""Ends the job: its phase from now on, and a code and a reason if it has failed."""


class Ending:
    """Who has asked for the end of training, and what was decided."""

    def __init__(self) -> None:
        self.phase: StopPhase = ""
        self.clock = 0
        """Where it ends, once that is decided: a clock, or a version of a federated model; 0: where each worker is."""
        self.reason = ""
        self.by = ""
        self._limits: dict[int, int] = {}
        """Member -> the clock beyond which it begins no step before it is told where training ends."""

    @property
    def word(self) -> tuple[StopPhase, int, str]:
        """What all members are told."""
        return self.phase, self.clock, self.reason

    def ask(self, record: MemberRecord, message: StopRequest, *, together: bool, clock: int) -> None:
        """A worker asks for the end: at ``clock``, unless all end ``together``. The first counts."""
        if not self.phase:
            self.reason, self.by = printable(message.reason[:MOST_REASON]), str(record)
            self.phase, self.clock = ("asked", message.clock + 1) if together else ("decided", clock)

    def hear(
        self,
        record: MemberRecord,
        message: StopRequest | StopReady,
        live: Iterable[MemberRecord],
        *,
        together: bool,
        clock: int,
    ) -> bool:
        """A worker asks for the end, or says how far it is; return whether something is new by it."""
        word = self.word
        if isinstance(message, StopReady):
            self.ready(message)
        else:
            self.ask(record, message, together=together, clock=clock)
        self.decide(live)
        return self.word != word

    def ready(self, message: StopReady) -> None:
        """A worker says how far it has begun."""
        if self.phase == "asked":
            self._limits[message.member] = message.clock

    def decide(self, live: Iterable[MemberRecord]) -> None:
        """Decide if all live workers have said how far they are."""
        if self.phase == "asked" and all(record.member in self._limits for record in live):
            self.phase, self.clock = "decided", max(self.clock, *self._limits.values(), 0)

    def status(self) -> dict[str, Any] | None:
        """Return what ``psctl status`` shows of it, if it was asked for."""
        if not self.phase:
            return None
        return {"decided": self.phase == "decided", "clock": self.clock, "reason": self.reason, "by": self.by}

    def dump(self) -> list[Any]:
        """Return the state as plain values; what workers have said they say again."""
        return [self.phase, self.clock, self.reason, self.by]

    @staticmethod
    def load(values: list[Any]) -> Ending:
        """Return what ``dump`` wrote."""
        ending = Ending()
        ending.phase, ending.clock, ending.reason, ending.by = values
        return ending


def demand_near(clock: int, servers: Iterable[MemberRecord], what: str) -> None:
    """Raise BadMessage for a clock that no worker can have reached: all would go on with it."""
    counted = [number for record in servers if isinstance(number := record.report.get("clock"), int)]
    if counted and clock > max(counted) + MOST_AHEAD:
        raise BadMessage(f"{what} at clock {clock}, where servers have counted {max(counted)}")

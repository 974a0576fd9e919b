"""DrainDesk: whoever has asked for a server to be drained, until it is, or is not to be."""

from __future__ import annotations

from ps.protocol.messages import Drained, DrainRequest
from ps.server.scheduler.moving import why_not
from ps.server.scheduler.state import SchedulerState
from ps.server.send import Send

MOST_ASKERS = 1000


class DrainDesk:
    """Who asks again is answered once all the same."""

    def __init__(self) -> None:
        self._askers: list[tuple[bytes, int, int]] = []
        """Origin, request, and the server's rank."""

    def ask(self, origin: bytes, message: DrainRequest, state: SchedulerState) -> list[tuple[bytes, Send]]:
        """Somebody wants a server to be drained."""
        why = why_not(state)
        if not why:
            state.moves.model(state.seeding.layout, state.job)
            why = state.moves.drain(message.rank, state.roster)
        if not why and len(self._askers) >= MOST_ASKERS:
            why = "too many ask for it; it is drained all the same"
        if why:
            return [(origin, Send(origin, Drained(message.request, why)))]
        self._askers.append((origin, message.request, message.rank))
        return []

    def turn(self, state: SchedulerState) -> list[tuple[bytes, Send]]:
        """Answer those whose server is drained, or is not to be."""
        found = []
        for asker in list(self._askers):
            origin, request, rank = asker
            why = state.moves.outcome(rank, state.roster)
            if state.over:
                why = ": ".join(filter(None, ("the job is over", state.reason)))
            if why is not None:
                self._askers.remove(asker)
                found.append((origin, Send(origin, Drained(request, why))))
        return found

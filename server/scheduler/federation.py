"""Federation: what a scheduler does otherwise in a federated job, where clients come and go and servers come back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ps.config import JobConfig
from ps.errors import BadMessage
from ps.protocol.layout import Layout
from ps.protocol.messages import Decline, Distances, Message, Poll, RoundStatus, Submit, Wait
from ps.server.scheduler.member_record import LEFT, MemberRecord
from ps.server.scheduler.rounds.contributions import Out
from ps.server.scheduler.rounds.rounds import Rounds

SOON = 0.2
"""Seconds after which a client that comes before there is a model comes again."""

Count = Callable[[], int]
Find = Callable[[int], int]


class Federation:
    """The rounds of a job from its first model on."""

    def __init__(self, clients: Count, server: Find) -> None:
        """``clients`` counts the live clients; ``server`` returns a live server's member id by rank, 0 for none."""
        self.rounds: Rounds | None = None
        self._clients = clients
        self._server = server

    def begin(self, job: JobConfig, layout: Layout, now: float) -> None:
        """Begin the rounds: all servers have the first values."""
        if self.rounds is None:
            self.rounds = Rounds(job, layout, now, clients=self._clients, server=self._server)

    @property
    def failure(self) -> str:
        """Why the job cannot go on, if it cannot."""
        return self.rounds.failure if self.rounds else ""

    @property
    def unheard(self) -> set[int]:
        """The servers that have yet to say that they have their part of the model."""
        return self.rounds.durability.unheard if self.rounds else set()

    @property
    def done(self) -> bool:
        """Whether all rounds are published."""
        return self.rounds is not None and self.rounds.phase == "done"

    def receive(self, record: MemberRecord, message: Message, payload: Any, now: float) -> list[Out]:
        """Take a member's message about rounds. Raises BadMessage when it is none."""
        rounds = self.rounds
        if isinstance(message, Poll):
            record.report = message.report or record.report
        if record.role == "worker":
            match message:
                case Poll() if rounds is None:
                    return [(record.member, Wait(message.request, 0, SOON))]
                case Poll() if rounds is not None:
                    return list(rounds.poll(message, record.rank, now))
                case Submit() if rounds is not None:
                    return list(rounds.submit(message, record.rank, now))
                case Decline() if rounds is not None:
                    return list(rounds.decline(message, record.rank, now))
        elif rounds is not None:
            match message:
                case RoundStatus():
                    return list(rounds.server_status(message, record.rank, now))
                case Distances():
                    return list(rounds.distances(message, record.rank, payload, now))
        elif isinstance(message, RoundStatus):
            return []
        raise BadMessage(f"a scheduler has no use for {type(message).__name__} from {record}")

    def gone(self, record: MemberRecord, now: float) -> Iterable[Out]:
        """A member has left or died."""
        if self.rounds is None:
            return []
        if record.role == "server":
            return list(self.rounds.server_lost(record.rank, now))
        return list(self.rounds.client_lost(record.member, record.rank, now, left=record.state == LEFT))

    def tick(self, now: float) -> list[Out]:
        """Return what is to be said because time has passed."""
        return list(self.rounds.tick(now)) if self.rounds else []

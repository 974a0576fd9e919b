"""Pipelines: how the workers of each pipeline of a job find each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ps.protocol.messages import Neighbours, Rendezvous
from ps.server.scheduler.member_record import MemberRecord
from ps.server.send import Send


class Pipelines:
    """Who waits to hear where the others are. Where a worker is stays in its record, also across a restart; who waits
    asks again."""

    def __init__(self, token: Callable[[int, int], int]) -> None:
        """``token`` returns with what a member shows to another who it is."""
        self._token = token
        self._waiting: dict[int, int] = {}

    def meet(
        self, record: MemberRecord, message: Rendezvous, places: int, workers: Iterable[MemberRecord]
    ) -> list[Send]:
        """A worker says where it is; return what is said once all of its pipeline are there.

        ``places``: the workers of a pipeline; ``workers``: the live ones of the job.
        """
        record.addresses = message.addresses
        self._waiting[record.member] = message.request
        first = record.rank // places * places
        seats = {each.rank: each for each in workers if first <= each.rank < first + places and each.addresses}
        if len(seats) < places:
            return []
        return [
            Send(each.member, Neighbours(request, self._lines(each, seats.values())))
            for each in seats.values()
            if (request := self._waiting.pop(each.member, None)) is not None
        ]

    def _lines(
        self, record: MemberRecord, others: Iterable[MemberRecord]
    ) -> tuple[tuple[int, int, tuple[str, ...], int, int], ...]:
        me, token = record.member, self._token
        return tuple(
            (other.rank, other.member, other.addresses, token(me, other.member), token(other.member, me))
            for other in others
            if other is not record
        )

"""Pipelines: how the workers of each pipeline of a job find each other, and agree where the model is cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ps.protocol.messages import CutChosen, CutRequest, Neighbours, Rendezvous
from ps.server.scheduler.member_record import MemberRecord
from ps.server.send import Send


class Pipelines:
    """Who waits to hear where the others are, or where the model is cut. Where a worker is stays in its record, also
    across a restart; who waits asks again."""

    def __init__(self, token: Callable[[int, int], int]) -> None:
        """``token`` returns with what a member shows to another who it is."""
        self._token = token
        self._waiting: dict[int, int] = {}
        self.starts: tuple[int, ...] = ()
        """The first layer of each stage but the first, once somebody has measured where the model is best cut."""
        self._curious: dict[int, int] = {}
        """Who waits to hear of it, with the request."""

    def hear(
        self, record: MemberRecord, message: Rendezvous | CutRequest, places: int, workers: Iterable[MemberRecord]
    ) -> list[Send]:
        """Take what a worker says; ``places``: the workers of a pipeline; ``workers``: the live ones of the job."""
        if isinstance(message, CutRequest):
            return self._cut(message)
        return self._meet(record, message, places, workers)

    def _cut(self, message: CutRequest) -> list[Send]:
        """A worker asks where the model is cut, or says where it would; return what is said once that is known."""
        self.starts = self.starts or message.starts
        self._curious[message.member] = message.request
        if not self.starts:
            return []
        curious, self._curious = self._curious, {}
        return [Send(member, CutChosen(request, self.starts)) for member, request in curious.items()]

    def _meet(
        self, record: MemberRecord, message: Rendezvous, places: int, workers: Iterable[MemberRecord]
    ) -> list[Send]:
        """A worker says where it is; return what is said once all of its pipeline are there."""
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

"""Roster: the records of a job's members, live and gone, and which ranks are free."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from ps.server.scheduler.member_record import LIVE, MemberRecord

MAX_GONE = 1000
"""Records of members that are gone, at most; the oldest are forgotten first."""


class Roster:
    """Finds members by id, by role and rank, and by nonce, each in the same time however many there are."""

    def __init__(self) -> None:
        self.members: dict[int, MemberRecord] = {}
        """By id, in the order in which they came."""
        self.next = 1
        """The number of the next one to join."""
        self._by_rank: dict[str, dict[int, MemberRecord]] = {"server": {}, "worker": {}}
        """The live members by role and rank."""
        self._nonces: dict[int, MemberRecord] = {}
        self._free = {"server": 0, "worker": 0}
        """Role -> the rank below which none is free."""
        self._gone: deque[int] = deque()

    def live(self, role: str) -> list[MemberRecord]:
        """Return the live members of a role by rank."""
        ranks = self._by_rank[role]
        return [ranks[rank] for rank in sorted(ranks)]

    def count(self, role: str) -> int:
        """Return how many members of a role are live."""
        return len(self._by_rank[role])

    def at(self, role: str, rank: int) -> MemberRecord | None:
        """Return the live member of a role that has a rank."""
        return self._by_rank[role].get(rank)

    def id_of(self, role: str, rank: int) -> int:
        """Return the id of the live member of a role that has a rank, 0 if nobody has."""
        record = self.at(role, rank)
        return record.member if record else 0

    def known(self, nonce: int) -> MemberRecord | None:
        """Return the live member that came with a nonce."""
        return self._nonces.get(nonce)

    def last(self, role: str) -> MemberRecord | None:
        """Return who of a role went last, as far as that is remembered."""
        return next((self.members[m] for m in reversed(self._gone) if self.members[m].role == role), None)

    def silent(self, since: float) -> list[MemberRecord]:
        """Return the live members that were last heard before a time."""
        return [member for member in self._nonces.values() if member.seen < since]

    def __iter__(self) -> Iterator[MemberRecord]:
        """The live members, in the order in which they came."""
        return iter(list(self._nonces.values()))

    def free_rank(self, role: str) -> int:
        """Return the lowest rank that nobody has."""
        taken = self._by_rank[role]
        while self._free[role] in taken:
            self._free[role] += 1
        return self._free[role]

    def add(self, record: MemberRecord) -> None:
        """Take a new member, whose number is ``next``, or one from before a restart."""
        self.members[record.member] = record
        self.next = max(self.next, record.number + 1)
        if record.state == LIVE:
            self._by_rank[record.role][record.rank] = self._nonces[record.nonce] = record
        else:
            self._gone.append(record.member)

    def remove(self, record: MemberRecord) -> None:
        """A member is not live any more; its record is kept for a while."""
        self._by_rank[record.role].pop(record.rank, None)
        self._nonces.pop(record.nonce, None)
        self._free[record.role] = min(self._free[record.role], record.rank)
        self._gone.append(record.member)
        while len(self._gone) > MAX_GONE:
            del self.members[self._gone.popleft()]

    @staticmethod
    def of(records: Iterable[MemberRecord], next: int) -> Roster:
        """Return the roster with these records."""
        roster = Roster()
        for record in records:
            roster.add(record)
        roster.next = next
        return roster

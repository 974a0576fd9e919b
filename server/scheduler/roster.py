"""Roster: the records of a job's members, live and gone, and which ranks are free."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from ps.config import JobConfig
from ps.config.cut import MOST_SERVERS
from ps.server.scheduler.member_record import LIVE, MemberRecord

MAX_GONE = 1000
"""Records of members that are gone, at most; the oldest are forgotten first."""


class Roster:
    """Finds members by id, by role and rank, and by nonce, each in the same time however many there are."""

    def __init__(self, servers: int = MOST_SERVERS, replicas: int = 0) -> None:
        """``servers`` hold the model, each of which has so many ``replicas``, as far as is known yet."""
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
        self.seats: int | None = None
        """How many places there are for workers, where there is an end to that; who has a rank beyond is a spare.
        """
        self.seat_servers(servers, replicas)
        self.kept: dict[int, MemberRecord] = {}
        """Rank -> who is gone from a place that is kept for a spare: until somebody takes it all go on as if it were
        there."""

    def live(self, role: str) -> list[MemberRecord]:
        """Return the live members of a role by rank, without spares and standbys."""
        ranks = self._by_rank[role]
        return [ranks[rank] for rank in sorted(ranks) if not self._is_spare(role, rank)]

    def count(self, role: str) -> int:
        """Return how many members of a role are live, without spares and standbys."""
        ranks = self._by_rank[role]
        beside = self.has_standbys if role == "server" else self.seats is not None
        return len(ranks) - (sum(self._is_spare(role, rank) for rank in ranks) if beside else 0)

    @property
    def has_standbys(self) -> bool:
        """Whether servers have standbys in this job, be they here or not."""
        return self.all_servers > self.server_seats

    @property
    def standbys(self) -> list[MemberRecord]:
        """The live servers that are there to go on for another."""
        return [record for rank, record in self._by_rank["server"].items() if self._is_spare("server", rank)]

    def is_standby(self, record: MemberRecord) -> bool:
        """Whether one is a server that does not hold the model."""
        return record.role == "server" and self._is_spare("server", record.rank)

    def has_servers(self, job: JobConfig) -> bool:
        """Whether all servers are here that a job begins with."""
        return self.count("server") >= job.servers and len(self._by_rank["server"]) >= job.all_servers

    @property
    def spares(self) -> list[MemberRecord]:
        """The live workers that wait for a place, the one first that came first."""
        found = (record for rank, record in self._by_rank["worker"].items() if self._is_spare("worker", rank))
        return sorted(found, key=lambda record: record.number)

    def _is_spare(self, role: str, rank: int) -> bool:
        if role == "server":
            return self.has_standbys and rank >= self.server_seats
        return self.seats is not None and role == "worker" and rank >= self.seats

    def shown(self, role: str) -> list[MemberRecord]:
        """Return whom the members are told of: the live, and who is gone from a place that is kept."""
        live = list(self._by_rank[role].values())
        return [*live, *self.kept.values()] if role == "worker" else live

    def deal(self, job: JobConfig | None) -> None:
        """Learn how many places the job has."""
        limited = job is not None and (job.pipeline or job.min_workers is not None)
        self.seats = job.workers if job is not None and limited else None
        if job is not None:
            self.seat_servers(job.servers, job.replicas)
        if job is None:
            self.kept.clear()

    def seat_servers(self, servers: int, replicas: int) -> None:
        """Learn how many servers hold the model, and how many standbys each has."""
        self.server_seats = servers
        """Where there are standbys, one with a rank beyond is one of them."""
        self.all_servers = servers * (1 + replicas)

    def take_place(self, record: MemberRecord, rank: int) -> None:
        """Give a spare, or a standby, a place, as if it had just come: of several that had one the latest counts."""
        role = record.role
        old, record.rank, record.number = record.rank, rank, self.next
        self.next += 1
        del self._by_rank[role][old]
        self._by_rank[role][rank] = record
        self._free[role] = min(self._free[role], old)

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
    def of(records: Iterable[MemberRecord], next: int, gone: Sequence[int] = ()) -> Roster:
        """Return the roster with these records; ``gone``: the members that are, in the order in which they went."""
        roster = Roster()
        for record in records:
            roster.add(record)
        roster.next = next
        places = {member: place for place, member in enumerate(gone)}
        roster._gone = deque(sorted(roster._gone, key=lambda member: places.get(member, -1)))
        return roster

    @property
    def gone(self) -> list[int]:
        """The members that are gone and still known, in the order in which they went."""
        return list(self._gone)

"""ChunkMoves: which server has which chunk, and which chunks are to move. No sockets, no clock, no disk.

Servers that come get their share of a model, and one that is drained gives all that it has to the others. The plan
follows from who is there (``balance``); of it each server is told a few chunks for one other server at a time, and the
next ones once it has handed these over. It does so without the scheduler, which learns of it afterwards: what is
written here of a chunk may be late, and whoever goes by it is told the rest by the server that had it.

A checkpoint is of chunks that lie still. So orders are taken back while one is to be made, and none are given before it
is; one that is only planned for some clock to come gives way, and is planned anew.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from ps.config.job import JobConfig
from ps.protocol.layout import Layout
from ps.protocol.messages import Elsewhere, MoveOrder, MoveReport, Placed
from ps.protocol.placement import packed, unpacked
from ps.server.scheduler.balance import balanced
from ps.server.scheduler.member_record import MemberRecord
from ps.server.scheduler.roster import Roster
from ps.server.send import Send

log = logging.getLogger("ps.scheduler")

BATCH = 16
"""Chunks in one order, at most."""
AGAIN = 1.0
"""Seconds after which an order is said again to a server that has not done it."""
PATIENCE = 20.0
"""Seconds for which a server that takes no chunks is tried."""


class ChunkMoves:
    """Of one job."""

    def __init__(self) -> None:
        self.draining: set[int] = set()
        """The ranks of servers that are to hand over all that they have."""
        self._drained: set[int] = set()
        """The ranks of those that have, for who asks again."""
        self.number = 0
        """Of the last order."""
        self.changed = False
        """Whether there is anything to be saved since that was last done."""
        self._elsewhere: dict[int, int] = {}
        self._packed: Elsewhere | None = None
        """The same as it travels, once that was made."""
        self._since: dict[int, int] = {}
        """Chunk -> the order by which it came to where it is."""
        self._sizes: tuple[int, ...] = ()
        self._servers = 0
        self._plan: dict[int, int] | None = None
        self._orders: dict[int, tuple[MoveOrder, float]] = {}
        """Server, by its rank -> what it is to do, and when it was told."""
        self._refused: dict[int, tuple[float, str]] = {}
        """Server -> since when it takes no chunks, and why."""
        self._known: frozenset[int] | None = None
        """The ranks of the servers that there were when the chunks were last planned."""
        self._still = False
        """Whether all is where it is to be, so that there is nothing to be looked for."""
        self._given_up: dict[int, str] = {}
        """Server -> why it is not drained after all."""

    def model(self, layout: Layout | None, job: JobConfig | None) -> None:
        """Learn what there is to be moved, once there is a model."""
        if layout is not None and job is not None and not self._sizes:
            cut = layout.cut(job)
            self._sizes, self._servers = tuple(chunk.nbytes for chunk in cut), job.servers

    def where(self, chunk: int) -> int:
        """Return the rank of the server that has a chunk, as far as is known here."""
        return self._elsewhere.get(chunk, chunk % self._servers)

    def holds(self, rank: int) -> int:
        """Return how many chunks a server has."""
        return sum(self.where(chunk) == rank for chunk in range(len(self._sizes)))

    @property
    def is_active(self) -> bool:
        """Whether a server has an order that it has not done."""
        return bool(self._orders)

    def placed(self, epoch: int) -> Placed | None:
        """Return what members are told of where chunks are; None while none has ever been to move."""
        if not self._elsewhere and not self.number:
            return None
        if self._packed is None:
            self._packed = packed(self._elsewhere)
        return Placed(epoch, self._packed)

    # What is asked for

    def drain(self, rank: int, roster: Roster) -> str:
        """Have a server give away all that it has; return why not, or nothing."""
        if roster.at("server", rank) is None:
            return "" if rank in self._drained else f"there is no server {rank}"
        if not {record.rank for record in roster.live("server")} - self.draining - {rank}:
            return f"server {rank} is the last one that is left"
        if rank not in self.draining:
            log.warning("server %d is to be drained: %d chunks go to others", rank, self.holds(rank))
            self.draining.add(rank)
            self._given_up.pop(rank, None)
            self._plan, self._refused, self.changed = None, {}, True
            self._still = False
        return ""

    def outcome(self, rank: int, roster: Roster) -> str | None:
        """Return what has become of a server that was to be drained: nothing, why it stays, or None: not known yet."""
        if (why := self._given_up.get(rank)) is not None:
            return why
        return "" if roster.at("server", rank) is None and rank not in self.draining else None

    # Events

    def tick(self, now: float, roster: Roster, *, rests: bool) -> list[Send]:
        """Give the orders that are due; with ``rests`` take back those that were given."""
        if not self._sizes:
            return []
        servers = {record.rank: record for record in roster.live("server")}
        if self._known is None:
            self._known, self._still = frozenset(servers), not self.draining
        elif self._known != servers.keys():
            self._known, self._plan, self._still = frozenset(servers), None, False
            self._refused, self.changed = {}, True
        sends: list[Send] = []
        for rank, (order, told) in list(self._orders.items()):
            if rank not in servers:
                del self._orders[rank]
            elif order.chunks and (rests or order.rank in self.draining):
                sends.append(self._order(servers[rank], None, (), now))
            elif now - told >= AGAIN:
                self._orders[rank] = order, now
                sends.append(Send(servers[rank].member, order))
        return sends if rests or self._still else [*sends, *self._next(servers, now)]

    def _next(self, servers: Mapping[int, MemberRecord], now: float) -> list[Send]:
        """Give each server that has nothing to do the next of the chunks that it is to hand over."""
        plan = self._planned(servers, now)
        todo: dict[int, dict[int, list[int]]] = {}
        for chunk, target in plan.items():
            source = self.where(chunk)
            if target != source and source in servers and source not in self._orders:
                todo.setdefault(source, {}).setdefault(target, []).append(chunk)
        sends = []
        for source, by_target in todo.items():
            target, chunks = next(iter(by_target.items()))
            if target in servers:
                sends.append(self._order(servers[source], servers[target], tuple(chunks[:BATCH]), now))
        busy = {order.rank for order, _ in self._orders.values() if order.chunks} | self._orders.keys()
        done = [rank for rank in (self.draining & servers.keys()) - busy if not self.holds(rank)]
        self._still = not (todo or done or self._orders or self.draining)
        return [*sends, *(self._order(servers[rank], None, (), now, leave=True) for rank in done)]

    def _planned(self, servers: Mapping[int, MemberRecord], now: float) -> Mapping[int, int]:
        if self._plan is None:
            where = {chunk: self.where(chunk) for chunk in range(len(self._sizes))}
            unfit = {rank for rank, (since, _) in self._refused.items() if now - since > PATIENCE}
            fit = servers.keys() - self.draining - unfit
            if not fit:
                reasons = "; ".join(why for _, why in self._refused.values())
                self._give_up(f"no other server takes its chunks: {reasons or 'there is none'}")
                fit = servers.keys() - unfit
            self._plan = balanced(self._sizes, where, fit) if fit else where
        return self._plan

    def _give_up(self, why: str) -> None:
        for rank in self.draining:
            log.warning("server %d is not drained: %s", rank, why)
            self._given_up[rank] = why
        self.draining, self.changed = set(), True

    def _order(
        self,
        source: MemberRecord,
        target: MemberRecord | None,
        chunks: tuple[int, ...],
        now: float,
        *,
        leave: bool = False,
    ) -> Send:
        self.number += 1
        self.changed = True
        to = (target.member, target.rank) if target is not None else (0, 0)
        order = MoveOrder(self.number, *to, chunks, leave)
        self._orders[source.rank] = order, now
        return Send(source.member, order)

    def hear(self, record: MemberRecord, report: MoveReport, now: float, roster: Roster) -> str:
        """Take where a server is; return why the job is lost, if it is. ``placed`` may be new then."""
        if report.state == "lost":
            return report.why or f"{record} has lost a chunk"
        for chunk, rank in report.handed:
            if chunk >= len(self._sizes) or self.where(chunk) != record.rank:
                continue
            if report.number > self._since.get(chunk, 0):
                self._since[chunk] = max(report.number, 1)
                self._place(chunk, rank)
                if roster.at("server", rank) is None:
                    return f"server {rank} is gone, and with it chunk {chunk}, which it had just taken over"
        order = self._orders.get(record.rank)
        if order is None or order[0].number != report.number:
            return ""
        target = order[0].rank
        if report.why and order[0].chunks:
            since, _ = self._refused.setdefault(target, (now, report.why))
            self._refused[target] = since, report.why
            if now - since > PATIENCE and self._plan is not None:
                log.warning("server %d gets no chunks: %s", target, report.why)
                self._plan, self._still = None, False
                self._order(record, None, (), now)  # said at the next look
                self._orders[record.rank] = self._orders[record.rank][0], -math.inf
                return ""
        elif report.handed:
            self._refused.pop(target, None)
        if report.state == "done" and not order[0].leave:
            del self._orders[record.rank]
        return ""

    def _place(self, chunk: int, rank: int) -> None:
        if rank == chunk % self._servers:
            self._elsewhere.pop(chunk, None)
        else:
            self._elsewhere[chunk] = rank
        self.changed, self._packed = True, None

    def lost(self, record: MemberRecord) -> bool:
        """A server is gone; return whether it had chunks, which are gone with it."""
        self._orders.pop(record.rank, None)
        self._refused.pop(record.rank, None)
        self._plan, self._still = None, False
        if not self._sizes or self.holds(record.rank):
            return True
        if record.rank in self.draining:
            log.warning("server %d is drained", record.rank)
            self.draining.discard(record.rank)
            self._drained.add(record.rank)
        else:
            log.warning("%s is gone, which had no chunks yet; what was on its way to it stays where it was", record)
        self.changed = True
        return False

    # For people, and across restarts

    def status(self) -> dict[str, Any] | None:
        """Return what the status shows; None where nothing has ever moved, or is to."""
        if not self._elsewhere and not self.draining and not self.is_active:
            return None
        plan = self._plan or {}
        return {
            "moved": len(self._elsewhere),
            "draining": sorted(self.draining),
            "left": sum(rank != self.where(chunk) for chunk, rank in plan.items()),
            "trouble": "; ".join(why for _, why in self._refused.values()),
        }

    def dump(self) -> dict[str, Any]:
        """Return it as plain values."""
        rows = [list(row) for row in packed(self._elsewhere)]
        known = None if self._known is None else sorted(self._known)
        about = {
            "draining": sorted(self.draining),
            "drained": sorted(self._drained),
            "number": self.number,
            "known": known,
        }
        return {"elsewhere": rows, "ordered": sorted(self._orders), **about}

    @staticmethod
    def load(values: Mapping[str, Any]) -> ChunkMoves:
        """Return what ``dump`` wrote."""
        moves = ChunkMoves()
        moves._elsewhere = unpacked(tuple(tuple(row) for row in values["elsewhere"]))
        moves.draining, moves.number = set(values["draining"]), values["number"]
        moves.number += bool(moves.number)
        moves._drained = set(values["drained"])
        moves._known = None if values["known"] is None else frozenset(values["known"])
        stop = MoveOrder(moves.number, 0, 0, (), False)
        moves._orders = dict.fromkeys(values["ordered"], (stop, -math.inf))  # they are given anew after that
        return moves

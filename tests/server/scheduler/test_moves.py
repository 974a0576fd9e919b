"""Promises of chunk moves: orders for what is planned, what is known survives a restart, and a loss is told as one."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ps.config.job import JobConfig
from ps.protocol.layout import Layout
from ps.protocol.messages import MoveOrder, MoveReport, Placed
from ps.server.scheduler.member_record import MemberRecord
from ps.server.scheduler.moves import AGAIN, PATIENCE, ChunkMoves
from support.desk import Desk

LAYOUT = Layout.of({"w": np.zeros(4 * 256, np.float32)})
JOB = JobConfig(servers=2, workers=1, chunk_size=1024)
"""Four chunks: 0 and 2 at server 0, 1 and 3 at server 1."""


class Table:
    """Three servers, the third of which has come late."""

    def __init__(self) -> None:
        self.roster = Desk(servers=3).state.roster
        self.moves = ChunkMoves()
        self.moves.model(LAYOUT, JOB)
        self.records = [self.come(rank) for rank in range(2)]
        self.now = 0.0

    def come(self, rank: int) -> MemberRecord:
        record = MemberRecord(10 + rank, 77 + rank, "server", rank, "host", 1, ())
        self.roster.add(record)
        return record

    def grow(self) -> tuple[int, MoveOrder]:
        """A third server comes; return who is to give it a chunk, and the order."""
        assert self.tick() == {}
        self.records.append(self.come(2))
        ((source, order),) = self.tick().items()
        return source, order

    def tick(self, *, rests: bool = False) -> dict[int, MoveOrder]:
        """Some time passes; return what was ordered, by rank."""
        self.now += 2 * AGAIN
        sends = self.moves.tick(self.now, self.roster, rests=rests)
        return {int(send.to) - 10: send.message for send in sends if isinstance(send.message, MoveOrder)}  # type: ignore[arg-type]

    def report(self, rank: int, state: Any, *handed: tuple[int, int], why: str = "") -> str:
        number = self.moves._orders[rank][0].number if rank in self.moves._orders else 0
        report = MoveReport(10 + rank, number, state, handed, 0, why)
        return self.moves.hear(self.records[rank], report, self.now, self.roster)


def test_a_server_that_comes_gets_its_share_and_one_that_is_drained_gives_all_away() -> None:
    table = Table()
    assert table.tick() == {} and table.moves.placed(1) is None
    table.records.append(table.come(2))
    ordered = table.tick()
    assert [(order.rank, len(order.chunks)) for order in ordered.values()] == [(2, 1)]
    ((source, order),) = ordered.items()
    assert table.report(source, "done", (order.chunks[0], 2)) == ""
    assert table.moves.placed(2) == Placed(2, ((2, order.chunks[0], 0, 1),))
    assert table.tick() == {}
    assert table.moves.drain(1, table.roster) == ""
    left = [chunk for chunk in range(4) if table.moves.where(chunk) == 1]
    while left:
        order = table.tick()[1]
        assert order.chunks and set(order.chunks) <= set(left) and order.rank != 1
        table.report(1, "done", *((chunk, order.rank) for chunk in order.chunks))
        left = [chunk for chunk in left if chunk not in order.chunks]
    assert table.tick()[1].leave
    assert table.moves.holds(1) == 0 and table.moves.drain(7, table.roster) == "there is no server 7"
    table.roster.remove(table.records[1])
    assert not table.moves.lost(table.records[1])
    again = ChunkMoves.load(json.loads(json.dumps(table.moves.dump())))
    assert again.drain(1, table.roster) == "" and again.outcome(1, table.roster) == "", (
        "who asks again hears that it is"
    )


def test_orders_are_taken_back_while_a_checkpoint_is_to_be_made_and_none_are_given() -> None:
    table = Table()
    source, order = table.grow()
    assert order.chunks
    assert table.tick(rests=True)[source].chunks == ()
    table.report(source, "done")
    assert not table.moves.is_active and table.tick(rests=True) == {}
    assert table.tick()[source].chunks, "it goes on after that"


def test_a_chunk_that_was_handed_to_one_that_is_gone_is_lost_and_not_waited_for() -> None:
    table = Table()
    source, order = table.grow()
    table.roster.remove(table.records[2])
    assert not table.moves.lost(table.records[2]), "as far as is known it had nothing"
    said = table.report(source, "moving", (order.chunks[0], 2))
    assert said == f"server 2 is gone, and with it chunk {order.chunks[0]}, which it had just taken over"


def test_a_restarted_scheduler_says_where_chunks_are_also_once_all_are_at_home_again() -> None:
    table = Table()
    source, order = table.grow()
    table.report(source, "done", (order.chunks[0], 2))
    again = ChunkMoves.load(json.loads(json.dumps(table.moves.dump())))
    again.model(LAYOUT, JOB)
    assert again.placed(5) == table.moves.placed(5) and again.where(order.chunks[0]) == 2
    table.moves._place(order.chunks[0], source)
    again = ChunkMoves.load(json.loads(json.dumps(table.moves.dump())))
    assert again.placed(6) == Placed(6, ()), "else members would go by what they heard before"


def test_a_server_that_takes_nothing_is_passed_over_after_a_while() -> None:
    table = Table()
    source, _ = table.grow()
    table.report(source, "moving", why="server 2 has no memory for it")
    assert (table.moves.status() or {})["trouble"] == "server 2 has no memory for it"
    table.now += PATIENCE + 1
    table.report(source, "moving", why="server 2 has no memory for it")
    assert table.tick()[source].chunks == (), "its order is taken back"
    table.report(source, "done")
    assert table.tick() == {}

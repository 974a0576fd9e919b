"""Promises of snapshots on a server: one version each, whatever closes the clock; bounded; nobody without leave."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps.errors import BadMessage
from ps.protocol.layout import Layout
from ps.protocol.messages import Error, Init, InitChunk, Mark, Marked, Moved, Peek, Peeked, Veto
from ps.server.shard import followers as module
from ps.server.shard.followers import IDLE, MOST, Followers
from support.identity import KEY
from support.lone import Lone


class Table:
    """A shard, and those who follow it."""

    def __init__(self, **job: Any) -> None:
        self.lone = Lone(**job)
        self.followers = Followers(0, KEY, self.lone.shard)
        self.now = 0.0

    def ask(self, message: Mark | Peek) -> Any:
        send = self.followers.receive(b"follower", message, self.now)
        return send.message if send.loan is None else (send.message, send.loan.weights.copy())

    def mark(self, clock: int, follower: int = 1, *, masters: bool = False) -> Any:
        return self.ask(Mark(7, follower, KEY.leave(follower), clock, masters))

    def peek(self, clock: int, follower: int = 1, chunk: int = 0) -> Any:
        found = self.ask(Peek(8, follower, KEY.leave(follower), clock, chunk))
        return float(found[1][0]) if isinstance(found, tuple) else found

    def step(self, clock: int) -> None:
        for member in sorted(self.lone.members):
            self.lone.push(member, clock, -1.0)


def test_in_sync_a_snapshot_is_of_the_clock_that_was_asked_for_however_far_training_goes_on() -> None:
    table = Table()
    assert table.mark(2) == Marked(7, 2, 0, True)
    assert table.peek(2) == Marked(8, 2, 0, True), "it is not there yet"
    for clock in range(5):
        table.step(clock)
    assert table.lone.value == 5.0
    assert table.peek(2) == 2.0
    assert table.peek(2) == 2.0, "and again, if the answer was lost"
    assert table.mark(4) == Marked(7, 4, 5, False), "that is over"
    assert table.peek(2) == Marked(8, 2, 5, False), "and what was wanted before is dropped"
    assert table.mark(5) == Marked(7, 5, 5, True)
    assert table.peek(5) == 5.0, "training stands still, and it is there"


def test_a_clock_in_which_nothing_is_applied_is_kept_too() -> None:
    table = Table()
    table.mark(1)
    table.step(0)
    for member in (1, 2):
        table.lone.skip(member, 1)
    table.step(2)
    assert table.peek(1) == 1.0
    table.mark(3)
    table.lone.push(1, 3, -1.0)
    table.lone.ask(Veto(table.lone.number(), 2, 0, 3, True, 3))
    table.step(4)
    assert (table.peek(3), table.lone.value) == (2.0, 3.0)


def test_a_clock_that_is_passed_over_is_kept_too() -> None:
    table = Table()
    table.step(0)
    assert table.mark(3).kept
    for member in (1, 2):
        table.lone.retire(member)
    for member in (1, 2):
        table.lone.start(member, 5)
    assert table.lone.chunk.version == 5
    assert table.peek(3) == 1.0


def test_with_clipping_in_two_phases_it_is_that_of_before_the_second() -> None:
    table = Table(clip_norm=1e9)
    table.mark(0)
    table.step(0)
    for member in (1, 2):
        table.lone.scale(member, 0, 1.0)
    assert (table.peek(0), table.lone.value) == (0.0, 1.0)


@pytest.mark.parametrize("mode", ["async", "ssp"])
def test_where_steps_are_applied_one_by_one_it_is_of_the_moment_in_which_it_was_asked_for(mode: str) -> None:
    table = Table(mode=mode)
    table.lone.push(1, 0, -1.0)
    assert table.mark(77) == Marked(7, 77, 1, True)
    assert table.mark(77) == Marked(7, 77, 1, True), "to be asked again is no other moment"
    table.lone.push(2, 0, -1.0)
    assert (table.peek(77), table.lone.value) == (1.0, 2.0)
    assert table.mark(77).kept
    assert table.peek(77) == 1.0


def test_several_followers_have_each_their_own_clock() -> None:
    table = Table()
    for follower in range(1, MOST + 1):
        assert table.mark(follower, follower).kept
    for clock in range(MOST + 1):
        table.step(clock)
    assert [table.peek(follower, follower) for follower in range(1, MOST + 1)] == [1.0, 2.0, 3.0, 4.0]


def test_more_than_so_many_are_refused_until_one_is_silent() -> None:
    table = Table()
    for follower in range(1, MOST + 1):
        table.mark(2, follower)
    assert isinstance(refused := table.mark(2, 9), Error)
    assert refused.code == "busy"
    table.now = IDLE + 1
    table.mark(2, 1)
    table.step(0)
    assert table.lone.chunk.mark == 2
    assert table.mark(3, 9).kept, "those who have said nothing are forgotten"
    assert len(table.followers) == 2


def test_what_nobody_asks_after_is_dropped_and_no_chunk_is_copied_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table()
    table.mark(1)
    table.followers.tick(IDLE + 0.1)
    monkeypatch.setattr(module, "_wanted", lambda *_: pytest.fail("copied for nobody"))
    for clock in range(3):
        table.step(clock)
    assert table.lone.chunk.mark == -1
    assert list(table.followers.last(IDLE + 0.1)) == []


def test_nobody_reads_without_the_schedulers_leave() -> None:
    table = Table()
    for message in (Mark(7, 1, KEY.leave(2), 1, False), Peek(8, 1, KEY.token(1, 0), 1, 0)):
        answer = table.ask(message)
        assert (type(answer), answer.code) == (Error, "token")
    assert (len(table.followers), table.lone.chunk.mark) == (0, -1)


def test_a_chunk_of_another_server_is_refused_and_one_without_a_snapshot_is_not_kept() -> None:
    table = Table()
    assert table.peek(0) == Marked(8, 0, 0, False)
    with pytest.raises(BadMessage, match="does not hold chunk 9"):
        table.peek(0, chunk=9)


def test_no_memory_for_a_copy_costs_the_follower_its_snapshot_and_training_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = Table()
    table.mark(1)

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(module, "_wanted", full)
    for clock in range(3):
        table.step(clock)
    assert table.lone.value == 3.0
    assert table.peek(1) == Marked(8, 1, 3, False)


def test_of_half_precision_the_masters_are_to_be_had_and_the_last_weights_are_what_was_wanted() -> None:
    table = Table(seeded=False, optimizer="sgd:lr=0.001")
    layout = Layout.of({"w": np.ones(8, np.float16)})
    table.lone.ask(Init(0, 1, 1, table.lone.job.chunk_bytes, layout.pack()))
    assert not table.mark(0).kept, "there are no values yet"
    table.lone.ask(InitChunk(0, 1, 0), np.ones(8, np.float16))
    table.mark(0, 1, masters=True)
    table.mark(0, 2)
    (_, master), (_, copy) = (table.ask(Peek(8, each, KEY.leave(each), 0, 0)) for each in (1, 2))
    assert (master.dtype.name, copy.dtype.name) == ("float32", "float16")
    kinds = [(send.message, send.loan.weights.dtype.name) for send in table.followers.last(0.0) if send.loan]
    assert kinds == [(Peeked(0, 0, 0, True), "float32"), (Peeked(0, 0, 0, True), "float16")]


def test_who_follows_is_told_once_of_each_server_that_gets_chunks_of_this_one() -> None:
    table, at = Table(), {0: 0}
    table.followers = Followers(0, KEY, table.lone.shard, lambda index: at.get(index))
    table.mark(-1, 1)
    assert table.followers.tick(0.0) == []
    at[0] = 2
    assert [(send.to, send.message) for send in table.followers.tick(0.1)] == [(b"follower", Moved(0, 2))]
    table.mark(-1, 2)
    assert [send.message for send in table.followers.tick(0.2)] == [Moved(0, 2)], "one that has come since"
    assert table.followers.tick(0.3) == []


def test_one_that_goes_is_forgotten_at_once() -> None:
    table = Table()
    table.mark(-1, 1)
    table.followers.leave(b"somebody")
    assert len(table.followers) == 1
    table.followers.leave(b"follower")
    assert len(table.followers) == 0

"""Promises of Unread: what is kept for a peer is counted until it has left, and nothing is known of peers for ever."""

from __future__ import annotations

from dataclasses import dataclass

from ps.protocol.unread import MOST_PEERS, Unread


@dataclass
class Way:
    done: bool = False


def test_bytes_count_until_they_have_left() -> None:
    unread, first, second = Unread(), Way(), Way()
    unread.lend(b"a", first, 10)
    unread.lend(b"a", second, 5)
    assert (unread.left(b"a"), unread.left(b"b")) == (15, 0)
    first.done = True
    assert unread.left(b"a") == 5
    second.done = True
    assert unread.left(b"a") == 0


def test_peers_for_whom_nothing_is_kept_are_forgotten() -> None:
    unread, way = Unread(), Way()
    unread.lend(b"stays", way, 7)
    for number in range(3 * MOST_PEERS):
        unread.lend(b"%d" % number, Way(done=True), 1)
    assert len(unread._lent) <= MOST_PEERS + 1
    assert unread.left(b"stays") == 7


def test_memory_that_several_are_lent_counts_once() -> None:
    unread, ways = Unread(), [Way() for _ in range(3)]
    for number, way in enumerate(ways):
        unread.lend(bytes([number]), way, 100, again=number > 0)
    assert unread.total == 100 and unread.left(b"\2") == 100
    ways[0].done = True
    unread.sweep()
    assert unread.total == 0 and unread.left(b"\2") == 100

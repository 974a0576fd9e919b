"""Promises of chunks that come from other servers: where workers read weights in shared memory, they stay there."""

from __future__ import annotations

from typing import Any

import numpy as np

from ps.protocol.messages import Attach, ChunkAnswer, ChunkBegin, ChunkGrant, ChunkLayout, MoveOrder, View
from ps.server.send import Send
from ps.server.shard.gradient_shard import GradientShard
from ps.server.shard.moving_shard import MovingShard
from support.lone import LAYOUT, Lone

SOURCE, TARGET = 11, 12


class Pair:
    """A server with one chunk, which is to go to another one that has just come."""

    def __init__(self, memory: np.ndarray[Any, Any] | None) -> None:
        self.lone = Lone(seeded=False)
        if memory is not None:
            self.lone.shard.weights_memory(memory)
        self.lone.seed()
        self.now = 0.0
        workers = tuple((m, "worker", m - 1, True, "host", ()) for m in sorted(self.lone.members))
        servers = ((SOURCE, "server", 0, True, "host", ()), (TARGET, "server", 1, True, "host", ()))
        self.view = View(self.lone.epoch + 1, "running", "", "", self.lone.job.to_dict(), (*workers, *servers))
        self.newcomer = GradientShard(1)
        shards = {SOURCE: self.lone.shard, TARGET: self.newcomer}
        self.moving = {member: MovingShard(shard, member, self.view, {}) for member, shard in shards.items()}
        for each in self.moving.values():
            each.view(self.view, self.now)

    def talk(self, sends: list[Send]) -> list[Any]:
        """Let the servers talk until nothing more is said; return their messages."""
        said: list[Any] = []
        while sends:
            send = sends.pop(0)
            if send.to not in self.moving:
                continue
            said.append(send.message)
            payload = None if send.payload is None else send.payload.tobytes()
            sends += self.moving[send.to].receive(b"", send.message, payload, self.now)  # type: ignore[index, arg-type]
        return said

    def order(self) -> list[Any]:
        return self.talk(self.moving[SOURCE].move(MoveOrder(1, TARGET, 1, (0,), False), self.now))

    def later(self) -> list[Any]:
        """Let time pass for the source."""
        self.now += 2.0
        return self.talk(self.moving[SOURCE].tick(self.now))


def answers(said: list[Any]) -> list[str]:
    return [message.state for message in said if isinstance(message, ChunkAnswer) and message.number]


def test_a_chunk_that_comes_before_the_memory_it_is_read_in_stays_and_comes_once_that_is_there() -> None:
    memory = np.zeros(LAYOUT.nbytes, np.uint8)
    pair = Pair(memory)
    pair.lone.push(1, 0, -3.0)
    pair.lone.push(2, 0, -3.0)
    assert answers(pair.order()) == ["unshared"]
    assert 0 in pair.lone.shard.chunks and not pair.newcomer.chunks, "it is back at once"
    assert pair.newcomer.weights_memory(memory) is memory, "it is not too late for that"
    assert answers(pair.later()) == ["taken", "held"]
    chunk = pair.newcomer.chunks[0]
    assert chunk.shown and np.shares_memory(chunk.weights, memory) and chunk.weights.tolist() == [3.0] * 8
    assert not pair.lone.shard.chunks


def test_a_chunk_that_is_read_in_other_memory_is_not_taken() -> None:
    pair = Pair(np.zeros(LAYOUT.nbytes, np.uint8))
    pair.lone.push(1, 0, -3.0)
    pair.lone.push(2, 0, -3.0)
    pair.newcomer.weights_memory(np.zeros(LAYOUT.nbytes, np.uint8))
    assert answers(pair.order()) == ["unshared"]
    assert pair.lone.shard.chunks[0].weights.tolist() == [3.0] * 8 and not pair.newcomer.chunks


def test_a_clock_that_a_newcomer_was_told_stays_open_on_a_chunk_that_moves() -> None:
    """The chunk has heard the Attach at its former server; the others of the new one have not, or have heard it too."""
    for word in (7, 9):  # its number there, where the former server has heard 8
        pair = Pair(None)
        pair.lone.join(3)
        pair.lone.request = 7
        assert pair.lone.attach(3) == 1
        pair.lone.push(1, 0, -1.0)
        pair.lone.push(2, 0, -1.0)
        assert pair.lone.chunk.version == 1
        workers = tuple((m, "worker", m - 1, m < 3, "host", ()) for m in (1, 2, 3))
        view = View(pair.view.epoch + 5, "running", "", "", pair.lone.job.to_dict(), (*workers, *pair.view.members[2:]))
        for each in pair.moving.values():
            each.view(view, 0.0)
        pair.talk(pair.moving[TARGET].receive(b"3", Attach(word, 3, view.epoch), None, 0.0))
        pair.order()
        assert pair.newcomer.chunks[0].holds == {3: 1}


def test_where_nobody_reads_in_place_it_is_copied() -> None:
    pair = Pair(None)
    said = pair.order()
    assert answers(said) == ["taken", "held"]
    assert [type(message) for message in said[:3]] == [ChunkLayout, ChunkAnswer, ChunkBegin]
    assert isinstance(said[-2], ChunkGrant)
    assert pair.newcomer.chunks[0].filled and not pair.newcomer.chunks[0].shown

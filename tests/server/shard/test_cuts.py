"""Promises of a server's part of a checkpoint: of one clock, copied before it goes on, let go when it is given up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from ps.checkpoint.chunk_snapshot import ChunkSnapshot
from ps.config import JobConfig
from ps.protocol.codec import decode, encode
from ps.protocol.layout import Layout
from ps.protocol.messages import Attach, CheckpointOrder, CheckpointPart, Init, InitChunk, Push, Start, View
from ps.server.send import Send
from ps.server.shard.cuts import Cuts
from ps.server.shard.gradient_shard import GradientShard
from ps.xp import HostArray


class Disk:
    """Takes what is to be written, and says when it is."""

    def __init__(self) -> None:
        self.parts: list[tuple[str, list[ChunkSnapshot]]] = []
        self.done, self.trouble, self.dropped = False, "", 0

    def __call__(self, folder: str, layout: Layout, copies: Sequence[ChunkSnapshot]) -> Disk:
        self.parts.append((folder, list(copies)))
        return self

    def drop(self) -> None:
        self.dropped += 1


class Room:
    """Memory for copies, which says what was asked of it."""

    def __init__(self) -> None:
        self.asked, self.copied, self.closed = list[int](), list[int](), False

    def ask(self, arrays: Sequence[HostArray]) -> Room:
        self.asked = [array.size for array in arrays]
        return self

    def copy(self, array: HostArray) -> HostArray:
        self.copied.append(array.size)
        return array.copy()

    def close(self) -> None:
        self.closed = True


def said(send: Send) -> CheckpointPart:
    assert isinstance(send.message, CheckpointPart)
    return send.message


def order(number: int, phase: str, clock: int = 0) -> CheckpointOrder:
    return CheckpointOrder(number, phase, clock, "step-000003" if phase == "mark" else "")  # type: ignore[arg-type]


class Server:
    """A shard of two chunks with one worker, whose steps a test takes."""

    def __init__(self, mode: str = "sync", chunks: int = 2) -> None:
        self.job = JobConfig(servers=1, workers=1, mode=mode, chunk_size=1024, optimizer="momentum:lr=0.1")
        self.shard, self.disk = GradientShard(0), Disk()
        self.cuts = Cuts(self.shard, 7, self.disk)
        layout = Layout.of({"w": np.zeros(256 * chunks - 100, np.float32)})
        self.shard.view(View(1, "running", "", "", self.job.to_dict(), ((1, "worker", 0, True, "h, pid 1", ()),)), 0.0)
        self.shard.receive(b"w", Init(1, 1, 1, 1024, layout.pack()), None, 0.0)
        for index, chunk in self.shard.chunks.items():
            self.shard.receive(b"w", InitChunk(1, 1, index), np.zeros(chunk.chunk.size, np.float32), 0.0)
        self.shard.receive(b"w", Attach(1, 1, 1), None, 0.0)
        self.shard.receive(b"w", Start(1, 1, 0), None, 0.0)
        self.clock = [0] * len(self.shard.chunks)
        assert len(self.clock) == chunks

    def push(self, index: int) -> None:
        ones = np.ones(self.shard.chunks[index].chunk.size, np.float32)
        clock = self.clock[index]
        self.shard.receive(b"w", Push(clock + 2, 1, index, clock, clock, 1.0, 1.0, True, ()), ones, 0.0)
        self.clock[index] += 1

    def step(self) -> None:
        for index in range(len(self.clock)):
            self.push(index)

    def weights(self) -> list[float]:
        return [float(chunk.weights[0]) for chunk in self.shard.chunks.values()]


def test_each_chunk_is_copied_as_it_was_after_the_clock_of_the_cut_whenever_that_is() -> None:
    for idle in (False, True):
        server, alone = Server(), Server()
        for _ in range(3):
            alone.step()
        assert said(server.cuts.order(order(1, "mark", 3))).state == "marked"
        for _ in range(2):
            server.step()
            assert not server.cuts.turn(), "nothing is where it is wanted"
        server.push(0), server.push(0)  # it is a clock ahead of the other one
        server.push(1)
        assert server.cuts.turn() or not idle
        server.push(1)
        [(folder, copies)] = server.disk.parts
        assert folder == "step-000003" and [copy.version for copy in copies] == [3, 3]
        assert [float(copy.arrays["weights"][0]) for copy in copies] == alone.weights()
        for copy, chunk in zip(copies, alone.shard.chunks.values(), strict=True):
            [(name, slot)] = chunk.slots.items()
            assert np.array_equal(copy.arrays[f"slot/{name}"], slot) and copy.updates == 3
        assert server.cuts.news() == []
        server.disk.done = True
        assert [said(send).state for send in server.cuts.news()] == ["written"]


def test_one_step_bears_half_of_the_copying_and_the_next_the_rest() -> None:
    server, alone, room = Server(chunks=8), Server(chunks=8), Room()
    server.cuts = Cuts(server.shard, 7, server.disk, room.ask)
    server.cuts.order(order(1, "mark", 1))
    server.step(), alone.step()
    server.cuts.share_out()
    assert len(room.copied) == 2 * 4 and not server.disk.parts, "weights and momentum of each"
    server.step()
    [(_, copies)] = server.disk.parts
    assert len(room.copied) == 2 * 8
    assert [float(copy.arrays["weights"][0]) for copy in copies] == alone.weights()


def test_memory_that_was_asked_for_before_there_was_a_cut_is_that_of_the_first_one() -> None:
    server, room = Server(), Room()
    server.cuts = Cuts(server.shard, 7, server.disk, room.ask)
    server.cuts.prepare()
    assert len(room.asked) == 4
    server.cuts.order(order(1, "mark", 1))
    server.step(), server.step()
    assert len(room.asked) == 4 and room.copied == room.asked and room.closed


@pytest.mark.parametrize("given_up", [False, True])
def test_memory_for_copies_is_asked_for_as_soon_as_it_is_known_what_is_copied_and_let_go_of(given_up: bool) -> None:
    server, room = Server(), Room()
    server.cuts = Cuts(server.shard, 7, server.disk, room.ask)
    server.cuts.order(order(1, "mark", 2))
    assert len(room.asked) == 4 and not room.copied
    server.step(), server.step(), server.push(0)
    if given_up:
        server.cuts.order(order(1, "drop"))
    server.push(1)
    assert room.copied == room.asked[: 2 if given_up else 4] and room.closed


def test_a_server_that_is_beyond_the_clock_is_late_and_one_without_values_fails() -> None:
    server = Server()
    server.step(), server.step()
    assert said(server.cuts.order(order(1, "mark", 1))).state == "late"
    server.shard.chunks[1].filled = False
    assert said(server.cuts.order(order(2, "mark", 3))).state == "failed"
    assert (said(server.cuts.status()).low, said(server.cuts.status()).high) == (2, 2)


def test_what_is_given_up_leaves_no_mark_and_no_copy_and_the_next_cut_is_made() -> None:
    server = Server()
    server.cuts.order(order(1, "mark", 2))
    server.step()
    server.push(0), server.push(0), server.push(0)
    assert server.cuts._copies
    server.cuts.order(order(1, "drop"))
    assert not server.cuts._copies and all(c.mark == -1 and not c.keepers for c in server.shard.chunks.values())
    server.push(1), server.push(1)
    for _ in range(1000):
        server.step()
    assert not server.disk.parts and not server.cuts._copies
    server.cuts.order(order(2, "mark", 1004))
    server.step(), server.step()
    assert [copy.version for copy in server.disk.parts[0][1]] == [1004, 1004]
    server.cuts.order(order(3, "mark", 2000))
    assert server.disk.dropped == 1, "the order for another one gives the one before up, if it is not written"


def test_where_steps_are_applied_one_by_one_it_is_what_is_counted_when_the_order_comes() -> None:
    server = Server("async")
    server.step(), server.push(0)
    server.cuts.order(order(1, "mark", 0))
    server.push(0), server.push(1)
    while server.cuts.turn():
        pass
    [(_, copies)] = server.disk.parts
    assert [(copy.version, dict(copy.done)) for copy in copies] == [(2, {0: 2}), (1, {0: 1})]


def test_a_chunk_that_passes_over_the_clock_of_the_cut_fails_it_by_name_and_is_never_written_as_of_another() -> None:
    for gap in (1, 3):
        server = Server()
        server.cuts.order(order(1, "mark", 2))
        server.step(), server.push(0)
        chunk = server.shard.chunks[1]
        chunk.go_to(2 + gap)  # as where those who had the clocks between are gone
        assert said(server.cuts.status()).state == "failed"
        assert said(server.cuts.status()).why == "chunk 1 has gone from clock 1 beyond it"
        server.push(0)
        assert not server.cuts.turn() and not server.disk.parts and not server.cuts._copies
        assert all(c.mark == -1 and not c.keepers for c in server.shard.chunks.values())


def test_while_a_part_that_was_given_up_is_still_written_no_other_copy_is_made() -> None:
    server = Server()
    server.cuts.order(order(1, "mark", 1))
    server.step(), server.step()
    assert len(server.disk.parts) == 1
    assert said(server.cuts.order(order(2, "mark", 4))).state == "here", "it is asked again"
    for _ in range(2):
        server.step()
        assert not server.cuts.turn() and len(server.disk.parts) == 1
    server.disk.done = True
    assert said(server.cuts.order(order(2, "mark", 6))).state == "marked"
    for _ in range(3):
        server.step()
    assert [copy.version for copy in server.disk.parts[1][1]] == [6, 6]


def test_one_without_chunks_has_an_empty_part_and_is_behind_and_ahead_of_nobody() -> None:
    disk = Disk()
    empty = Cuts(GradientShard(3), 7, disk)
    asked, other = said(empty.order(order(1, "ask"))), said(Server().cuts.status())
    assert (min(asked.low, other.low), max(asked.high, other.high)) == (other.low, other.high)
    assert said(empty.order(order(1, "mark", 4))).state == "marked"
    assert disk.parts == [("step-000003", [])]
    assert decode(encode(asked)) == asked, "as it travels"

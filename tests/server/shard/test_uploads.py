"""Promises of uploads: every delta is stored once, memory is bounded, and whoever stalls does not keep others out."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from ps.protocol.layout import Layout
from ps.protocol.messages import Busy, Late, Stored, Upload
from ps.protocol.messages.federated import COMPARED
from ps.server.shard.uploads import IDLE, Uploads
from support.delta_parts import chunks_of, job_of, parts_of

ROOM = 1 << 20
BIG = Layout.of({"w": np.zeros(ROOM // 16, np.float32)})
"""A model of a quarter of the room, in 4 chunks."""


class Hand:
    def __init__(self, layout: Layout | None = None, **settings: Any) -> None:
        self.job = job_of(**settings)
        self.chunks = chunks_of(layout, self.job) if layout else chunks_of(job=self.job)
        self.uploads = Uploads(self.job, self.chunks)
        self.now = 0.0

    def take(self, task: int, chunk: int, value: float = 1.0, frame: bytes | None = None) -> Any:
        payload = parts_of(value, self.chunks)[chunk].tobytes() if frame is None else frame
        return self.uploads.take(Upload(1, 2, task, 0, 0, chunk), payload, 7, self.now)

    def whole(self, task: int, value: float = 1.0) -> list[str]:
        return [type(self.take(task, index, value)[0]).__name__ for index in self.chunks]


def big() -> Hand:
    return Hand(BIG, upload_room=ROOM, chunk_size=ROOM // 16)


def test_a_delta_is_complete_with_its_last_chunk_and_only_then_known() -> None:
    hand = Hand()
    assert [hand.take(3, index)[1] for index in (1, 0)] == [False, False]
    assert hand.uploads.notes() == () and hand.uploads.held(3) == (0, 1)
    assert hand.take(3, 2) == (Stored(1, 3, 2), True)
    assert hand.uploads.notes() == ((3, 8.0, ""),)


def test_of_a_repeated_chunk_the_first_counts() -> None:
    hand = Hand()
    hand.whole(3)
    assert hand.take(3, 0, value=9.0) == (Stored(1, 3, 0), False)
    parts = hand.uploads.settle(3)
    assert parts is not None
    np.testing.assert_array_equal(parts[0], 1.0)


def test_what_is_settled_or_over_is_late_and_says_the_version() -> None:
    hand = Hand()
    hand.whole(3)
    hand.uploads.settle(3)
    assert hand.take(3, 0) == (Late(1, 0, 7), False)
    hand.uploads.forget_below(10)
    assert hand.take(9, 0) == (Late(1, 0, 7), False)
    assert hand.take(10, 0) == (Stored(1, 10, 0), False)
    assert len(hand.uploads) == 1 and not hand.uploads._settled


def test_what_is_not_whole_or_not_sound_cannot_be_counted() -> None:
    hand = Hand()
    hand.take(1, 0)
    hand.whole(2, value=np.nan)
    assert [hand.uploads.settle(task) for task in (1, 2, 3)] == [None, None, None]
    assert len(hand.uploads) == 0


@pytest.mark.parametrize("compress", ["none", "topk:0.1", "int8", "onebit", "powersgd:2", "bf16", "randomk:0.1"])
def test_any_frame_of_bytes_is_stored_or_refused_and_never_more(compress: str) -> None:
    dice = random.Random(5)
    hand = Hand(compress=compress)
    for task in range(1, 400):
        for index in hand.chunks:
            frame = dice.randbytes(dice.choice([0, 1, 8, dice.randrange(200), hand.chunks[index].nbytes]))
            assert isinstance(hand.take(task, index, frame=frame)[0], Stored)
        [(_, squares, wrong)] = hand.uploads.notes()
        assert wrong in ("malformed", "nan") or np.isfinite(squares)
        hand.uploads.settle(task)


def test_frames_of_the_wrong_size_make_the_whole_malformed() -> None:
    hand = Hand()
    hand.take(1, 1)
    hand.take(1, 0, frame=b"1234567")
    hand.take(1, 2)
    assert [(task, wrong) for task, _, wrong in hand.uploads.notes()] == [(1, "malformed")]
    assert hand.uploads.nbytes == 0


def test_however_many_begin_at_once_memory_stays_within_the_room() -> None:
    hand = big()
    for chunk in hand.chunks:
        for task in range(1, 50):
            hand.take(task, chunk)
    assert hand.uploads.nbytes <= ROOM
    assert len(hand.uploads.notes()) == len(hand.uploads) == 4


def test_who_finds_no_room_is_told_when_to_come_again_and_then_has_it() -> None:
    hand = big()
    for task in range(1, 5):
        hand.whole(task)
    answer, _ = hand.take(5, 0)
    assert isinstance(answer, Busy) and answer.chunk == 0 and answer.seconds > 0
    hand.uploads.settle(2)
    assert hand.whole(5) == ["Stored"] * 4


def test_there_is_always_room_for_as_many_as_tell_what_is_usual() -> None:
    hand = Hand(Layout.of({"w": np.zeros(ROOM // 2, np.float32)}), upload_room=ROOM, chunk_size=ROOM)
    assert [hand.whole(task)[0] for task in range(1, COMPARED + 2)] == ["Stored"] * COMPARED + ["Busy"]


def test_an_upload_that_stalls_makes_room_and_goes_on_from_what_is_held() -> None:
    hand = big()
    for task in range(1, 4):
        hand.whole(task)
    hand.take(4, 0)
    hand.now += IDLE
    assert hand.whole(5) == ["Stored"] * 4
    assert hand.uploads.held(4) == () and hand.uploads.held(5) == tuple(hand.chunks)
    assert isinstance(hand.take(4, 1)[0], Busy)


def test_rubbish_takes_no_room() -> None:
    hand = big()
    for task in range(1, 1000):
        hand.take(task, 0, frame=b"x")
    assert hand.whole(1000) == ["Stored"] * 4

"""Promises of the room for copies: it is there before it is needed, or does without; and no more than is needed."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from ps.server.shard import copy_room
from ps.server.shard.copy_room import LEAST, CopyRoom
from support.cluster import wait_until

ARRAYS = [np.arange(LEAST + n, dtype=dtype) for n, dtype in ((0, np.float32), (0, np.float32), (1, np.float64))]
SMALL = np.arange(7, dtype=np.float32)


def ready(room: CopyRoom) -> int:
    return sum(map(len, room._ready.values()))


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Hold the thread up before it begins; return what has it go on."""
    gate = threading.Event()
    monkeypatch.setattr(copy_room, "give_way", lambda: gate.wait(20))
    return gate.set


def test_copies_are_made_in_memory_that_is_there_already_and_are_nobody_elses() -> None:
    room = CopyRoom([*ARRAYS, SMALL])
    wait_until(lambda: ready(room) == 3)
    waiting = {each.ctypes.data for rooms in room._ready.values() for each in rooms}
    copies = [room.copy(array) for array in (*ARRAYS, SMALL)]
    assert {copy.ctypes.data for copy in copies[:3]} == waiting and ready(room) == 0
    for copy, array in zip(copies, (*ARRAYS, SMALL), strict=True):
        assert copy.dtype == array.dtype and np.array_equal(copy, array) and not np.shares_memory(copy, array)


def test_who_comes_first_waits_for_nobody_and_what_is_copied_has_no_room_made_for_it(held: Callable[[], None]) -> None:
    room = CopyRoom(ARRAYS)
    assert np.array_equal(room.copy(ARRAYS[0]), ARRAYS[0])
    held()
    wait_until(lambda: ready(room) == 2)
    assert all(np.array_equal(room.copy(array), array) for array in ARRAYS[1:])
    wait_until(lambda: "ps-room" not in {thread.name for thread in threading.enumerate()})
    assert ready(room) == 0


def test_what_is_closed_keeps_nothing(held: Callable[[], None]) -> None:
    room = CopyRoom(ARRAYS)
    room.close()
    held()
    wait_until(lambda: "ps-room" not in {thread.name for thread in threading.enumerate()})
    assert ready(room) == 0 and np.array_equal(room.copy(ARRAYS[0]), ARRAYS[0])

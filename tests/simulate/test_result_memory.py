"""Promises of the memory that results are read in: nothing changes that somebody has, and no place is lost."""

from __future__ import annotations

import gc
import random

import numpy as np

from ps.simulate.result_memory import ResultMemory, ResultPlaces
from ps.xp import HostArray


def test_a_place_is_free_again_when_nobody_has_any_of_it() -> None:
    memory = ResultMemory(2, 200)
    places = ResultPlaces(memory.fd, memory.nbytes)
    memory.close()
    place = memory.take()
    assert places.put(place, [np.arange(100, dtype=np.uint8), np.zeros(3, np.uint8)])
    first, second = memory.read(place, [100, 3])
    assert first.flags.aligned and first.ctypes.data % 64 == second.ctypes.data % 64 == 0
    view = np.frombuffer(first[:8], np.float32)
    del first, second
    assert [memory.take(), memory.take()] == [1, -1], "there is a view still"
    assert view.view(np.uint8).tolist() == list(range(8))
    del view
    assert memory.take() == place
    memory.give_back(place)
    memory.give_back(-1)
    assert [memory.take(), memory.take()] == [place, -1]


def test_what_does_not_fit_is_not_put_and_changes_nothing() -> None:
    memory = ResultMemory(2, 128)
    places = ResultPlaces(memory.fd, memory.nbytes)
    assert places.put(1, [np.full(128, 7, np.uint8)])
    assert not places.put(0, [np.zeros(65, np.uint8), np.zeros(65, np.uint8)])
    assert not places.put(-1, [np.zeros(1, np.uint8)])
    assert memory.read(1, [128])[0].tolist() == [7] * 128
    memory.close()


def test_whatever_is_held_and_dropped_stays_as_it_was_and_all_places_come_back() -> None:
    chance, memory = random.Random(1), ResultMemory(8, 64)
    places = ResultPlaces(memory.fd, memory.nbytes)
    memory.close()
    held: list[tuple[int, HostArray]] = []
    for step in range(500):
        place = memory.take()
        if place >= 0 and chance.random() < 0.8:
            assert places.put(place, [np.full(16, step % 251, np.uint8)])
            held.append((step % 251, memory.read(place, [16])[0]))
        else:
            memory.give_back(place)
        while len(held) > chance.randrange(9):
            held.pop(chance.randrange(len(held)))
        assert all((array == value).all() for value, array in held)
    held.clear()
    assert sorted(memory.take() for _ in range(9)) == [-1, *range(8)]


def test_what_was_read_stays_when_the_memory_is_closed_and_forgotten() -> None:
    memory = ResultMemory(1, 64)
    assert ResultPlaces(memory.fd, memory.nbytes).put(memory.take(), [np.full(5, 9, np.uint8)])
    [found] = memory.read(0, [5])
    memory.close()
    del memory
    gc.collect()
    assert found.tolist() == [9] * 5

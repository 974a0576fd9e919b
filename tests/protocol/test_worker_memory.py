"""Promises of a worker's memory: three regions that do not touch, the same for both sides, and room before use."""

from __future__ import annotations

import os

import numpy as np
import pytest

from ps.errors import BadMessage, Unshared
from ps.protocol.layout import Layout
from ps.protocol.segment import PAGE, Segment
from ps.protocol.worker_memory import WorkerMemory

LAYOUT = Layout.of({"a": np.zeros(1001, np.float32), "b": np.zeros(333, np.float64), "c": np.zeros(7, np.float32)})
CHUNKS = LAYOUT.chunks(2, 1024)
REGIONS = ("gradients", "weights", "aside")


@pytest.fixture
def sides() -> tuple[WorkerMemory, WorkerMemory]:
    """One worker's memory, as the worker and as a server has it."""
    mine = WorkerMemory.create(LAYOUT.nbytes)
    size = WorkerMemory.size(LAYOUT.nbytes)
    return mine, WorkerMemory(Segment.adopt(os.dup(mine.segment.fd), size), LAYOUT.nbytes)


def test_each_chunk_lies_at_its_own_place_in_each_region(sides: tuple[WorkerMemory, WorkerMemory]) -> None:
    mine, theirs = sides
    number = 0.0
    for region in REGIONS:
        for chunk in CHUNKS:
            number += 1
            mine.part(region, chunk)[:] = number
    number = 0.0
    for region in REGIONS:
        flat = LAYOUT.flat(theirs.array(region))
        for chunk in CHUNKS:
            number += 1
            part = theirs.part(region, chunk)
            assert part.dtype == chunk.dtype and set(part) == {number}
            assert set(flat[chunk.dtype][chunk.start : chunk.stop]) == {number}


def test_regions_begin_at_whole_pages_and_end_with_the_model(sides: tuple[WorkerMemory, WorkerMemory]) -> None:
    for memory in sides:
        assert [memory.offset(region) % PAGE for region in REGIONS] == [0, 0, 0]
        assert {memory.array(region).nbytes for region in REGIONS} == {LAYOUT.nbytes}
        assert {memory.array(region).ctypes.data % PAGE for region in REGIONS} == {0}


def test_a_chunk_beyond_the_memory_is_refused() -> None:
    small = WorkerMemory.create(LAYOUT.nbytes - 64)
    with pytest.raises(BadMessage, match=f"ends at byte .* the shared memory is for {LAYOUT.nbytes - 64}"):
        for chunk in CHUNKS:
            small.part("gradients", chunk)


def test_gradients_and_weights_are_set_aside_before_use_and_what_few_need_is_not() -> None:
    memory = WorkerMemory.create(PAGE)
    assert os.fstat(memory.segment.fd).st_blocks * 512 == 2 * PAGE
    memory.array("aside")[:] = 1
    assert os.fstat(memory.segment.fd).st_blocks * 512 == 3 * PAGE


def test_memory_that_may_not_be_written_is_refused_when_it_is_taken_over_not_when_it_is_used() -> None:
    memory = WorkerMemory.create(PAGE)
    size = WorkerMemory.size(PAGE)
    adopted = Segment.adopt(os.open(f"/proc/self/fd/{memory.segment.fd}", os.O_RDONLY), size)
    with pytest.raises(Unshared):
        WorkerMemory(adopted, PAGE)

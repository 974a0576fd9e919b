"""Promises of buffers in shared memory: who receives may change what lies in one, and it is not written again before
nothing of that is used any more; there are not too many; and where there is none, nothing is lost by that."""

from __future__ import annotations

import gc
import logging
import os

import numpy as np
import pytest

from ps.errors import BadMessage, Unshared
from ps.protocol.segment import PAGE, Segment
from ps.worker.pipeline.shared_buffers import HEAD, MOST, AdoptedBuffers, LentBuffer, OfferedBuffers

SIZE = 3 * PAGE


class Pair:
    """Both ends; what is handed over comes when it is told to."""

    def __init__(self, **limits: int) -> None:
        self.adopted = AdoptedBuffers()
        self.coming: list[tuple[int, int, int]] = []
        self.dropped: list[int] = []
        self.offered = OfferedBuffers("worker 1", self.hand, **limits)

    def hand(self, number: int, size: int, segment: Segment | None) -> bool:
        if segment is None:
            self.dropped.append(number)
            self.adopted.forget(number)
        else:
            self.coming.append((number, size, os.dup(segment.fd)))
        return True

    def arrive(self) -> None:
        for number, size, fd in self.coming:
            self.adopted.adopt(number, size, Segment.adopt(fd, size))
        self.coming.clear()

    def take(self, nbytes: int = SIZE) -> LentBuffer:
        """Return a buffer, also if there has to be a new one."""
        found = self.offered.take(nbytes)
        if found is None:
            self.arrive()
            found = self.offered.take(nbytes)
        assert found is not None
        return found

    def receive(self, lent: LentBuffer) -> np.ndarray:
        return self.adopted.receive(lent.number, lent.use, lent.memory.size)


def test_a_buffer_is_used_once_the_receiver_has_it_and_one_that_is_on_its_way_is_waited_for_by_nobody() -> None:
    pair = Pair()
    assert pair.offered.take(SIZE) is None
    assert pair.offered.take(SIZE) is None
    assert len(pair.coming) == 1
    pair.arrive()
    lent = pair.offered.take(SIZE)
    assert lent is not None
    lent.memory[:] = 7
    assert (pair.receive(lent) == 7).all()


def test_what_was_received_may_be_changed_and_stays_until_its_last_view_is_gone() -> None:
    pair = Pair()
    lent = pair.take()
    lent.memory[:] = 1
    found = pair.receive(lent)
    assert found.ctypes.data % HEAD == 0
    view = found.view(np.float32).reshape(3, -1)[1:]
    del found
    view += 1
    other = pair.take()
    assert other.number != lent.number
    other.memory[:] = 9
    assert np.unique(view).size == 1
    kept = view[0, :1]
    del view
    assert pair.take().number not in (lent.number, other.number)
    del kept
    gc.collect()
    again = pair.take()
    assert (again.number, again.use) == (lent.number, lent.use + 1)


def test_what_was_received_stays_when_the_buffer_is_not_used_any_more_and_both_ends_are_gone() -> None:
    pair = Pair()
    lent = pair.take()
    lent.memory[:] = 5
    found = pair.receive(lent)
    pair.adopted.forget(lent.number)
    del pair, lent
    gc.collect()
    found += 1
    assert (found == 6).all()


def test_small_things_take_no_large_buffers_away_and_have_pages() -> None:
    pair = Pair()
    large = pair.take(1 << 20)
    pair.receive(large)
    small = pair.take(1)
    assert small.number != large.number
    pair.receive(small)
    assert pair.take(2000).number == small.number
    assert pair.take(900_000).number == large.number


@pytest.mark.parametrize("limits", [{"most": 2}, {"most_bytes": 2 * SIZE + 2 * PAGE}])
def test_of_too_many_buffers_those_that_are_idle_go_and_those_in_use_stay(limits: dict[str, int]) -> None:
    pair = Pair(**limits)
    kept = [pair.receive(pair.take()), pair.receive(pair.take())]
    assert pair.offered.take(SIZE) is None
    assert not pair.coming, "no room for one more"
    del kept[0]
    assert pair.take().use == 3
    pair.receive(LentBuffer(1, 3, np.empty(SIZE, np.uint8)))  # is used, and is not any more
    small = pair.take(SIZE // 5)
    assert (pair.dropped, small.number) == ([1], 3)
    assert pair.offered.nbytes <= 2 * SIZE + 2 * PAGE
    assert pair.offered.take(SIZE) is None, "the other one is still used"


def test_without_more_memory_what_there_is_goes_on_and_it_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pair = Pair()
    first = pair.take()

    def reserve(segment: Segment, offset: int, nbytes: int) -> None:
        raise Unshared(f"no room for {nbytes} bytes of shared memory: No space left on device")

    monkeypatch.setattr(Segment, "reserve", reserve)
    with caplog.at_level(logging.WARNING):
        assert pair.offered.take(SIZE) is None
        assert pair.offered.take(SIZE) is None
    assert [record.getMessage() for record in caplog.records] == [
        f"worker 1: no room for {SIZE + PAGE} bytes of shared memory: No space left on device. What the {SIZE + PAGE} "
        f"bytes shared with it have no room for travels"
    ]
    pair.receive(first)
    assert pair.take().number == first.number


def test_a_receiver_that_cannot_map_a_buffer_is_sent_nothing_in_it() -> None:
    pair = Pair()
    for _ in range(5):
        assert pair.offered.take(SIZE) is None
    assert len(pair.coming) == 1
    _, size, fd = pair.coming[0]
    segment = Segment.adopt(fd, size)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Unshared):
        patch.setattr(Segment, "array", _unmapped)
        pair.adopted.adopt(1, size, segment)
    assert pair.offered.take(SIZE) is None


def _unmapped(segment: Segment, offset: int, nbytes: int) -> np.ndarray:
    raise Unshared(f"{nbytes} bytes of shared memory cannot be mapped: Cannot allocate memory")


def test_what_lies_in_no_buffer_or_beyond_one_or_was_there_before_is_refused() -> None:
    pair = Pair()
    lent = pair.take()
    for number, use, nbytes in [(2, 2, 1), (1, 1, 1), (1, 2, SIZE + PAGE)]:
        with pytest.raises(BadMessage, match=f"{nbytes} bytes in buffer {number}"):
            pair.adopted.receive(number, use, nbytes)
    pair.receive(lent)
    with pytest.raises(BadMessage):
        pair.receive(lent)
    for number in range(2, 2 * MOST + 1):
        pair.adopted.adopt(number, SIZE, Segment.create(SIZE))
    with pytest.raises(BadMessage, match=f"beside {2 * MOST}"):
        pair.adopted.adopt(0, SIZE, Segment.create(SIZE))

"""Promises of ps.data.prefetch: the same items in their order, no more ahead than asked for, and a thread that ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from ps.data import ahead, demand_prefetch
from ps.errors import DataError


def reading() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@pytest.mark.parametrize("count", [0, 1, 3, 50])
def test_the_items_are_the_same(count: int) -> None:
    assert list(ahead(iter(range(20)), count)) == list(range(20))
    assert reading() == []


def test_another_thread_reads_so_many_ahead_and_no_more() -> None:
    read: list[int] = []
    third = threading.Event()

    def source() -> Iterator[int]:
        for item in range(100):
            read.append(item)
            if item == 3:
                third.set()
            assert threading.current_thread().name == "prefetch"
            yield item

    items = ahead(source(), 2)
    assert next(items) == 0
    assert third.wait(10)  # one handed over, two that wait, one in the thread's hands
    assert read == [0, 1, 2, 3]
    items.close()  # type: ignore[attr-defined]
    assert reading() == []


def test_what_goes_wrong_is_raised_behind_what_came_before() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise KeyError("no more")

    items = ahead(source(), 5)
    assert next(items) == 1
    with pytest.raises(KeyError, match="no more"):
        next(items)
    assert reading() == []


@pytest.mark.parametrize("count", [-1, 1001, 1.5, True, "2", None])
def test_what_is_no_number_of_batches_is_refused(count: object) -> None:
    with pytest.raises(DataError, match="expected a whole number of batches, 0 to 1000"):
        demand_prefetch(count)

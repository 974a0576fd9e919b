"""Reading ahead: the next batches are made by a thread while the script computes with this one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

from ps.errors import DataError

T = TypeVar("T")
NAP = 0.1
"""Seconds between two looks at whether anybody still wants what is read."""

MOST = 1000
"""Batches that are read ahead, at most."""

_END = object()


def demand_prefetch(count: Any) -> None:
    """Raise DataError unless that many batches can be read ahead."""
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MOST:
        raise DataError(f"prefetch is {str(count)[:40]!r}: expected a whole number of batches, 0 to {MOST}")


def ahead(source: Iterator[T], count: int) -> Iterator[T]:
    """Yield what ``source`` yields, which another thread reads up to ``count`` items ahead; 0: none does.

    What it raises is raised here, behind the items before. When this is closed the thread ends with the item that it
    is reading.
    """
    return source if not count else _read(source, count)


def _read(source: Iterator[T], count: int) -> Iterator[T]:
    found: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(count)
    over = threading.Event()

    def put(item: Any, error: BaseException | None = None) -> None:
        while not over.is_set():
            try:
                found.put((item, error), timeout=NAP)
                return
            except queue.Full:
                continue

    def read() -> None:
        try:
            for item in source:
                put(item)
                if over.is_set():
                    return
        except BaseException as error:
            put(_END, error)
        else:
            put(_END)

    thread = threading.Thread(target=read, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = found.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        over.set()
        thread.join(2 * NAP)

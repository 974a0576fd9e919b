"""Cells: the batches of several epochs by their numbers, as evenly spaced runs. Pure arithmetic.

A cell is one batch's place in the order of all batches that a call of ``kv.batches`` has. Runs of them are what leases
are made of: a worker's column of a block of clocks is one run, whose stride is the number of workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

Run = tuple[int, int, int]
"""(first cell, stride, how many)."""


def count(runs: Iterable[Run]) -> int:
    """Return how many cells runs have."""
    return sum(number for _, _, number in runs)


def each(runs: Iterable[Run]) -> Iterator[int]:
    """Yield the cells of runs, in order."""
    for first, stride, number in runs:
        yield from range(first, first + stride * number, stride)


def split(runs: Iterable[Run], at: int) -> tuple[list[Run], list[Run]]:
    """Return the first ``at`` cells of runs, or all there are, and the others."""
    before, after = list[Run](), list[Run]()
    for first, stride, number in runs:
        taken = max(0, min(at, number))
        at -= taken
        if taken:
            before.append((first, stride, taken))
        if taken < number:
            after.append((first + stride * taken, stride, number - taken))
    return before, after


def column(runs: Sequence[Run], which: int, columns: int) -> list[Run]:
    """Return every ``columns``-th cell, from the one at place ``which`` on: one worker's, of a block dealt in turn."""
    if len(runs) == 1:
        first, stride, number = runs[0]
        mine = len(range(which, number, columns))
        return [(first + which * stride, columns * stride, mine)] if mine else []
    return runs_of(list(each(runs))[which::columns])


def runs_of(cells: Sequence[int]) -> list[Run]:
    """Return cells, which ascend, as few runs."""
    found = list[Run]()
    at = 0
    while at < len(cells):
        stride = cells[at + 1] - cells[at] if at + 1 < len(cells) else 1
        end = at + 1
        while end < len(cells) and cells[end] - cells[end - 1] == stride:
            end += 1
        found.append((cells[at], stride, end - at))
        at = end
    return found

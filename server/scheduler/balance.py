"""Balance: which server is to have which chunk, so that all have nearly the same bytes and few chunks move."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping, Sequence

NEAR = 1.01
"""Times what another server has, that a server may have without anything being moved for it."""


def balanced(sizes: Sequence[int], where: Mapping[int, int], servers: Collection[int]) -> dict[int, int]:
    """Return the rank of the server that each chunk is to have; ``where``: that has it; ``servers`` are the ranks.

    Who has more than an equal share gives chunks away, the last first. These, and those of servers that are not among
    the ``servers``, go to whoever has least, the largest first; then single chunks, while that brings the fullest and
    the emptiest nearer to each other. So in the end two differ by no more than ``NEAR`` or the smallest chunk of the
    fuller one. The same for all who ask; where that is so already nothing moves.
    """
    target = dict(where)
    held: dict[int, list[int]] = {rank: [] for rank in sorted(servers)}
    loose: list[int] = []
    for chunk in range(len(sizes)):
        held.get(where[chunk], loose).append(chunk)
    load = {rank: sum(sizes[chunk] for chunk in chunks) for rank, chunks in held.items()}
    if not loose and _near(load):
        return target
    share = sum(sizes) / len(held)
    for rank, chunks in held.items():
        while chunks and load[rank] - sizes[chunks[-1]] >= share:
            load[rank] -= sizes[chunks[-1]]
            loose.append(chunks.pop())
    order = [(load[rank], rank) for rank in held]
    heapq.heapify(order)
    for chunk in sorted(loose, key=lambda chunk: (-sizes[chunk], chunk)):
        _, rank = order[0]
        target[chunk] = rank
        held[rank].append(chunk)
        load[rank] += sizes[chunk]
        heapq.heapreplace(order, (load[rank], rank))
    for _ in range(4 * len(held)):
        most, least = max(load, key=lambda rank: (load[rank], -rank)), min(load, key=lambda rank: (load[rank], rank))
        gap = load[most] - load[least]
        fitting = [chunk for chunk in held[most] if 0 < sizes[chunk] < gap]
        if _near(load) or not fitting:
            break
        chunk = min(fitting, key=lambda chunk: (abs(2 * sizes[chunk] - gap), -chunk))
        held[most].remove(chunk)
        held[least].append(chunk)
        target[chunk] = least
        load[most] -= sizes[chunk]
        load[least] += sizes[chunk]
    return target


def _near(load: Mapping[int, int]) -> bool:
    return max(load.values()) <= NEAR * min(load.values())

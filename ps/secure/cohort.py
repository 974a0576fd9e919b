"""Who masks with whom, and how many of them a secret needs: complete for few, a regular graph beyond (SecAgg+).

Bell et al., Secure single-server aggregation with (poly)logarithmic overhead, CCS 2020. The graph is a ring lattice
over an order drawn from the digest of all that the members have said, so that none of them chooses its neighbours.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

COMPLETE = 32
"""Clients up to which all mask with all."""


def degree(count: int) -> int:
    """Return with how many others each of ``count`` clients masks: beyond ``COMPLETE`` an even number."""
    if count <= COMPLETE:
        return max(0, count - 1)
    return min(2 * ((count - 1) // 2), max(COMPLETE, 6 * math.ceil(math.log2(count))))


def threshold(holders: int) -> int:
    """Return how many of those who hold a share, its owner included, give a secret back.

    More than two thirds: who is shown different survivors to different holders would need a third of them, beside
    those who collude, to have both secrets of one client.
    """
    return 2 * holders // 3 + 1


def digest(offers: Mapping[int, str]) -> bytes:
    """Return what stands for a cohort: its tasks and all that their clients have offered."""
    found = hashlib.sha256()
    for task, offer in sorted(offers.items()):
        found.update(f"{task}:{offer};".encode())
    return found.digest()


def neighbours(offers: Mapping[int, str]) -> dict[int, tuple[int, ...]]:
    """Return for each task the others that it masks with; with a has b where b has a."""
    seed, count = digest(offers), len(offers)
    order = sorted(offers, key=lambda task: hashlib.sha256(seed + task.to_bytes(8, "big")).digest())
    if count <= COMPLETE:
        return {task: tuple(sorted(other for other in order if other != task)) for task in order}
    reach = degree(count) // 2
    return {
        task: tuple(sorted(order[(place + away) % count] for away in range(-reach, reach + 1) if away))
        for place, task in enumerate(order)
    }

"""Owners: for each example the client that holds it, (n,) int64, so that no example can be held twice or by nobody."""

from __future__ import annotations

import numpy as np

from ps.errors import DataError
from ps.xp import HostArray


def demand(n: int, clients: int, each: int = 1, what: str = "example") -> None:
    """DataError unless there are ``each`` of ``n`` examples for every client."""
    if n < each * clients:
        raise DataError(
            f"{n} examples are too few for {clients} clients with {each} {what}{'s' * (each > 1)} each: that takes "
            f"{each * clients}. " + (f"Take at most {n // each} clients" if n >= each else "Take more examples")
        )


def shares(owners: HostArray, clients: int) -> tuple[HostArray, ...]:
    """Return for each client its examples' indices, int64, increasing, read-only."""
    order = np.argsort(owners, kind="stable")
    order.flags.writeable = False
    return tuple(np.split(order, np.bincount(owners, minlength=clients).cumsum()[:-1]))


def dealt(n: int, clients: int, rng: np.random.Generator) -> HostArray:
    """Return owners of ``n`` examples by chance, whose shares differ by one example at most."""
    return np.asarray(rng.permutation(np.arange(n) * clients // n))


def skewed(n: int, clients: int, alpha: float, rng: np.random.Generator, free: HostArray | None = None) -> HostArray:
    """Return owners of ``n`` examples in random order: shares in proportions drawn from a Dirichlet(alpha).

    Only clients that are ``free``, (clients,) bool, get any, if that is given and some are.
    Systematic sampling: each client has its proportion of ``n``, rounded up or down.
    """
    parts = rng.dirichlet(np.full(clients, alpha))
    if free is not None and parts[free].sum() > 0:
        parts[~free] = 0.0
    ends = parts.cumsum()
    points = (np.arange(n) + rng.random()) / n * ends[-1]
    who = np.searchsorted(ends, points, side="right").clip(max=int(np.flatnonzero(parts)[-1]))
    return np.asarray(rng.permutation(clients)[who] if free is None else rng.permutation(who))


def topped_up(owners: HostArray, clients: int, least: int, rng: np.random.Generator) -> HostArray:
    """Return owners that leave each client at least ``least`` examples, taken at random from the largest shares.

    There must be ``least * clients`` examples.
    """
    sizes = np.bincount(owners, minlength=clients)
    missing = np.maximum(least - sizes, 0)
    if not missing.any():
        return owners
    given = sizes - levelled(sizes, len(owners) - int(missing.sum()))
    order = rng.permutation(len(owners))
    order = order[np.argsort(owners[order], kind="stable")]
    place = np.arange(len(owners)) - np.repeat(sizes.cumsum() - sizes, sizes)  # of each example in its share
    moved = rng.permutation(order[place < np.repeat(given, sizes)])
    result = owners.copy()
    result[moved] = np.repeat(np.arange(clients), missing)
    return result


def levelled(caps: HostArray, total: int) -> HostArray:
    """Return whole numbers up to ``caps`` that sum to ``total``, as equal as the caps allow.

    >>> levelled(np.array([1, 9, 4, 9]), 14)
    array([1, 5, 4, 4])
    """
    low, high = 0, int(caps.max())
    while low < high:  # the highest level at which the sum is not above the total
        level = (low + high + 1) // 2
        low, high = (level, high) if np.minimum(caps, level).sum() <= total else (low, level - 1)
    result = np.minimum(caps, low)
    result[np.flatnonzero(caps > low)[: total - int(result.sum())]] += 1
    return result

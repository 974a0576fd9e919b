"""Partitioner, the interface every way to divide fulfils."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ps.xp import HostArray


class Partitioner(Protocol):
    """A way to divide examples among clients: numbers and a function."""

    @property
    def by_label(self) -> bool:
        """Whether the division depends on labels, and cannot be had without them."""

    @property
    def divides(self) -> bool:
        """Whether clients share out what all of them have; else each has data of its own, and trains on all of it."""

    def divide(self, classes: HostArray, clients: int, rng: np.random.Generator) -> tuple[HostArray, ...]:
        """Return for each client its examples' indices, int64, increasing, read-only.

        ``classes`` is (n,) int64: the class of each example, from 0 up to the number of classes, none of them empty;
        all 0 where examples have no labels. ``clients`` is at least 1. DataError, with numbers, when it cannot be.
        """

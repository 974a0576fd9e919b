"""Absences: which of a vector's tensors took no part in which of its updates, so that each has a count of its own."""

from __future__ import annotations

import itertools
from dataclasses import field

from ps.dataclass import dataclass


@dataclass(slots=True)
class Absences:
    """``spans``: where each tensor's part of the vector lies, in order: (first element, last element + 1)."""

    spans: tuple[tuple[int, int], ...] = ()
    missed: dict[int, int] = field(default_factory=dict)
    """Tensor, by its number in ``spans`` -> how many of the updates it took no part in."""

    def update(self, number: int, absent: frozenset[int]) -> list[tuple[int, int, int]]:
        """Return what update ``number`` (from 1) is applied to: (first element, last element + 1, its own number).

        The ``absent`` tensors keep their values and state, and count it as missed: an optimizer's bias correction is
        that of the updates that a tensor has had. To be called once for each update.
        """
        for index in absent:
            self.missed[index] = self.missed.get(index, 0) + 1
        if not self.missed:
            return [(self.spans[0][0], self.spans[-1][1], number)]
        own = [0 if index in absent else number - self.missed.get(index, 0) for index in range(len(self.spans))]
        found = []
        for turn, numbered in itertools.groupby(zip(own, self.spans, strict=True), key=lambda each: each[0]):
            spans = [span for _, span in numbered]
            if turn:
                found.append((spans[0][0], spans[-1][1], turn))
        return found

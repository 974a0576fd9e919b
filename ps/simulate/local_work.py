"""LocalWork: what every client of a job does with its own examples in one task: how many steps, on which batches."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from ps.dataclass import dataclass
from ps.errors import ConfigError
from ps.xp import HostArray


@dataclass(frozen=True, slots=True)
class LocalWork:
    """The local training of a job: batches as ``ps.data.batches`` deals them out, a new order in every round.

    ``batch_size`` 0 is one batch of all examples. ``steps`` 0 means ``epochs`` over the client's examples; otherwise
    it is the number of steps, however many epochs those are. ConfigError for what makes no training.
    """

    batch_size: int = 10
    epochs: int = 1
    steps: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 0 or self.steps < 0 or self.epochs < 1:
            raise ConfigError(
                f"batch size {self.batch_size}, {self.epochs} local epochs, {self.steps} local steps: expected a batch "
                f"size of 1 or more (0: all examples), and at least one epoch or step"
            )

    def cuts(self, examples: int) -> int:
        """Return the number of batches in one epoch over so many examples."""
        return math.ceil(examples / (self.batch_size or examples))

    def local_steps(self, examples: int) -> int:
        """Return the number of steps of one task of a client with so many examples."""
        return self.steps or self.epochs * self.cuts(examples)

    def width(self, examples: int) -> int:
        """Return the rows that each of a client's batches is padded to: few different numbers over all clients.

        It depends on the client alone, so that the shapes of its arithmetic, and with them its bits, do not depend on
        whom it is computed with.
        """
        rounded = 1 << (examples - 1).bit_length()
        return min(self.batch_size or rounded, rounded)

    def batches(self, client: int, round: int, share: HostArray) -> tuple[HostArray, HostArray]:
        """Return the examples of each step as (steps, width) elements of ``share``, and how many of them count.

        They are those that a client of a real job has. What pads a row is its first example again.
        """
        n = len(share)
        steps, cuts = self.local_steps(n), self.cuts(n)
        pattern, counts = _pattern(n, cuts, self.width(n))
        seed = int(_sequence(self.seed, client, round).generate_state(1)[0])
        epochs = math.ceil(steps / cuts)
        parts = [
            share[np.random.Generator(np.random.PCG64(_sequence(seed, epoch))).permutation(n)[pattern]]
            for epoch in range(epochs)
        ]
        if epochs == 1:
            return parts[0][:steps], counts[:steps]
        return np.concatenate(parts)[:steps], np.tile(counts, epochs)[:steps]


def _sequence(*words: int) -> np.random.SeedSequence:
    """Return what NumPy makes of these numbers, in half the time where each is one word."""
    return np.random.SeedSequence(np.array(words, np.uint32) if max(words) < 1 << 32 else words)


@lru_cache(maxsize=256)
def _pattern(examples: int, cuts: int, width: int) -> tuple[HostArray, HostArray]:
    """Return where in an epoch's order each batch's rows are, (cuts, width), and how many of them count.

    It is the same for all clients with as many examples.
    """
    bounds = np.arange(cuts + 1) * examples // cuts
    starts, counts, places = bounds[:-1, None], np.diff(bounds), np.arange(width)
    return np.where(places < counts[:, None], starts + places, starts), counts

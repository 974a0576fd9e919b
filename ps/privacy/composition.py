"""Composition: what the releases of a job cost together. One for each kind of noise; this file has the plainest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ps.dataclass import dataclass
from ps.privacy.accountant import epsilon_of, noise_for


@dataclass(frozen=True, slots=True)
class Conditions:
    """What an account depends on beside the numbers of its mechanism.

    ``rounds`` of the job; ``clients``: the fixed denominator; ``population``: the clients of whom each round takes
    some; ``elements`` of the model; ``steps`` that the clip is, of the encoding in which clients add noise.
    """

    rounds: int
    clients: int
    population: int = 0
    elements: int = 1
    steps: float = 1.0


class Composition(Protocol):
    """The cost of releases that have the same noise multiplier.

    ``lengths``: of each sequence of releases how many it has. Where releases are independent, sequences are nothing.
    """

    def epsilon(self, noise: float, lengths: Sequence[int], delta: float) -> float:
        """Return the epsilon of these releases."""
        ...

    def noise_for(self, eps: float, delta: float, releases: int) -> float:
        """Return a noise multiplier with which so many releases, in one sequence, cost ``eps`` at most.

        ConfigError where there is none.
        """
        ...


class IndependentReleases:
    """Gaussian noise, new for each release, in each of which every client may be."""

    def epsilon(self, noise: float, lengths: Sequence[int], delta: float) -> float:
        """Return the epsilon of these releases."""
        return epsilon_of(noise, sum(lengths), delta)

    def noise_for(self, eps: float, delta: float, releases: int) -> float:
        """Return the least noise multiplier, nearly."""
        return noise_for(eps, delta, releases)

"""Partition: which client holds which examples. Everybody computes it alike from (spec, labels, clients, seed)."""

from __future__ import annotations

import numpy as np

from ps import xp
from ps.dataclass import dataclass
from ps.errors import DataError
from ps.partition.partitioner import Partitioner
from ps.partition.registry import PARTITIONERS
from ps.partition.rng import DIVISION, generator
from ps.spec import Spec
from ps.xp import Array, HostArray


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Partition:
    """A division of ``examples`` examples: ``shares[c]`` are the indices of client c, int64, increasing, read-only.

    Each example is in one share exactly and no share is empty; only with ``own`` everybody has everything.
    """

    spec: Spec[Partitioner]
    clients: int
    seed: int
    examples: int
    shares: tuple[HostArray, ...]

    def __repr__(self) -> str:
        return f"Partition({self.spec}, {self.examples} examples over {self.clients} clients, seed={self.seed})"

    @property
    def sizes(self) -> HostArray:
        """The number of examples of each client, (clients,) int64."""
        return np.array([len(share) for share in self.shares])

    def share(self, client: int) -> HostArray:
        """Return the indices of one client's examples; DataError when there is no such client."""
        if not 0 <= client < self.clients:
            raise DataError(f"client {client} is not in 0..{self.clients - 1}")
        return self.shares[client]

    def histogram(self, labels: Array) -> HostArray:
        """Return how many examples of each label each client has, (clients, classes) int64.

        The columns are the labels that there are, increasing: ``numpy.unique(labels)``. DataError when these are
        no labels, or not as many as there are examples.
        """
        if len(labels) != self.examples:
            raise DataError(f"{len(labels)} labels, but {self.examples} examples are divided")
        values, classes = np.unique(whole_numbers(labels, "a histogram"), return_inverse=True)
        return np.stack([np.bincount(classes[share], minlength=len(values)) for share in self.shares])


def partition(spec: Spec[Partitioner] | str, labels: Array, clients: int, seed: int = 0) -> Partition:
    """Divide n examples among ``clients``; the same arguments give the same division, whatever else is random.

    ``labels`` is (n,), any whole numbers. Where an array of anything else is given (the examples themselves,
    floating-point targets) its length counts, and ways to divide by label raise DataError; so do more clients than
    examples and whatever else cannot be met. ConfigError when the text ``spec`` is wrong.
    """
    spec = PARTITIONERS.parse(spec) if isinstance(spec, str) else spec
    labels = xp.asarray(labels)
    if labels.ndim == 0:
        raise DataError("labels are one number: expected an array whose first axis counts the examples")
    if clients < 1 or seed < 0:
        raise DataError(f"{clients} clients and seed {seed}: expected 1 or more and 0 or more")
    partitioner = spec.build()
    classes = np.zeros(len(labels), np.int64)
    if partitioner.by_label:
        known = whole_numbers(labels, f"partition {spec.name}")
        classes = np.unique(known, return_inverse=True)[1].astype(np.int64, copy=False)
    shares = partitioner.divide(classes, clients, generator(seed, DIVISION))
    return Partition(spec, clients, seed, len(labels), shares)


def labelled(labels: Array) -> bool:
    """Whether an array can be labels: one whole number for each example."""
    return labels.ndim == 1 and labels.dtype.kind in "biu"


def whole_numbers(labels: Array, who: str) -> HostArray:
    """Return labels in host memory; DataError in the name of ``who`` needs them when they are something else."""
    labels = xp.asarray(labels)
    if not labelled(labels):
        raise DataError(
            f"{who} needs labels, whole numbers (n,), not {labels.dtype}{tuple(labels.shape)}. "
            "Without labels there are iid, quantity and features"
        )
    return xp.to_host(labels)

"""Holdings: what a partition's clients hold, in numbers."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from ps.data import Partition, partition
from ps.dataclass import dataclass
from ps.partition import Features
from ps.xp import HostArray

Measures: TypeAlias = dict[str, dict[str, float]]
"""Of examples, labels and skew: the smallest, median, largest and mean over the clients, and iid's mean."""


@dataclass(frozen=True, slots=True, eq=False)
class Holdings:
    """How many examples of each label each client holds: ``counts`` (clients, labels), beside those of iid."""

    dataset: str
    partition: Partition
    labels: HostArray
    counts: HostArray
    iid: HostArray

    @classmethod
    def of(cls, dataset: str, division: Partition, labels: HostArray) -> Holdings:
        """Count what a division's clients hold, and what iid's would."""
        iid = partition("iid", labels, division.clients, division.seed)
        return cls(dataset, division, np.unique(labels), division.histogram(labels), iid.histogram(labels))

    @property
    def noise(self) -> float:
        """The deviation of the last client's noise; 0 where nothing is distorted."""
        partitioner, clients = self.partition.spec.build(), self.partition.clients
        return partitioner.sigma * (clients - 1) / clients if isinstance(partitioner, Features) else 0.0

    def measures(self) -> Measures:
        """Return examples, labels and skew over the clients."""
        found = {}
        for name, per_client, of_iid in (
            ("examples", self.counts.sum(axis=1), self.iid.sum(axis=1)),
            ("labels", (self.counts > 0).sum(axis=1), (self.iid > 0).sum(axis=1)),
            ("skew", skew(self.counts), skew(self.iid)),
        ):
            found[name] = {
                "smallest": per_client.min().item(),
                "median": np.median(per_client).item(),
                "largest": per_client.max().item(),
                "mean": per_client.mean().item(),
                "iid_mean": of_iid.mean().item(),
            }
        return found

    def as_json(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        return {
            "partition": str(self.partition.spec),
            "dataset": self.dataset,
            "seed": self.partition.seed,
            "clients": self.partition.clients,
            "examples": self.partition.examples,
            "measures": self.measures(),
            "noise": self.noise,
            "labels": self.labels.tolist(),
            "sizes": self.partition.sizes.tolist(),
            "counts": self.counts.tolist(),
        }


def skew(counts: HostArray) -> HostArray:
    """Return for each client the total variation distance of its labels from everybody's, (clients,) in [0, 1).

    Half the sum of the differences between the two distributions: 0 when they are the same, near 1 when the client
    holds a label that hardly anybody else has.
    """
    everybody = counts.sum(axis=0) / counts.sum()
    return np.asarray(np.abs(counts / counts.sum(axis=1, keepdims=True) - everybody).sum(axis=1) / 2)

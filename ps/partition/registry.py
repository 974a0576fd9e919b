"""The ways to divide, one line each."""

from __future__ import annotations

from ps.partition.dirichlet import Dirichlet
from ps.partition.features import Features
from ps.partition.iid import IID
from ps.partition.labels import Labels
from ps.partition.own import Own
from ps.partition.partitioner import Partitioner
from ps.partition.quantity import Quantity
from ps.partition.shards import Shards
from ps.spec import Registry

PARTITIONERS: Registry[Partitioner] = Registry(
    "partition",
    {
        "dirichlet": Dirichlet,
        "features": Features,
        "iid": IID,
        "labels": Labels,
        "own": Own,
        "quantity": Quantity,
        "shards": Shards,
    },
    interface=Partitioner,
)

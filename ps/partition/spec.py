"""Partitioner, the interface every way to divide fulfils; PartitionSpec, how a job names one; and the registry."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np

from ps.errors import ConfigError
from ps.optim import spec
from ps.partition.dirichlet import Dirichlet
from ps.partition.features import Features
from ps.partition.iid import IID
from ps.partition.labels import Labels
from ps.partition.own import Own
from ps.partition.quantity import Quantity
from ps.partition.shards import Shards
from ps.xp import HostArray


class Partitioner(Protocol):
    """A way to divide examples among clients: numbers and a function."""

    @property
    def by_label(self) -> bool:
        """Whether the division depends on labels, and cannot be had without them."""

    def divide(self, classes: HostArray, clients: int, rng: np.random.Generator) -> tuple[HostArray, ...]:
        """Return for each client its examples' indices, int64, increasing, read-only.

        ``classes`` is (n,) int64: the class of each example, from 0 up to the number of classes, none of them empty;
        all 0 where examples have no labels. ``clients`` is at least 1. DataError, with numbers, when it cannot be.
        """


PARTITIONERS: spec.Table = {
    "dirichlet": Dirichlet,
    "features": Features,
    "iid": IID,
    "labels": Labels,
    "own": Own,
    "quantity": Quantity,
    "shards": Shards,
}


@dataclass(frozen=True, slots=True)
class PartitionSpec:
    """A way to divide and all its numbers, checked; equal specs have equal text.

    >>> PartitionSpec.parse("dirichlet:0.1,least=10")
    PartitionSpec(name='dirichlet', numbers=(('alpha', 0.1), ('least', 10), ('balance', 0)))
    >>> str(PartitionSpec.parse("shards"))
    'shards:count=2'
    """

    name: str
    numbers: spec.Numbers = ()

    def __post_init__(self) -> None:
        given = dict(self.numbers)
        if given and self.name in PARTITIONERS and not dataclasses.fields(PARTITIONERS[self.name]):
            raise ConfigError(f"partition {self.name} takes no numbers, not even {next(iter(given))}")
        object.__setattr__(self, "numbers", spec.complete("partition", PARTITIONERS, self.name, given))

    @classmethod
    def parse(cls, text: str) -> PartitionSpec:
        """Read ``name``, ``name:number`` or ``name:number,key=number,…``; ConfigError when it is wrong.

        The number without a key is the first: shards' count, alpha of dirichlet and quantity, labels' k, and
        features' sigma.
        """
        return cls(*spec.parse_short("partition", PARTITIONERS, text))

    def __str__(self) -> str:
        return spec.text(self.name, self.numbers)

    def build(self) -> Partitioner:
        """Return the way to divide."""
        return cast(Partitioner, PARTITIONERS[self.name](**dict(self.numbers)))

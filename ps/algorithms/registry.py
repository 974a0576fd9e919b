"""AlgorithmSpec, how a job names a federated algorithm, and the registry."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import cast

from ps.algorithms.algorithm import Algorithm
from ps.algorithms.diloco import DiLoCo
from ps.algorithms.fedadagrad import FedAdagrad
from ps.algorithms.fedadam import FedAdam
from ps.algorithms.fedavg import FedAvg
from ps.algorithms.fedavgm import FedAvgM
from ps.algorithms.fedbuff import FedBuff
from ps.algorithms.fednova import FedNova
from ps.algorithms.fedprox import FedProx
from ps.algorithms.fedyogi import FedYogi
from ps.algorithms.scaffold import Scaffold
from ps.errors import ConfigError
from ps.optim import spec

ALGORITHMS: spec.Table = {
    "diloco": DiLoCo,
    "fedadagrad": FedAdagrad,
    "fedadam": FedAdam,
    "fedavg": FedAvg,
    "fedavgm": FedAvgM,
    "fedbuff": FedBuff,
    "fednova": FedNova,
    "fedprox": FedProx,
    "fedyogi": FedYogi,
    "scaffold": Scaffold,
}
"""Name -> the dataclass of its numbers; ``build()`` returns the Algorithm."""


@dataclass(frozen=True, slots=True)
class AlgorithmSpec:
    """An algorithm's name and all its numbers, checked; equal specs have equal text.

    >>> AlgorithmSpec.parse("fedprox:0.1")
    AlgorithmSpec(name='fedprox', numbers=(('mu', 0.1),))
    >>> str(AlgorithmSpec.parse("fedbuff"))
    'fedbuff:buffer=10'
    """

    name: str
    numbers: spec.Numbers = ()

    def __post_init__(self) -> None:
        given = dict(self.numbers)
        if given and self.name in ALGORITHMS and not dataclasses.fields(ALGORITHMS[self.name]):
            raise ConfigError(f"algorithm {self.name} takes no numbers, not even {next(iter(given))}")
        object.__setattr__(self, "numbers", spec.complete("algorithm", ALGORITHMS, self.name, given))

    @classmethod
    def parse(cls, text: str) -> AlgorithmSpec:
        """Read ``name``, ``name:number`` or ``name:number,key=number,…``; ConfigError when it is wrong.

        The number without a key is the algorithm's first: fedprox's mu, fedavgm's momentum, fedbuff's buffer, the
        server's learning rate of the others.
        """
        return cls(*spec.parse_short("algorithm", ALGORITHMS, text))

    def __str__(self) -> str:
        return spec.text(self.name, self.numbers)

    def build(self) -> Algorithm:
        """Return the algorithm."""
        return cast(Algorithm, ALGORITHMS[self.name](**dict(self.numbers)).build())

"""The federated algorithms, one line each."""

from __future__ import annotations

from ps.algorithms.algorithm import Algorithm, Definition
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
from ps.spec import Registry


def record(definition: Definition) -> Algorithm:
    """Return the choices that a definition's numbers make."""
    return definition.build()


ALGORITHMS: Registry[Algorithm] = Registry(
    "algorithm",
    {
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
    },
    finish=record,
    interface=Definition,
)

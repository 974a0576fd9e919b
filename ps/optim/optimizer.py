"""Optimizer, the interface every algorithm fulfils; OptimizerSpec, how a job names one; and the registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np

from ps.optim import spec
from ps.optim.adagrad import Adagrad
from ps.optim.adam import Adam
from ps.optim.adamw import AdamW
from ps.optim.fedadagrad import ServerAdagrad
from ps.optim.fedadam import ServerAdam
from ps.optim.fedyogi import ServerYogi
from ps.optim.ftrl import FTRL
from ps.optim.kernel import Kernel
from ps.optim.lion import Lion
from ps.optim.momentum import Momentum
from ps.optim.nesterov import Nesterov
from ps.optim.rmsprop import RMSprop
from ps.optim.sgd import SGD
from ps.xp import Array, HostArray


class Optimizer(Protocol):
    """An optimizer is numbers and functions; its state is arrays that the caller holds."""

    @property
    def lr(self) -> float:
        """The base learning rate, which a schedule scales."""

    @property
    def weight_decay(self) -> float:
        """The factor of the weights that is added to the gradient, or taken off the weights."""

    @property
    def coupled(self) -> bool:
        """Whether weight decay is added to the gradient (L2), which the driver does; else it is added to the step."""

    @property
    def linear(self) -> bool:
        """Whether scaling the gradient is the same as scaling the learning rate."""

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of the state arrays, each shaped like the weights."""

    @property
    def kernel(self) -> Kernel:
        """The update on a CUDA device."""

    def init(self, weights: Array) -> dict[str, Array]:
        """Return the state before the first update: shape, dtype and side of ``weights``."""

    def constants(self, lr: float, t: int, dtype: np.dtype[np.floating]) -> tuple[float, ...]:
        """Return the scalars of update number ``t`` (from 1), in double precision, in the kernel's order."""

    def update(
        self,
        w: HostArray,
        g: HostArray,
        state: tuple[HostArray, ...],
        scratch: tuple[HostArray, HostArray],
        constants: tuple[float, ...],
    ) -> None:
        """Update one block of ``w`` and ``state`` in place; ``g`` is read, ``scratch`` may be overwritten."""


OPTIMIZERS: spec.Table = {
    "adagrad": Adagrad,
    "adam": Adam,
    "adamw": AdamW,
    "fedadagrad": ServerAdagrad,
    "fedadam": ServerAdam,
    "fedyogi": ServerYogi,
    "ftrl": FTRL,
    "lion": Lion,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "rmsprop": RMSprop,
    "sgd": SGD,
}


@dataclass(frozen=True, slots=True)
class OptimizerSpec:
    """An optimizer's name and all its numbers, checked; equal specs have equal text.

    >>> OptimizerSpec.parse("momentum:lr=0.1")
    OptimizerSpec(name='momentum', numbers=(('lr', 0.1), ('momentum', 0.9), ('weight_decay', 0.0)))
    >>> str(OptimizerSpec.parse("momentum:lr=1e-1"))
    'momentum:lr=0.1,momentum=0.9,weight_decay=0.0'
    """

    name: str
    numbers: spec.Numbers = ()

    def __post_init__(self) -> None:
        complete = spec.complete("optimizer", OPTIMIZERS, self.name, dict(self.numbers))
        object.__setattr__(self, "numbers", complete)

    @classmethod
    def parse(cls, text: str) -> OptimizerSpec:
        """Read ``name:key=number,…``; missing numbers take their defaults. ConfigError when it is wrong."""
        return cls(*spec.parse("optimizer", OPTIMIZERS, text))

    def __str__(self) -> str:
        return spec.text(self.name, self.numbers)

    def build(self) -> Optimizer:
        """Return the optimizer."""
        return cast(Optimizer, OPTIMIZERS[self.name](**dict(self.numbers)))

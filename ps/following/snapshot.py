"""Snapshot: the model of a job at one moment, as arrays by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field

from ps.dataclass import dataclass
from ps.half import HALVES
from ps.protocol.layout import Layout
from ps.weights_file import COPIES, MASTERS
from ps.xp import HostArray

TRAINED = "what is trained: frozen tensors, buffers and counters stay with the workers"


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot(Mapping[str, HostArray]):
    """The tensors that a job's servers hold, by name; they are the reader's own.

    ``clock``: how many steps, or federated rounds, are in it: in sync and federated jobs exactly, in async and ssp
    those of the worker that was ahead, since what others had on their way may be in one tensor and not in another.
    ``final``: it is the last one, of a job that has ended.
    """

    tensors: dict[str, HostArray] = field(repr=False)
    clock: int
    mode: str
    job: str
    final: bool = False
    weights: str = ""
    """Of half precision: whether these are the copies that workers compute with, or the float32 masters."""

    def __getitem__(self, name: str) -> HostArray:
        return self.tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def about(self) -> dict[str, str]:
        """Return what a file says of it, as those of ``--save`` do."""
        found = {"job": self.job, "mode": self.mode, "clock": str(self.clock)}
        if self.weights:
            found["weights"] = self.weights
        if self.mode != "federated":
            found["tensors"] = TRAINED
        return found


def precision(layout: Layout, *, masters: bool) -> str:
    """Return what is said of the weights of a model with tensors of half precision; nothing of any other."""
    if not any(tensor.dtype in HALVES for tensor in layout.tensors):
        return ""
    return MASTERS if masters else COPIES

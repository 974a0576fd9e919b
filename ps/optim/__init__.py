"""Optimizers and learning-rate schedules: pure functions over flat vectors, on NumPy and CuPy."""

from ps.optim.clip import clip_scale, square_sum
from ps.optim.driver import Reader, apply
from ps.optim.optimizer import Optimizer
from ps.optim.registry import OPTIMIZERS, SCHEDULES
from ps.optim.schedule import Schedule
from ps.optim.weighted_sum import WeightedSum
from ps.optim.workspace import Workspace

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "Optimizer",
    "Reader",
    "Schedule",
    "WeightedSum",
    "Workspace",
    "apply",
    "clip_scale",
    "square_sum",
]

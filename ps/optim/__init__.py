"""Optimizers and learning-rate schedules: pure functions over flat vectors, on NumPy and CuPy."""

from ps.optim.clip import clip_scale, square_sum
from ps.optim.driver import Reader, Workspace, apply
from ps.optim.optimizer import OPTIMIZERS, Optimizer, OptimizerSpec
from ps.optim.schedule import SCHEDULES, Schedule

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "Optimizer",
    "OptimizerSpec",
    "Reader",
    "Schedule",
    "Workspace",
    "apply",
    "clip_scale",
    "square_sum",
]

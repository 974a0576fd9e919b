"""Federated algorithms: each a record of choices and a few pure functions; nothing here knows of processes."""

from ps.algorithms.algorithm import Algorithm, Correct, Factor, Renew, Scale
from ps.algorithms.effective import SUMS, effective_steps, sums_gradients
from ps.algorithms.local_step import LocalStep, StepArrays
from ps.algorithms.registry import ALGORITHMS

__all__ = [
    "ALGORITHMS",
    "SUMS",
    "Algorithm",
    "Correct",
    "Factor",
    "LocalStep",
    "Renew",
    "Scale",
    "StepArrays",
    "effective_steps",
    "sums_gradients",
]

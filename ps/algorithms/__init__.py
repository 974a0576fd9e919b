"""Federated algorithms: each a record of choices and a few pure functions; nothing here knows of processes."""

from ps.algorithms.algorithm import Algorithm, Correct, Factor, Renew, Scale
from ps.algorithms.registry import ALGORITHMS, AlgorithmSpec

__all__ = ["ALGORITHMS", "Algorithm", "AlgorithmSpec", "Correct", "Factor", "Renew", "Scale"]

"""Aggregators: how the gradients of a clock, or the deltas of a round, become one; pure functions on host arrays."""

from ps.aggregators.aggregator import Aggregator, Combine, Fold, Weigh
from ps.aggregators.distances import distances
from ps.aggregators.registry import AGGREGATORS

__all__ = ["AGGREGATORS", "Aggregator", "Combine", "Fold", "Weigh", "distances"]

"""Aggregators: how the deltas of a round become one, as pure functions on host arrays that need no server."""

from ps.aggregators.aggregator import Aggregator, Combine, Fold, Weigh
from ps.aggregators.distances import distances
from ps.aggregators.registry import AGGREGATORS

__all__ = ["AGGREGATORS", "Aggregator", "Combine", "Fold", "Weigh", "distances"]

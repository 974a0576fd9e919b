"""Aggregation rules: how the deltas of a round become one, as pure functions on host arrays that need no server."""

from ps.rules.distances import distances
from ps.rules.registry import RULES, RuleSpec
from ps.rules.rule import Combine, Fold, Rule, Weigh

__all__ = ["RULES", "Combine", "Fold", "Rule", "RuleSpec", "Weigh", "distances"]

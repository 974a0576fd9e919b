"""Federated rounds: what the scheduler decides about them, and what the servers do with clients' deltas."""

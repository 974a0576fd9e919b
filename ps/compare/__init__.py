"""The comparison of the paradigms: one script run centralized, distributed and federated, and one report of it."""

"""The helper of secure aggregation: a second party that tells the sum of clients' masks, and never sees a delta."""

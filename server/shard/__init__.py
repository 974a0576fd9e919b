"""A server: its shard of the model as a state machine, and the process around that. Knows nothing of the scheduler's."""

"""A server: its shard of the model as a state machine, and the process around it. The scheduler is elsewhere."""

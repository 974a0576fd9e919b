"""The scheduler: who is in the job, in which order they go, and what they agreed on. Never on the data path."""

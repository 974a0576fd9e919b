"""Following: reading a job's model while it is trained, without being one of its members."""

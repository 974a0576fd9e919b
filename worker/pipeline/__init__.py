"""A worker's part in a pipeline: channels to the other workers, and the execution of its stages."""

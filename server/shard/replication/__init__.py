"""A server and its standby: what is said of each change of the model, and what becomes of it on the other side."""

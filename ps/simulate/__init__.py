"""A federation on one machine: the real scheduler and servers, clients in worker processes, time that is computed."""

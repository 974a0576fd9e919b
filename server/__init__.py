"""The server processes: shards, modes, aggregation, and the scheduler that seats the members."""

if __name__ != "ps.server":
    raise ImportError(f"import this package as ps.server, not as {__name__!r}")

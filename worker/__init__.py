"""The worker processes: the client (KV), its stores, and the runner of training scripts."""

if __name__ != "ps.worker":
    raise ImportError(f"import this package as ps.worker, not as {__name__!r}")

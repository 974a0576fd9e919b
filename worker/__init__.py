"""The worker processes: the client (KV), its stores, and the runner of training scripts."""

if __name__ != "ps.worker":
    raise ImportError(f"import this package as ps.worker, not as {__name__!r}")

from ps.worker.handle import Handle
from ps.worker.kv import KV
from ps.worker.script import run_script
from ps.worker.startup import connect

__all__ = ["KV", "Handle", "connect", "run_script"]

"""The worker processes: the client (KV), its stores, and the runner of training scripts."""

if __name__ != "ps.worker":
    raise ImportError(f"import this package as ps.worker, not as {__name__!r}")

from ps.worker.entry import connect
from ps.worker.handle import Handle
from ps.worker.kv import KV
from ps.worker.script import run_script

__all__ = ["KV", "Handle", "connect", "run_script"]

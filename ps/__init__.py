"""ps: a parameter server for Python.

import ps
from ps.models import mlp

with ps.connect() as kv:
    params = kv.init(mlp.init([64, 128, 10], seed=0))
    for x, y in kv.batches(train, batch_size=32, epochs=5):
        loss, grads = mlp.loss_and_grad(params, x, y)
        kv.step(grads, loss=loss)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["KV", "Handle", "PSError", "__version__", "connect"]

if TYPE_CHECKING:
    from ps.errors import PSError
    from ps.worker import KV, Handle, connect


def __getattr__(name: str) -> Any:
    """Load the client when it is first used: servers and ``psctl --help`` need none of it."""
    if name == "PSError":
        from ps.errors import PSError

        return PSError
    if name in __all__:
        from ps import worker

        return getattr(worker, name)
    raise AttributeError(f"module 'ps' has no attribute {name!r}")

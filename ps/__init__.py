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

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["KV", "Handle", "PSError", "Pipeline", "__version__", "connect", "follow", "run"]

_LINKS = ("protocol", "server", "worker")
_ELSEWHERE = {
    "PSError": "ps.errors",
    "Pipeline": "ps.pipeline",
    "follow": "ps.following.follower",
    "run": "ps.launch.run",
}
_SUBPACKAGES = ("data", "errors", "federated", "jax", "models", "optim", "pipeline", "ray", "torch")

_HERE = os.path.dirname(__file__)  # noqa: PTH120
if os.path.isdir(_HERE) and not all(os.path.isdir(os.path.join(_HERE, each)) for each in _LINKS):  # noqa: PTH112, PTH118
    raise ImportError(
        f"{_HERE} is not whole: {', '.join(_LINKS)} in it are symbolic links, which were lost on the way here (a zip "
        f"archive, or Windows). Try: pip install paramserver, or git clone -c core.symlinks=true"
    )

if TYPE_CHECKING:
    from ps import data as data
    from ps import errors as errors
    from ps import federated as federated
    from ps import jax as jax
    from ps import models as models
    from ps import optim as optim
    from ps import pipeline as pipeline
    from ps import ray as ray
    from ps.errors import PSError
    from ps.following.follower import follow
    from ps.launch.run import run
    from ps.pipeline import Pipeline
    from ps.worker import KV, Handle, connect


def __getattr__(name: str) -> Any:
    """Load the client when it is first used: servers and ``psctl --help`` need none of it."""
    if name in _SUBPACKAGES:
        return importlib.import_module(f"ps.{name}")
    if name not in __all__:
        raise AttributeError(f"module 'ps' has no attribute {name!r}")
    found = getattr(importlib.import_module(_ELSEWHERE.get(name, "ps.worker")), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBPACKAGES})

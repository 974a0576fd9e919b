"""Which models can be simulated: ours by name, or a user's own as a file of Python."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ps.errors import ConfigError
from ps.memory import check_fits
from ps.models import cnn, mlp, softmax
from ps.regular_file import SOURCE, blaming, read_regular
from ps.xp import HostArray

MODELS: dict[str, ModuleType] = {"cnn": cnn, "mlp": mlp, "softmax": softmax}
STACKED = ("mlp", "softmax")
"""Models of which many clients are computed in one go; of others one after the other."""


COPIES = 5
"""Of a model, those that a simulation holds at least: first and published weights, a client's, gradient and delta."""

NEEDED = ("init", "loss_and_grad", "predict", "accuracy")
"""What a file must define, as the modules of ``ps.models`` do: ``init(seed)`` returns float32 tensors by name,
``loss_and_grad(params, x, y)`` the loss and the gradients, ``predict(params, x)`` classes, ``accuracy(params, data)`` a
share. Where its examples come from may be there too: see ``ps.simulate.examples``."""

NEEDED_WITH_FIT = ("init", "fit", "evaluate")
"""What a file must define whose clients train by themselves: ``fit(params, round)``, as ``ps.federated.Client`` has it,
and ``evaluate(params)``, which returns numbers by name for the global parameters, ``accuracy`` among them. A function
``client_size(client)`` may say how many examples a client has: its virtual time depends on it."""


def is_file(name: str) -> bool:
    """Whether a model's name is that of a file."""
    return name.endswith(".py")


def model_named(name: str) -> Any:
    """Return a model's module; ConfigError when there is none of this name, or the file lacks something."""
    if is_file(name):
        return _module(str(Path(name).absolute()))
    if name not in MODELS:
        raise ConfigError(f"model {name!r}: there are {', '.join(MODELS)}, or a file such as model.py")
    return MODELS[name]


def has_fit(name: str) -> bool:
    """Whether a model is a file whose clients train by a function of their own."""
    return is_file(name) and callable(getattr(model_named(name), "fit", None))


@functools.cache
def _module(path: str) -> ModuleType:
    with blaming(path, "model", error=ConfigError):
        compile(read_regular(path, SOURCE), path, "exec")
    spec = importlib.util.spec_from_file_location(f"ps_model_{Path(path).stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"there is no model {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(spec.name, module)  # where dataclasses with postponed annotations look for their names
    folder = str(Path(path).parent)
    if folder not in sys.path:
        sys.path.append(folder)  # what lies beside the file can be imported, as beside a script
    spec.loader.exec_module(module)
    needed = NEEDED_WITH_FIT if callable(getattr(module, "fit", None)) else NEEDED
    missing = [each for each in needed if not callable(getattr(module, each, None))]
    if missing:
        raise ConfigError(f"{path} has no function {', '.join(missing)}; a model has {', '.join(needed)}")
    return module


def fresh(
    name: str, shape: tuple[int, ...], classes: int, hidden: Sequence[int] = (200,), seed: int = 0
) -> dict[str, HostArray]:
    """Return a model's first parameters for examples of ``shape``. ``hidden`` are the widths of mlp's hidden layers."""
    model, features = model_named(name), math.prod(shape)
    if is_file(name):
        return _tensors(name, model.init(seed=seed))
    if name == "cnn":
        side = math.isqrt(features)
        image = shape if len(shape) > 1 else (side, side)
        return dict(model.init(seed, classes=classes, image=image))
    sizes = [features, *(hidden if name == "mlp" else ()), classes]
    count = sum((above + 1) * below for above, below in itertools.pairwise(sizes))
    check_fits(COPIES * 4 * count, f"{COPIES} copies of a model of {count:,} parameters (--hidden, --features)")
    return dict(model.init(sizes, seed=seed))


def _tensors(name: str, params: Any) -> dict[str, HostArray]:
    """Return what a file's ``init`` returned, if it is a model."""
    if not isinstance(params, Mapping) or not params:
        raise ConfigError(f"init of {name} returned {type(params).__name__}: expected a dict of float32 arrays by name")
    for key, value in params.items():
        if not isinstance(value, np.ndarray) or value.dtype != np.float32:
            kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
            raise ConfigError(f"init of {name} returned {key!r} as {kind}: expected a float32 array")
    return dict(params)

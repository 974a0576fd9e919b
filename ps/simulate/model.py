"""Which models can be simulated, by name: how they begin, and how many clients of one are trained at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from ps.errors import ConfigError
from ps.models import cnn, mlp, softmax
from ps.xp import HostArray

MODELS: dict[str, ModuleType] = {"cnn": cnn, "mlp": mlp, "softmax": softmax}
STACKED = ("mlp", "softmax")
"""Models of which many clients are computed in one go; of others one after the other."""


def model_named(name: str) -> Any:
    """Return a model's module; ConfigError when there is none of this name."""
    if name not in MODELS:
        raise ConfigError(f"model {name!r}: there are {', '.join(MODELS)}")
    return MODELS[name]


def fresh(
    name: str, shape: tuple[int, ...], classes: int, hidden: Sequence[int] = (200,), seed: int = 0
) -> dict[str, HostArray]:
    """Return a model's first parameters for examples of ``shape``. ``hidden`` are the widths of mlp's hidden layers."""
    model, features = model_named(name), math.prod(shape)
    if name == "cnn":
        side = math.isqrt(features)
        image = shape if len(shape) > 1 else (side, side)
        return dict(model.init(seed, classes=classes, image=image))
    return dict(model.init([features, *(hidden if name == "mlp" else ()), classes], seed=seed))

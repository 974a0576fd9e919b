"""Layers for tests of pipelines, beside those of ``ps.models``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ps.pipeline import ForwardPass


@dataclass
class Linear:
    """``x @ w``, whose backward pass comes in one piece."""

    inputs: int
    outputs: int

    def init(self, rng: np.random.Generator) -> dict[str, Any]:
        return {"w": rng.standard_normal((self.inputs, self.outputs), np.float32) / np.float32(self.inputs)}

    def forward(self, params: Mapping[str, Any], x: Any) -> Any:
        return x @ params["w"], x

    def backward(self, params: Mapping[str, Any], saved: Any, dy: Any) -> Any:
        return dy @ params["w"].T, {"w": saved.T @ dy}


class Transposed(Linear):
    """``x @ w.T``: a head with the tensor of an embedding."""

    def forward(self, params: Mapping[str, Any], x: Any) -> Any:
        return x @ params["w"].T, x

    def backward(self, params: Mapping[str, Any], saved: Any, dy: Any) -> Any:
        return dy @ params["w"], {"w": dy.T @ saved}


class Plain:
    """A layer without tensors, to be a function of arrays."""

    def init(self, rng: np.random.Generator) -> dict[str, Any]:
        return {}


class Tanh(Plain):
    def forward(self, params: Mapping[str, Any], x: Any) -> Any:
        y = np.tanh(x)
        return y, y

    def backward(self, params: Mapping[str, Any], saved: Any, dy: Any) -> Any:
        return dy * (1 - saved**2), {}


class Centred(Plain):
    """Looks at the whole batch, as layers should not."""

    def forward(self, params: Mapping[str, Any], x: Any) -> Any:
        return x - x.mean(axis=0), None

    def backward(self, params: Mapping[str, Any], saved: Any, dy: Any) -> Any:
        return dy - dy.mean(axis=0), {}


class Dropout(Plain):
    """Leaves out a half, other elements in each pass; notes which passes it has seen."""

    def __init__(self) -> None:
        self.passes: list[ForwardPass] = []

    def forward(self, params: Mapping[str, Any], x: Any) -> Any:
        return x, None

    def forward_at(self, params: Mapping[str, Any], x: Any, at: ForwardPass) -> Any:
        self.passes.append(at)
        kept = (at.rng().random(x.shape) < 0.5) * np.float32(2)
        return x * kept, kept

    def backward(self, params: Mapping[str, Any], saved: Any, dy: Any) -> Any:
        return dy * saved, {}


class Masked(Plain):
    """Adds to an array a mask, None and a number, or takes them away again."""

    def __init__(self, *, adds: bool) -> None:
        self.adds = adds

    def forward(self, params: Mapping[str, Any], x: Any) -> Any:
        if self.adds:
            return (x, np.ones(len(x), np.int64), None, 3), None
        return x[0] * np.float32(x[3]), None

    def backward(self, params: Mapping[str, Any], saved: Any, dy: Any) -> Any:
        return (dy[0], {}) if self.adds else ((dy * np.float32(3), None, None, None), {})


class Forgetful(Plain):
    """An output that does not depend on the input."""

    def forward(self, params: Mapping[str, Any], x: Any) -> Any:
        return np.ones_like(x), None

    def backward(self, params: Mapping[str, Any], saved: Any, dy: Any) -> Any:
        return None, {}

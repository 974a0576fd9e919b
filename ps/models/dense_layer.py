"""DenseLayer: the fully connected layer, with or without a ReLU behind it, as one of a pipeline's layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ps import xp
from ps.dataclass import dataclass
from ps.models import dense, evaluate, initial
from ps.models.evaluate import Grads, Params
from ps.xp import Array


@dataclass(frozen=True, slots=True)
class DenseLayer:
    """(n, anything...) with ``inputs`` features in all becomes (n, outputs)."""

    inputs: int
    outputs: int
    relu: bool = False

    def init(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return fresh float32 tensors: weight (inputs, outputs) and bias."""
        shape = self.inputs, self.outputs
        weight = initial.he(rng, self.inputs, shape) if self.relu else initial.glorot(rng, *shape)
        return {"weight": weight, "bias": initial.zeros(self.outputs)}

    def forward(self, params: Params, x: Array) -> tuple[Array, Any]:
        """Return ``x @ weight + bias``, and what the backward pass needs."""
        x = evaluate.flatten(x).astype(params["weight"].dtype, copy=False)
        y = dense.forward(x, params["weight"], params["bias"])
        if self.relu:
            y = xp.namespace(y).maximum(y, 0)
        return y, (x, y if self.relu else None)

    def backward(self, params: Params, saved: Any, dy: Array) -> tuple[Array, Grads]:
        """Return the gradients by the input, (n, inputs), and by the tensors."""
        return self.backward_input(params, saved, dy), self.backward_weights(params, saved, dy)

    def backward_input(self, params: Params, saved: Any, dy: Array) -> Array:
        """Return the gradient by the input, (n, inputs)."""
        return dense.input_grad(params["weight"], _before_relu(saved, dy))

    def backward_weights(self, params: Params, saved: Any, dy: Array) -> Grads:
        """Return the gradients by weight and bias."""
        weight, bias = dense.parameter_grads(saved[0], _before_relu(saved, dy))
        return {"weight": weight, "bias": bias}

    def add_weights(self, params: Params, saved: Any, dy: Array, into: Grads, *, fresh: bool) -> None:
        """Add what ``backward_weights`` returns to what is in ``into``, or put it there (``fresh``)."""
        x, d = saved[0], _before_relu(saved, dy)
        dense.add_parameter_grads(x, d, into.get("weight"), into.get("bias"), fresh=fresh)


def _before_relu(saved: Any, dy: Array) -> Array:
    return dy if saved[1] is None else dy * (saved[1] > 0)

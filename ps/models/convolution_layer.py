"""ConvolutionLayer: a convolution with pooling and ReLU, as one of a pipeline's layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ps import xp
from ps.dataclass import dataclass
from ps.errors import UsageError
from ps.models import conv, initial, pool
from ps.models.evaluate import Grads, Params
from ps.xp import Array


@dataclass(frozen=True, slots=True)
class ConvolutionLayer:
    """Images (height, n, width, inputs) become (height / 2, n, width / 2, outputs)."""

    inputs: int
    outputs: int
    kernel: int = 5
    image: tuple[int, ...] | None = None
    """Height and width where images come as (n, height, width[, inputs]), or (n, pixels)."""
    flat: bool = False
    """Whether the output is (n, features), for a dense layer."""

    def init(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return fresh float32 tensors: weight (kernel, kernel, inputs, outputs) and bias."""
        shape = self.kernel, self.kernel, self.inputs, self.outputs
        return {
            "weight": initial.he(rng, self.kernel * self.kernel * self.inputs, shape),
            "bias": initial.zeros(self.outputs),
        }

    def forward(self, params: Params, x: Array) -> tuple[Array, Any]:
        """Return the output, and what the backward pass needs."""
        weight = params["weight"]
        given, space = x.shape, xp.namespace(x, weight)
        if self.image is not None:
            size = (len(x), *self.image, self.inputs)
            if x.size != np.prod(size):
                raise UsageError(f"images of shape {list(given)} are none of {list(size[1:])}")
            x = x.astype(weight.dtype, copy=False).reshape(size).transpose(1, 0, 2, 3)
        unrolled = conv.unroll(space, x, self.kernel)
        full = conv.forward(space, unrolled, weight, params["bias"], x.shape[:3])
        out = space.maximum(pool.forward(space, full), 0)
        y = out.transpose(1, 0, 2, 3).reshape(out.shape[1], -1) if self.flat else out
        return y, (unrolled, full, out, given)

    def backward(self, params: Params, saved: Any, dy: Array) -> tuple[Array, Grads]:
        """Return the gradients by the input, in its shape, and by the tensors."""
        d = self._before_pooling(saved, dy)
        return self._input(params, saved, d), self._weights(params, saved, d)

    def backward_input(self, params: Params, saved: Any, dy: Array) -> Array:
        """Return the gradient by the input, in its shape."""
        return self._input(params, saved, self._before_pooling(saved, dy))

    def backward_weights(self, params: Params, saved: Any, dy: Array) -> Grads:
        """Return the gradients by weight and bias."""
        return self._weights(params, saved, self._before_pooling(saved, dy))

    def _before_pooling(self, saved: Any, dy: Array) -> Array:
        _, full, out, _ = saved
        if self.flat:
            height, n, width, channels = out.shape
            dy = dy.reshape(n, height, width, channels).transpose(1, 0, 2, 3)
        return pool.input_grad(xp.namespace(full), full, out, dy * (out > 0))

    def _input(self, params: Params, saved: Any, d: Array) -> Array:
        dx = conv.input_grad(xp.namespace(d), params["weight"], d)
        return dx if self.image is None else dx.transpose(1, 0, 2, 3).reshape(saved[3])

    def _weights(self, params: Params, saved: Any, d: Array) -> Grads:
        weight, bias = conv.parameter_grads(saved[0], params["weight"], d)
        return {"weight": weight, "bias": bias}

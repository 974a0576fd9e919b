"""The gradients of many clients' perceptrons at once: one matrix product over a stack instead of one for each client.

Softmax regression is a perceptron with one layer. A client's numbers are bit for bit those that it has alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ps.dataclass import dataclass
from ps.errors import UsageError
from ps.protocol.layout import Layout
from ps.xp import HostArray


@dataclass(frozen=True, slots=True)
class Layer:
    """Where a layer lies in a client's flat vector."""

    weight: slice
    bias: slice
    shape: tuple[int, int]

    def of(self, stack: HostArray) -> tuple[HostArray, HostArray]:
        """Return views of a stack (clients, elements): weights (clients, in, out) and biases (clients, 1, out)."""
        weight = stack[:, self.weight].reshape(len(stack), *self.shape)
        return weight, stack[:, self.bias].reshape(len(stack), 1, -1)


def layers_of(layout: Layout) -> tuple[Layer, ...]:
    """Return the layers of a model of ``ps.models.softmax`` or ``mlp``; UsageError when it is none."""
    tensors = {tensor.name: tensor for tensor in layout.of_kind("trainable").tensors}
    layers = []
    for i in range(len(tensors) // 2):
        weight, bias = tensors.get(f"layer{i}/weight"), tensors.get(f"layer{i}/bias")
        if weight is None or bias is None or len(weight.shape) != 2 or bias.shape != weight.shape[1:]:
            raise UsageError(f"no perceptron: layer {i} lacks a weight (inputs, outputs) or a bias (outputs)")
        inputs, outputs = weight.shape
        layers.append(Layer(slice(weight.start, weight.stop), slice(bias.start, bias.stop), (inputs, outputs)))
    if not layers or len(tensors) != 2 * len(layers):
        raise UsageError(f"no perceptron: {', '.join(tensors)}")
    return tuple(layers)


def loss_and_grad(
    layers: Sequence[Layer], weights: HostArray, x: HostArray, y: HostArray, counts: HostArray, out: HostArray
) -> HostArray:
    """Write the gradients of the mean cross-entropy of each client's batch into ``out``, and return the losses.

    ``weights`` and ``out``: (clients, elements); ``x``: (clients, rows, features), in the weights' dtype; ``y``:
    (clients, rows) classes; ``counts``: how many rows of each client count, the rest are padding.
    """
    values = [x]
    for i, layer in enumerate(layers):
        weight, bias = layer.of(weights)
        product = np.matmul(values[-1], weight)
        product += bias
        values.append(np.maximum(product, 0, out=product) if i < len(layers) - 1 else product)
    losses, d = _cross_entropy(values.pop(), y, counts)
    for i in reversed(range(len(layers))):
        weight, bias = layers[i].of(out)
        np.matmul(values[i].transpose(0, 2, 1), d, out=weight)
        np.sum(d, axis=1, keepdims=True, out=bias)
        if i > 0:
            d = np.matmul(d, layers[i].of(weights)[0].transpose(0, 2, 1))
            d *= values[i] > 0
    return losses


def _cross_entropy(scores: HostArray, y: HostArray, counts: HostArray) -> tuple[HostArray, HostArray]:
    """Return the losses (clients,) and the gradients by the scores, which are overwritten: as ``ps.models.loss``."""
    dtype, (clients, rows, classes) = scores.dtype, scores.shape
    number = counts.astype(dtype)
    scores -= scores.max(axis=2, keepdims=True)
    flat = scores.reshape(-1)  # one index for each row: NumPy's functions along an axis take three times as long
    picked = np.arange(0, flat.size, classes) + y.reshape(-1)
    right = flat[picked].reshape(clients, rows)
    d = np.exp(scores, out=scores)
    total = d.sum(axis=2, keepdims=True)
    each = np.log(total[:, :, 0]) - right
    d /= total
    flat[picked] -= 1
    if counts.min() < rows:
        absent = np.arange(rows) >= counts[:, None]
        each[absent] = 0
        d[absent] = 0
    d /= number[:, None, None]
    return each.sum(axis=1) / number, d

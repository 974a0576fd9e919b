"""A training step of ``ps.models`` beside the same model in PyTorch: loss, gradients and plain SGD, in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from limits import interleave
from threadpoolctl import threadpool_limits

from ps.models import cnn, mlp

LR = 0.01
BATCHES = (10, 64)
SIZES = (784, 200, 200, 10)
OURS, TORCH = "ps.models", "torch"


def models(
    threads: int, repeats: int, names: Sequence[str] = ("CNN", "MLP"), batches: Sequence[int] = BATCHES
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield what was measured, for both models and each batch size, and the seconds of a step.

    ``threads`` are how many both take. Raises ValueError when the two have not learned the same.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads):
            for name in names:
                for batch in batches:
                    words = f"{name}, batches of {batch}, {threads} thread{'s' * (threads > 1)}"
                    yield words, interleave(_cases(name, batch), repeats)
    finally:
        torch.set_num_threads(before)


def _cases(name: str, batch: int) -> dict[str, Callable[[], object]]:
    import torch

    model: Any = {"CNN": cnn, "MLP": mlp}[name]
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((batch, 784), np.float32), rng.integers(0, 10, batch)
    params = model.init(SIZES) if model is mlp else model.init()
    net = (_torch_mlp if model is mlp else _torch_cnn)(params)
    optimizer = torch.optim.SGD(net.parameters(), lr=LR)
    inputs, labels = torch.from_numpy(x.copy()), torch.from_numpy(y.copy())

    def ours() -> float:
        value, grads = model.loss_and_grad(params, x, y)
        for name, gradient in grads.items():
            gradient *= LR
            params[name] -= gradient
        return float(value)

    def other() -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(inputs), labels)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    for _ in range(3):
        if not np.isclose(ours(), other(), rtol=1e-3):
            raise ValueError("the two models do not learn the same")
    return {OURS: ours, TORCH: other}


def _torch_mlp(params: dict[str, Any]) -> Any:
    from torch import nn

    layers: list[Any] = []
    for i in range(len(params) // 2):
        layers += [_linear(params[f"layer{i}/weight"], params[f"layer{i}/bias"]), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _torch_cnn(params: dict[str, Any]) -> Any:
    from torch import nn

    layers: list[Any] = [nn.Unflatten(1, (1, 28, 28))]
    for i in range(2):
        weight = params[f"conv{i}/weight"].transpose(3, 2, 0, 1)
        conv = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], padding="same")
        layers += [_filled(conv, weight, params[f"conv{i}/bias"]), nn.MaxPool2d(2), nn.ReLU()]
    first = params["dense0/weight"].reshape(7, 7, 64, -1).transpose(2, 0, 1, 3)  # torch's channels come first
    layers += [nn.Flatten(), _linear(first.reshape(7 * 7 * 64, -1), params["dense0/bias"]), nn.ReLU()]
    return nn.Sequential(*layers, _linear(params["dense1/weight"], params["dense1/bias"]))


def _linear(weight: Any, bias: Any) -> Any:
    from torch import nn

    return _filled(nn.Linear(*weight.shape), weight.T, bias)


def _filled(layer: Any, weight: Any, bias: Any) -> Any:
    """Return a layer with the weights of ours."""
    import torch

    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight)))
        layer.bias.copy_(torch.from_numpy(bias))
    return layer

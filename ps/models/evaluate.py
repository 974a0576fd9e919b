"""What all models share around their logits: bringing in a batch, and counting right answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from ps import xp
from ps.errors import UsageError
from ps.xp import Array

Params: TypeAlias = Mapping[str, Array]
"""A model's tensors by name, in forward order."""

Grads: TypeAlias = dict[str, Array]
"""A gradient for each of the tensors: same names, order, shapes, dtype and device."""

Logits: TypeAlias = Callable[[Params, Array], Array]

Ready: TypeAlias = Callable[[str, Array], object]
"""Is told a tensor's name and its gradient while those of the layers before it are still computed."""


def enter(params: Params, x: Array) -> tuple[Any, Array]:
    """Return the namespace of parameters and batch, and the batch in the parameters' dtype.

    Only the first tensor is looked at: the others may still be on their way. UsageError when it is on another side.
    """
    first = next(iter(params.values()))
    return xp.namespace(x, first), x.astype(first.dtype, copy=False)


def announce(ready: Ready | None, grads: Grads, *names: str) -> None:
    """Tell ``ready``, if there is one, of the gradients with these names."""
    if ready is not None:
        for name in names:
            ready(name, grads[name])


def flatten(x: Array) -> Array:
    """Return (n, anything...) as (n, features)."""
    return x if x.ndim == 2 else x.reshape(len(x), -1)


def accuracy(logits: Logits, params: Params, data: Iterable[Array], batch_size: int) -> float:
    """Return the share of examples, between 0 and 1, whose largest logit is that of their class.

    ``data`` is a Dataset or a pair (x, y). Examples in host memory are copied to the parameters' device one
    batch at a time. UsageError when there are none.
    """
    x, y = data
    if len(x) == 0 or len(x) != len(y) or batch_size < 1:
        raise UsageError(f"no accuracy of {len(x)} examples with {len(y)} labels, batch size {batch_size}")
    backend = xp.backend_of(next(iter(params.values())))

    def here(array: Array) -> Array:
        return backend.to_device(array) if xp.is_host(array) and backend is not xp.NUMPY else array

    right = 0
    for at in range(0, len(x), batch_size):
        batch = slice(at, at + batch_size)
        right += int((logits(params, here(x[batch])).argmax(axis=1) == here(y[batch])).sum())
    return right / len(x)

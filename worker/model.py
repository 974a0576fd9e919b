"""Model: the tensors that a script hands to ``kv.init``, checked, and what each of them is."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ps import xp
from ps.errors import UsageError
from ps.optim.limit import all_within, elements_within, limit_of
from ps.protocol.layout import Layout, Tensor
from ps.worker.parameters import readable
from ps.xp import Array, HostArray

log = logging.getLogger("ps.worker")

KINDS = ("trainable", "buffer", "counter")


@dataclass(frozen=True, slots=True)
class Model:
    """``arrays`` by name, in the script's order; ``layout`` has all of them, ``trained`` those that have gradients."""

    arrays: dict[str, Array]
    layout: Layout
    trained: Layout

    def fill(self, layout: Layout, values: HostArray) -> None:
        """Copy the tensors of a layout into a flat buffer."""
        for name, view in layout.views(layout.flat(values)).items():
            xp.copy_to_host(self.arrays[name], view)

    def untrained(self) -> dict[str, HostArray]:
        """Return the tensors that have no gradients, in host memory."""
        return {t.name: xp.to_host(self.arrays[t.name]) for t in self.layout.tensors if t.kind != "trainable"}


def read(params: Any, kinds: Any) -> Model:
    """Return a script's model. Raises UsageError for what cannot be one, naming the tensor."""
    if not isinstance(params, Mapping):
        raise UsageError(f"a model is a dict with an array for each tensor, not {type(params).__name__}")
    arrays = {name: readable(name, value) for name, value in params.items()}
    _warn_of_ties(arrays)
    layout = Layout.of(arrays, _checked(kinds, arrays))
    trained = layout.of_kind("trainable")
    if not any(tensor.size for tensor in trained.tensors):
        raise UsageError("a model has at least one tensor with elements that is trained")
    for tensor in trained.tensors:
        _check_values(tensor, arrays[tensor.name])
    return Model(arrays, layout, trained)


def _check_values(tensor: Tensor, array: Array) -> None:
    """Raise UsageError for NaN, Inf, or what would overflow with the first decay or norm."""
    vector = array.reshape(-1)
    if all_within([vector]):
        return
    at = int(elements_within(vector).argmin())
    where = tuple(int(i) for i in np.unravel_index(at, tensor.shape)) if tensor.shape else ()
    raise UsageError(
        f"the first value of {tensor.name!r} is {float(vector[at])} at {where}; training begins with numbers of up to "
        f"{limit_of(vector.dtype):.2g}. Was the model saved after it had diverged, or never initialised?"
    )


def _warn_of_ties(arrays: Mapping[str, Array]) -> None:
    """Say which tensors share memory in the script, as one array or as views of it: here each is trained on its own."""
    open_: list[tuple[int, str]] = []
    for low, high, name in sorted((*xp.extent(array), name) for name, array in arrays.items() if array.size):
        open_ = [(end, other) for end, other in open_ if end > low]
        for _, other in open_:
            if xp.share_memory(arrays[other], arrays[name]):
                first, second = sorted((other, name), key=list(arrays).index)
                log.warning(
                    "%r and %r are one array, or share its memory, but are trained as two, which differ after the "
                    "first step; for tied weights give it one name and add up its gradients",
                    first,
                    second,
                )
        open_.append((high, name))


def _checked(kinds: Any, arrays: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the kinds; UsageError for a tensor that there is not, or a kind that scripts have nothing to do with."""
    if kinds is None:
        return {}
    if not isinstance(kinds, Mapping):
        raise UsageError(f"kinds is a dict with a kind for each tensor that is not trained, not {kinds!r}")
    for name, kind in kinds.items():
        if name not in arrays:
            raise UsageError(f"kinds names {name!r}, which is no tensor of the model")
        if kind not in KINDS:
            raise UsageError(f"{name!r} cannot be a {kind!r}; kinds are {', '.join(KINDS[:-1])} and {KINDS[-1]}")
    return kinds

"""TensorMemory: a module's tensors beside the connection's arrays, and what is copied between the two."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from ps import xp
from ps.errors import UsageError
from ps.worker import KV
from ps.xp import Array, HostArray

ROUNDING = 1e-6
"""What may be left of moving weights away and back, as SAM does, of a tensor's norm."""


class Readable:
    """An array that others may make a view of which does not know that it must not be written to."""

    def __init__(self, array: HostArray) -> None:
        about = dict(array.__array_interface__)
        self.array = array
        self.__array_interface__ = {**about, "data": (about["data"][0], False)}


def seen(array: Array) -> torch.Tensor:
    """Return a tensor over an array's memory. It never leaves this package: writing to it would end the process."""
    if not xp.is_host(array):
        return torch.from_dlpack(array)
    if array.dtype.name == "bfloat16":  # which NumPy does not know by itself
        return seen(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array if array.flags.writeable else np.asarray(Readable(array)))


def numbers(tensor: torch.Tensor) -> HostArray:
    """Return a tensor's numbers on the host, in C order."""
    flat = tensor.detach().cpu().contiguous()
    found: HostArray = flat.numpy() if flat.dtype is not torch.bfloat16 else flat.view(torch.int16).numpy()
    return found if flat.dtype is not torch.bfloat16 else found.view("bfloat16")


class TensorMemory:
    """The trained parameters and the buffers of a module, by name, and the same of a connection.

    The module keeps its own memory, and new weights are copied there: the servers' own is read-only, which torch does
    not know.
    """

    def __init__(self, kv: KV, trained: Mapping[str, torch.Tensor], buffers: Mapping[str, torch.Tensor]) -> None:
        self._kv = kv
        self._names = list(trained)
        self._parameters = [trained[name] for name in self._names]
        params = kv.params
        self._weights = [seen(params[name]) for name in self._names]
        self._buffers = list(buffers.values())
        self._kept = [seen(params[name]) for name in buffers]
        gradients = kv.grads
        self._places = {name: seen(gradients[name]) for name in self._names}
        self._versions: list[int] = []
        self._addresses: list[int] = []
        self._looks = 0

    def take(self, *, buffers: bool) -> None:
        """Copy the connection's weights into the module, and what it has of the buffers."""
        with torch.no_grad():
            torch._foreach_copy_(self._parameters, self._weights)
            if buffers and self._buffers:
                torch._foreach_copy_(self._buffers, self._kept)
        self._versions = [parameter._version for parameter in self._parameters]
        self._addresses = [parameter.data_ptr() for parameter in self._parameters]

    def keep_buffers(self) -> None:
        """Copy the module's buffers to where the connection has them."""
        if self._buffers:
            with torch.no_grad():
                torch._foreach_copy_(self._kept, self._buffers)

    def gradients(self, scale: float) -> dict[str, Any]:
        """Return what ``p.grad`` is now, times ``scale``, of each parameter that has one, where the servers read it.

        What lies there is not copied, and ``p.grad`` is never changed.
        """
        arrays = self._kv.grads
        found, places, values = {}, [], []
        for name, parameter in zip(self._names, self._parameters, strict=True):
            gradient = parameter.grad
            if gradient is None:
                continue
            if gradient.is_sparse:
                gradient = gradient.to_dense()
            place = self._places[name]
            found[name] = arrays[name]
            if gradient.data_ptr() == place.data_ptr() and gradient.stride() == place.stride() and scale == 1:
                continue
            places.append(place)
            values.append(gradient)
        with torch.no_grad():
            if places:
                torch._foreach_copy_(places, values)
            if places and scale != 1:
                torch._foreach_mul_(places, scale)
        return found

    # What the script does to the weights

    def demand_unwritten(self) -> None:
        """Raise UsageError for a parameter that was written to since the weights came, for then it is not the servers'.

        torch counts writes, but for those through ``.data``: for them the values themselves are looked at in the steps
        1, 2, 4, 8 and so on. Weights that were moved and brought back are as they were.
        """
        self._looks += 1
        every = self._looks & (self._looks - 1) == 0
        for index, parameter in enumerate(self._parameters):
            if every or parameter._version != self._versions[index] or parameter.data_ptr() != self._addresses[index]:
                self._compare(index)

    def _compare(self, index: int) -> None:
        parameter, weights = self._parameters[index].detach(), self._weights[index]
        if parameter.device != weights.device:
            weights = weights.to(parameter.device)
        if torch.equal(parameter, weights):
            return
        if parameter.shape == weights.shape:
            if torch.allclose(parameter, weights, rtol=0, atol=0, equal_nan=True):
                return
            off = float(torch.linalg.vector_norm((parameter - weights).double()))
            if off <= ROUNDING * float(torch.linalg.vector_norm(weights.double())):
                return
        raise UsageError(
            f"parameter {self._names[index]!r} was changed by the script since the last step, and the servers, which "
            f"decide what the weights are, know nothing of it. Clamp or normalise where the model uses the weight "
            f"(torch.nn.utils.parametrize), average into a copy, load a model before the optimizer is made; "
            f"optimizer.refresh() brings the servers' weights back"
        )


def demand_known(tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Raise UsageError naming a parameter that is frozen and has a gradient."""
    for name, tensor in tensors:
        if tensor.grad is not None:
            raise UsageError(
                f"parameter {name!r} has a gradient, and was frozen when the optimizer was made, so the servers do not "
                f"have it. To train it later, make the optimizer first and freeze it then (requires_grad_(False)): "
                f"without a gradient it stays as it is"
            )

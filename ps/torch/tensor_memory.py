"""TensorMemory: a module's tensors beside the connection's arrays, and what is copied between the two."""

from __future__ import annotations

import operator
from collections.abc import Container, Iterable, Mapping
from itertools import repeat
from typing import Any

import numpy as np
import torch

from ps import xp
from ps.errors import UsageError
from ps.worker import KV
from ps.xp import Array, HostArray

ROUNDING = 1e-6
"""What may be left of moving weights away and back, as SAM does, of a tensor's norm."""

SMALL = 1 << 15
"""Bytes of a gradient, at most, that is copied together with others."""
VERSION, GRADIENT, LAYOUT = map(operator.attrgetter, ("_version", "grad", "layout"))
ADDRESS = torch.Tensor.data_ptr
"""What is asked of each of a thousand tensors is asked by ``map``, which costs a third of a loop."""


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
    if array.dtype.kind == "V":  # bfloat16, which NumPy does not know by itself
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
        self._places = [seen(gradients[name]) for name in self._names]
        ends = [xp.extent(gradients[name]) for name in self._names]
        self._span = min(low for low, _ in ends), max(high for _, high in ends)
        self._runs = _runs([gradients[name] for name in self._names])
        self._arrays = gradients
        self._weight: float | None = None
        self._versions: list[int] = []
        self._addresses = list(map(ADDRESS, self._parameters))
        self._looks = 0

    def take(self, *, buffers: bool) -> None:
        """Copy the connection's weights into the module, and what it has of the buffers."""
        with torch.inference_mode():  # which copies a thousand small tensors in two thirds of the time of no_grad
            torch._foreach_copy_(self._parameters, self._weights)
            if buffers and self._buffers:
                torch._foreach_copy_(self._buffers, self._kept)
        self._versions = list(map(VERSION, self._parameters))

    def keep_buffers(self) -> None:
        """Copy the module's buffers to where the connection has them."""
        if self._buffers:
            with torch.inference_mode():
                torch._foreach_copy_(self._kept, self._buffers)

    def begin(self, weight: float | None) -> None:
        """Wait until nothing of the step before is read from where gradients are put; the new ones weigh so much."""
        self._arrays, self._weight = self._kv.grads, weight

    def send(self, index: int, gradient: torch.Tensor) -> None:
        """Put one gradient where the servers read it, and announce it; on any thread. Raises UsageError."""
        place, (low, high) = self._places[index], self._span
        if not _is(gradient, place):
            if low <= gradient.data_ptr() < high:
                raise UsageError(
                    f"the gradient of {self._names[index]!r} lies in kv.grads, in the place of another one, and leaves "
                    f"as soon as it is computed: compute it in its own place, or leave out overlap=True"
                )
            with torch.inference_mode():
                place.copy_(gradient)
        with self._kv.lent():
            self._kv.ready(self._names[index], self._arrays[self._names[index]], examples=self._weight)

    def has(self, index: int, gradient: torch.Tensor) -> bool:
        """Whether a gradient is what was sent of it."""
        place = self._places[index]
        return bool(torch.allclose(gradient.to(place.device), place, rtol=0, atol=0, equal_nan=True))

    def gradients(self, scale: float, sent: Container[int] = ()) -> dict[str, Any]:
        """Return what ``p.grad`` is now, times ``scale``, of each parameter that has one, where the servers read it.

        ``begin`` comes first. What lies there is not copied, and ``p.grad`` is never changed. ``sent``: the numbers of
        parameters whose gradients are there already.
        """
        arrays = self._arrays
        given = list(map(GRADIENT, self._parameters))
        if sent:
            given = [None if index in sent else each for index, each in enumerate(given)]
        there = (
            given if all(map(operator.is_not, given, repeat(None))) else [each for each in given if each is not None]
        )
        if any(map(operator.is_not, map(LAYOUT, there), repeat(torch.strided))):
            given = [each.to_dense() if each is not None and each.is_sparse else each for each in given]
            there = [each for each in given if each is not None]
        low, high = self._span
        addresses = list(map(ADDRESS, there))
        inside = bool(addresses) and min(addresses) < high and max(addresses) >= low and self._inside(given)
        if inside and scale != 1:
            name = next(name for name, each in zip(self._names, given, strict=True) if self._inside([each]))
            raise UsageError(
                f"the gradient of {name!r} lies in kv.grads and is scaled: call "
                f"scaler.unscale_(optimizer) before scaler.step(optimizer)"
            )
        with torch.inference_mode():
            places, values = [], []
            for index, each in enumerate(given) if inside else self._copy_runs(given):
                place = self._places[index]
                if each is not None and not _is(each, place):
                    places.append(place)
                    values.append(each.clone() if inside and low <= each.data_ptr() < high else each)
            if places:
                torch._foreach_copy_(places, values)
            if scale != 1:
                used = [place for place, each in zip(self._places, given, strict=True) if each is not None]
                torch._foreach_mul_(used, scale)
        if len(there) == len(arrays):
            return arrays
        return {name: arrays[name] for name, each in zip(self._names, given, strict=True) if each is not None}

    def _inside(self, given: list[Any]) -> bool:
        """Whether one of the gradients lies where the servers read them, in its own place or in another's."""
        low, high = self._span
        return any(each is not None and low <= each.data_ptr() < high for each in given)

    def _copy_runs(self, given: list[Any]) -> Iterable[tuple[int, Any]]:
        """Copy the gradients of whole runs; return the others, with their numbers."""
        left = dict(enumerate(given))
        for lo, hi, flat, bent in self._runs:
            part = given[lo:hi]
            if all(map(operator.is_not, part, repeat(None))) and part[0].device == flat.device:
                for index in bent:
                    part[index] = part[index].reshape(-1)
                torch.cat(part, out=flat)
                if hi - lo == len(given):
                    return ()
                for index in range(lo, hi):
                    del left[index]
        return left.items()

    # What the script does to the weights

    def demand_unwritten(self) -> None:
        """Raise UsageError for a parameter that was written to since the weights came, for then it is not the servers'.

        torch counts writes, but for those through ``.data``: for them the values themselves are looked at in the steps
        1, 2, 4, 8 and so on. Weights that were moved and brought back are as they were.
        """
        self._looks += 1
        versions, addresses = list(map(VERSION, self._parameters)), list(map(ADDRESS, self._parameters))
        every = self._looks & (self._looks - 1) == 0
        if not every and versions == self._versions and addresses == self._addresses:
            return
        for index, found in enumerate(zip(versions, addresses, strict=True)):
            if every or found != (self._versions[index], self._addresses[index]):
                self._compare(index)
        self._addresses = addresses

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


def _is(gradient: torch.Tensor, place: torch.Tensor) -> bool:
    """Whether a gradient is the very memory from which it is sent."""
    return bool(gradient.data_ptr() == place.data_ptr() and gradient.stride() == place.stride())


def _runs(arrays: list[Array]) -> list[tuple[int, int, torch.Tensor, list[int]]]:
    """Return where small arrays lie one behind the other: first, last + 1, a flat tensor over their memory, and which
    of them, counted from the first, have another number of dimensions than 1.

    Concatenating a thousand costs a half of as many copies.
    """
    runs = []
    lo = 0
    while lo < len(arrays):
        hi = lo + 1
        if xp.is_host(arrays[lo]):
            while hi < len(arrays) and _follows(arrays[hi - 1], arrays[hi]):
                hi += 1
        if hi - lo > 1:
            first = arrays[lo].reshape(-1)
            size = sum(array.size for array in arrays[lo:hi])
            flat = seen(np.lib.stride_tricks.as_strided(first, (size,), (first.itemsize,)))
            runs.append((lo, hi, flat, [index for index, array in enumerate(arrays[lo:hi]) if array.ndim != 1]))
        lo = hi
    return runs


def _follows(before: HostArray, after: HostArray) -> bool:
    return (
        before.dtype == after.dtype
        and 0 < before.nbytes <= SMALL
        and 0 < after.nbytes <= SMALL
        and xp.extent(before)[1] == xp.extent(after)[0]
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

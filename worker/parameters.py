"""Parameters: the model as a worker holds it, one flat host buffer and tensors that are views of it or of its copy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ps import xp
from ps.errors import UsageError
from ps.protocol.layout import Layout, kind_of
from ps.worker.arrays import plain
from ps.xp import Array, Device, HostArray


class Parameters:
    """The tensors to train, on a device; ``buffer`` and ``shown`` are where the store writes and shows the weights.

    On the host those that are trained are the shown ones, read-only: what was written there would be lost with the next
    step, or be the servers' memory. Buffers and counters are the script's to change.
    """

    def __init__(
        self,
        layout: Layout,
        buffer: HostArray,
        shown: HostArray,
        device: Device,
        beside: dict[str, Array],
        order: list[str],
    ) -> None:
        """``beside`` are tensors that are not trained, where they stay with the worker; ``order`` is the script's."""
        self.beside = beside
        self.layout = layout
        self.buffer = buffer
        self.shown = shown
        self._device = device
        self._scratch: list[HostArray] = []
        self.watch: Callable[[], None] = lambda: None
        """Called when all have other values than before, unless a local step of a federated job made them."""
        self._host = layout.flat(buffer)
        self._on_host = device.backend is xp.NUMPY
        self.flat: dict[str, Array] = {
            section: vector if self._on_host else device.array(vector) for section, vector in self._host.items()
        }
        """The sections as flat vectors that can be changed, on the script's side."""
        fixed = {
            key: vector for key, vector in layout.flat(shown).items() if self._on_host and kind_of(key) == "trainable"
        }
        empty = {t.section: device.array(np.empty(0, t.dtype)) for t in layout.tensors if t.section not in self.flat}
        self.tensors = layout.views({**self.flat, **fixed, **empty})
        """The parameters by name."""
        found = {**self.tensors, **beside}
        self.all = {name: found[name] for name in order}
        """These and the tensors that stay with the worker, in the script's order."""
        self._on_buffer = layout.views(self._host)

    def refresh(self, name: str | None = None) -> None:
        """Bring the device's tensors, or one of them, up to date with the host's buffer."""
        if name is not None:
            if not self._on_host:
                self._device.backend.fill(self.tensors[name], self._on_buffer[name])
            return
        if not self._on_host:
            for section, vector in self._host.items():
                self._device.backend.fill(self.flat[section], vector)
        self.watch()

    def write(self, name: str, values: Array) -> None:
        """Change a tensor, also one that scripts are shown read-only."""
        xp.copy(values, self._on_buffer[name] if self._on_host else self.tensors[name])

    def are(self, out: Mapping[str, Any]) -> bool:
        """Whether ``out`` holds these very tensors."""
        return isinstance(out, Mapping) and all(out.get(name) is mine for name, mine in self.tensors.items())

    def targets(self, out: Mapping[str, Any]) -> dict[str, Array]:
        """Return the arrays of ``out`` to write weights to. Raises UsageError naming the one that does not fit."""
        if not isinstance(out, Mapping):
            raise UsageError(f"weights go into a dict of arrays, not into {type(out).__name__}")
        found = {}
        for tensor in self.layout.tensors:
            if tensor.name not in out:
                raise UsageError(f"nowhere to put tensor {tensor.name!r}: it is missing in what was given")
            if isinstance(out[tensor.name], int | float | complex | list | tuple):
                raise UsageError(f"{tensor} cannot go into a {type(out[tensor.name]).__name__}; give an array")
            array = found[tensor.name] = readable(tensor.name, out[tensor.name])
            if array.shape != tensor.shape or str(array.dtype) != tensor.dtype:
                raise UsageError(f"{tensor} cannot go into an array of {array.dtype}{list(array.shape)}")
            if xp.is_host(array) and not array.flags.writeable:
                raise UsageError(f"{tensor} cannot go into an array that is read-only")
        return found

    def give(self, targets: Mapping[str, Array], *, as_shown: bool) -> None:
        """Copy the weights as they are shown, or as the script has them, into arrays that ``targets`` returned."""
        if as_shown:
            self.scatter(self.shown, targets)
            return
        for name, mine in self.tensors.items():
            xp.copy(mine, targets[name])

    def scratch(self) -> HostArray:
        """Return a buffer for weights that ``deliver`` takes back."""
        return self._scratch.pop() if self._scratch else np.empty_like(self.buffer)

    def deliver(self, scratch: HostArray, targets: Mapping[str, Array]) -> None:
        """Copy the weights of a buffer that ``scratch`` returned into arrays that ``targets`` returned."""
        self.scatter(scratch, targets)
        self._scratch.append(scratch)

    def scatter(self, source: HostArray, targets: Mapping[str, Array]) -> None:
        """Copy the weights of a flat buffer into arrays that ``targets`` returned."""
        for name, view in self.layout.views(self.layout.flat(source)).items():
            xp.backend_of(targets[name]).fill(targets[name], view)


def readable(name: str, value: Any) -> Array:
    """Return a tensor as an array of ours. Raises UsageError naming it when it cannot be one."""
    try:
        return plain(value)
    except UsageError as error:
        raise UsageError(f"tensor {name!r} {error}") from error.__cause__

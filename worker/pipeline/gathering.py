"""How a tensor gets from the worker that has it to the one with the first stage, which writes the model to a file.

It is told of in a pass of its own, so that no worker holds more of what others have than one tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ps import xp
from ps.errors import UsageError
from ps.pipeline.arrays import ArrayKind
from ps.pipeline.runner import OUTPUTS, Transfer
from ps.worker.part import DividedModel
from ps.worker.pipeline.peers import PipelinePeers
from ps.worker.store import WholeModel
from ps.xp import HostArray

TENSOR = "tensor"
"""The plan of such a pass is a tuple: this word, the place in the pipeline of who has the tensor, and its name."""


def give(
    plan: tuple[str, int, str],
    params: Mapping[str, Any],
    place: int,
    kind: ArrayKind,
    lines: PipelinePeers,
    first_rank: int,
    number: int,
) -> None:
    """Send the tensor of a plan to the worker that asks for it, where this one, at a ``place``, has it."""
    _, holder, name = plan
    if holder == place:
        memory = np.ascontiguousarray(xp.to_host(params[name])).reshape(-1).view(np.uint8)
        lines.send(first_rank, number, Transfer(OUTPUTS, 0, 0, kind.from_host(memory)))


class TensorGathering:
    """Asks the others for what they have of a model, on the worker with the first stage."""

    def __init__(
        self,
        model: DividedModel,
        kind: ArrayKind,
        lines: PipelinePeers,
        rank: int,
        ask: Callable[[Any], int],
        persist: Callable[[Callable[[], HostArray]], HostArray],
    ) -> None:
        """``rank`` is this worker's. ``ask`` begins a pass with a plan, and returns its number; ``persist`` calls a
        function again where a worker is replaced meanwhile."""
        self._model, self._kind, self._lines, self._rank = model, kind, lines, rank
        self._ask, self._persist = ask, persist

    def whole(self, params: Mapping[str, Any]) -> WholeModel:
        """Return all tensors as shapes, and what returns the values of one; ``params`` are here. Raises UsageError."""
        if self._model.place:
            first = self._rank - self._model.place
            raise UsageError(
                f"kv.save with stages on several workers is for the one with the first stage, of rank {first}, and "
                f"this is worker {self._rank}: if kv.rank == {first}: kv.save(path)"
            )
        return self._model.arrays, lambda name: xp.to_host(params[name]) if name in params else self._received(name)

    def _received(self, name: str) -> HostArray:
        return self._persist(lambda: self._fetched(name))

    def _fetched(self, name: str) -> HostArray:
        holder, like = self._model.holders[name][0], self._model.arrays[name]
        number = self._ask((TENSOR, holder, name))
        while not (arrived := self._lines.take(number)):
            self._lines.await_any(number, f"the tensor {name}", self._rank + holder)
        memory = np.ascontiguousarray(self._kind.to_host(arrived[0].tree))
        found: HostArray = memory.view(like.dtype).reshape(like.shape)
        return found

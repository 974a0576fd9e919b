"""BatchStatistics: the running statistics of a module's batch norms, of the whole batch and once for each step.

Each micro-batch is normalised by its own statistics. What they come to for the whole batch follows from their sums, as
deferred batch norm has it (torchgpipe: Kim et al., 2020, arXiv:2004.09910).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from ps.pipeline import ForwardPass

log = logging.getLogger("ps.worker")

COUNT, MEAN, VARIANCE = "num_batches_tracked", "running_mean", "running_var"


class BatchStatistics:
    """What the batch norms within one module have seen of a step."""

    def __init__(self, module: torch.nn.Module, name: str) -> None:
        self._norms = {
            f"{path}." if path else "": part
            for path, part in module.named_modules()
            if isinstance(part, _BatchNorm) and part.track_running_stats
        }
        self._names = {f"{path}{each}" for path in self._norms for each in (COUNT, MEAN, VARIANCE)}
        self._at: ForwardPass | None = None
        self._seen: dict[str, dict[tuple[int, int], tuple[int, torch.Tensor, torch.Tensor]]]
        self._seen = {path: {} for path in self._norms}
        """For each batch norm, and step and micro-batch, the number of values in a channel, and their sum and sum of
        squares."""
        self._name = name
        self._told = False
        for path, part in self._norms.items():
            part.register_forward_pre_hook(self._look(path))

    def has(self, name: str) -> bool:
        """Whether a tensor is one of the running statistics."""
        return name in self._names

    def tell(self) -> None:
        """Say once that micro-batches are normalised by themselves, if there is a batch norm."""
        if self._norms and not self._told:
            self._told = True
            log.warning(
                "%s has batch norm, which takes each micro-batch by itself: what is trained depends on their number. "
                "Its running statistics are those of the whole batch",
                self._name,
            )

    def scratch(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return tensors with copies of the statistics, which modules write to and nobody reads."""
        return {name: each.clone() if name in self._names else each for name, each in state.items()}

    @contextlib.contextmanager
    def noting(self, at: ForwardPass) -> Iterator[None]:
        """Note what batch norms are given; a pass that is done again notes the same."""
        self._at = at
        try:
            yield
        finally:
            self._at = None

    def _look(self, path: str) -> Any:
        def look(part: torch.nn.Module, args: Any) -> None:
            if self._at is not None and part.training:
                x = args[0].detach().double()
                axes = [axis for axis in range(x.ndim) if axis != 1]
                seen = x.numel() // x.shape[1], x.sum(axes), (x * x).sum(axes)
                self._seen[path][self._at.step, self._at.microbatch] = seen

        return look

    def finish(self, state: Mapping[str, torch.Tensor]) -> None:
        """Write the running statistics anew, of what was seen in the oldest step that was not ended: the next may have
        begun."""
        step = min((at[0] for seen in self._seen.values() for at in seen), default=0)
        for path, part in self._norms.items():
            seen = [values for at, values in sorted(self._seen[path].items()) if at[0] == step]
            self._seen[path] = {at: values for at, values in self._seen[path].items() if at[0] != step}
            if not seen:
                continue
            count = sum(each[0] for each in seen)
            mean = sum(each[1] for each in seen) / count
            square = sum(each[2] for each in seen)
            variance = (square - count * mean * mean) / max(count - 1, 1)
            state[path + COUNT].add_(1)
            share = 1 / float(state[path + COUNT]) if part.momentum is None else part.momentum
            for name, value in ((MEAN, mean), (VARIANCE, variance)):
                running = state[path + name]
                running.copy_((1 - share) * running.double() + share * value)

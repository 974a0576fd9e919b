"""LocalStore: the parameters in this very process. What ``python train.py`` uses when there is no cluster."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ps.config.job import JobConfig
from ps.optim import OptimizerSpec, Schedule, apply, clip_scale
from ps.optim.rate import LearningRate
from ps.protocol.layout import Layout
from ps.worker.gradients import Gradients
from ps.worker.store import Handle, Traffic
from ps.xp import HostArray


@dataclass(frozen=True, slots=True)
class Done:
    """An exchange that was done when it began."""

    done: bool = True
    staleness: int = 0


class LocalStore:
    """The centralized baseline: one worker, the same optimizers, nothing in between."""

    rank = 0
    num_workers = 1

    def __init__(self, job: JobConfig) -> None:
        self.job = job
        self.clock = 0
        self.traffic = Traffic()
        self._optimizer = OptimizerSpec.parse(job.optimizer).build()
        self._lr = LearningRate(self._optimizer.lr, Schedule.parse(job.schedule))

    def init(self, layout: Layout, values: HostArray) -> HostArray:
        self._buffer = values.copy()
        weights = layout.flat(self._buffer)
        self._tensors = [(t, weights[t.dtype][t.start : t.stop]) for t in layout.tensors if t.size]
        self._slots = {t.name: self._optimizer.init(w) for t, w in self._tensors}
        self._layout = layout
        return self._buffer

    def push(self, gradients: Gradients | None, examples: float) -> Handle:
        if gradients is not None:
            vectors = dict(zip((t.name for t in self._layout.tensors), gradients.vectors, strict=True))
            norm = self.job.clip_norm
            scale = clip_scale(gradients.norm_squared(), norm) if norm is not None else 1.0
            for tensor, weights in self._tensors:
                apply(
                    self._optimizer,
                    weights,
                    vectors[tensor.name],
                    self._slots[tensor.name],
                    lr=self._lr(self.clock),
                    t=self.clock + 1,
                    clip_value=self.job.clip_value,
                    scale=scale,
                )
        self.clock += 1
        return Done()

    def pull(self, into: HostArray) -> Handle:
        if into is not self._buffer:
            np.copyto(into, self._buffer)
        return Done()

    def push_pull(self, gradients: Gradients | None, examples: float) -> Handle:
        return self.push(gradients, examples)

    def wait(self, handle: Handle) -> None:
        pass

    def barrier(self) -> None:
        pass

    def set_lr(self, lr: float) -> None:
        self._lr.set(self.clock, lr)

    def close(self, failure: str = "") -> None:
        pass

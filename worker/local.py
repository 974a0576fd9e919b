"""LocalStore: the parameters in this very process. What ``python train.py`` uses when there is no cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ps.config.job import JobConfig
from ps.optim import apply, clip_scale
from ps.optim.rate import LearningRate
from ps.protocol.layout import Layout
from ps.trace import OFF, Trace
from ps.worker.batch_loader import BatchLoader
from ps.worker.evaluation import Evaluation
from ps.worker.gradients import Gradients
from ps.worker.pipeline import IDLE, Done, Pending, Pipeline
from ps.worker.step_log import StepLog
from ps.worker.store import Buffers
from ps.worker.traffic import Traffic
from ps.worker.weights import twice
from ps.xp import Device, HostArray


class LocalStore:
    """The centralized baseline: one worker, the same chunks and optimizers as on a server, nothing in between."""

    scheduler = ""
    rank = 0
    num_workers = 1
    pipeline: Pipeline = IDLE

    def __init__(self, job: JobConfig, trace: Trace = OFF) -> None:
        self.job = job
        self._trace = trace
        self.clock = 0
        self.traffic = Traffic()
        self.report: Callable[[], dict[str, Any]] = dict
        self._updates = 0
        self._optimizer = job.specs.optimizer.build()
        self._lr = LearningRate(self._optimizer.lr, job.specs.schedule.build())

    def init(self, layout: Layout, values: HostArray, *, in_place: bool) -> Buffers:
        self._buffer, shown = twice(values.nbytes) if in_place else (values, values)
        np.copyto(self._buffer, values)
        weights = layout.flat(self._buffer)
        self._shards = []
        for chunk in layout.chunks(self.job.servers, self.job.chunk_bytes):
            part = weights[chunk.section][chunk.start : chunk.stop]
            self._shards.append((chunk, part, self._optimizer.init(part)))
        return Buffers(self._buffer, shown)

    def loader(self, device: Device, log: StepLog, evaluation: Evaluation) -> BatchLoader:
        return BatchLoader(device, self.rank, self.job.workers, self.job.seed)

    def push(self, gradients: Gradients | None, examples: float) -> Pending:
        if gradients is not None:
            since = self._trace.now()
            self._apply(gradients)
            self._trace.add("apply", since, clock=self.clock)
        self.clock += 1
        return Done()

    def _apply(self, gradients: Gradients) -> None:
        self._updates += 1
        lr, norm = self._lr(self.clock), self.job.clip_norm
        scale = clip_scale(gradients.norm_squared(), norm) if norm is not None else 1.0
        for chunk, weights, slots in self._shards:
            apply(
                self._optimizer,
                weights,
                gradients.chunk(chunk),
                slots,
                lr=lr,
                t=self._updates,
                clip_value=self.job.clip_value,
                scale=scale,
            )

    def pull(self, into: HostArray) -> Pending:
        if into is not self._buffer:
            np.copyto(into, self._buffer)
        return Done()

    def push_pull(self, gradients: Gradients | None, examples: float) -> Pending:
        return self.push(gradients, examples)

    def barrier(self) -> None:
        pass

    def set_lr(self, lr: float) -> None:
        self._lr.set(self.clock, lr)

    def close(self, failure: str = "") -> None:
        pass

"""LocalStore: the parameters in this very process. What ``python train.py`` uses when there is no cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ps.config.job import JobConfig
from ps.dataclass import dataclass
from ps.errors import StateError
from ps.half import SINGLE, is_half
from ps.optim import Optimizer, WeightedSum, apply, clip_scale
from ps.optim.absences import Absences
from ps.optim.group import optimizer_of, with_decay
from ps.optim.rate import LearningRate
from ps.protocol.layout import Chunk, Layout
from ps.trace import OFF, Trace
from ps.worker.background import IDLE, Background, Done, Pending
from ps.worker.batch_loader import BatchLoader
from ps.worker.crew import StepShare
from ps.worker.cut_plan import CutPlan
from ps.worker.evaluation import Evaluation
from ps.worker.gradients import Gradients
from ps.worker.part import ModelPart
from ps.worker.step_log import StepLog
from ps.worker.stop_point import StopPoint
from ps.worker.store import Buffers, Masters, WholeModel, nothing
from ps.worker.traffic import Traffic
from ps.worker.weights import twice
from ps.xp import Device, HostArray

if TYPE_CHECKING:
    from ps.pipeline import Pipeline


@dataclass(slots=True)
class LocalChunk:
    """One chunk's weights and optimizer state, and how often they were updated."""

    chunk: Chunk
    weights: HostArray
    slots: dict[str, HostArray]
    absences: Absences
    half: HostArray | None = None
    """The weights as the script sees them, where those that are updated are their float32 masters."""
    updates: int = 0


class LocalStore:
    """The centralized baseline: one worker, the same chunks and optimizers as on a server, nothing in between."""

    scheduler = job_id = ""
    rank = 0
    saves = True
    whole: Callable[[Mapping[str, Any]], WholeModel] | None = None
    cut_plan: CutPlan | None = None
    num_workers = 1
    background: Background = IDLE

    def __init__(self, job: JobConfig, trace: Trace = OFF) -> None:
        self.job = job
        self._trace = trace
        self.clock = 0
        self._examples = self._latest = 0.0
        """Of how many examples there are gradients in the weights, and of how many in the last step."""
        self.stop_point = StopPoint()
        self.traffic = Traffic()
        self.report: Callable[[], dict[str, Any]] = dict
        self._optimizers: dict[str, Optimizer] = {}
        self._rates: dict[str, LearningRate] = {}
        """By group of tensors."""

    def init(
        self,
        layout: Layout,
        values: HostArray,
        *,
        in_place: bool,
        count: Callable[[], Masters] = nothing,
        part: ModelPart | None = None,
    ) -> Buffers:
        masters = count()
        self._layout = layout
        self._buffer, shown = twice(values.nbytes) if in_place else (values, values)
        np.copyto(self._buffer, values)
        weights = layout.flat(self._buffer)
        schedule = self.job.specs.schedule.build()
        self._chunks: list[LocalChunk] = []
        for chunk in layout.cut(self.job):
            optimizer = self._optimizers[chunk.group] = optimizer_of(self.job.specs.optimizer, chunk.group)
            self._rates[chunk.group] = LearningRate(optimizer.lr, schedule)
            half, own = None, weights[chunk.section][chunk.start : chunk.stop]
            if is_half(own.dtype):
                known = masters.get(chunk.section)
                half, own = own, own.astype(SINGLE) if known is None else known[chunk.start : chunk.stop].copy()
            self._chunks.append(LocalChunk(chunk, own, optimizer.init(own), Absences(layout.spans(chunk)), half))
        return Buffers(self._buffer, shown)

    def execution(self, pipeline: Pipeline, kv: Any, seed: int) -> None:
        """Each process has all stages."""

    def loader(self, device: Device, log: StepLog, evaluation: Evaluation) -> BatchLoader:
        return BatchLoader(device, self.rank, self.job.workers, self.job.seed, self, size=self.job.global_batch)

    def share(self) -> StepShare:
        return StepShare(self.clock, 0, 1, 1, self._latest)

    def push(self, gradients: Gradients | None, examples: float) -> Pending:
        if gradients is not None:
            since = self._trace.now()
            self._apply(gradients)
            self._examples += examples
            self._trace.add("apply", since, clock=self.clock)
        self._latest = 0.0 if gradients is None else examples
        self.clock += 1
        return Done(staleness=min(self.clock - 1, self.job.delay))

    def _apply(self, gradients: Gradients) -> None:
        norm, by_examples = self.job.clip_norm, self.job.schedule_unit == "examples"
        scale = clip_scale(gradients.norm_squared(), norm) if norm is not None else 1.0
        for part in self._chunks:
            part.updates += 1
            gradient, group = gradients.chunk(part.chunk), part.chunk.group
            for lo, hi, t in part.absences.update(part.updates, frozenset(gradients.absent(part.chunk.index))):
                apply(
                    self._optimizers[group],
                    part.weights[lo:hi],
                    gradient[lo:hi] if part.half is None else WeightedSum([gradient[lo:hi]], [1.0]),
                    {name: slot[lo:hi] for name, slot in part.slots.items()},
                    lr=self._rates[group](self.clock, int(self._examples) if by_examples else None),
                    t=t,
                    clip_value=self.job.clip_value,
                    scale=scale,
                    half=None if part.half is None else part.half[lo:hi],
                )

    def pull(self, into: HostArray) -> Pending:
        if into is not self._buffer:
            np.copyto(into, self._buffer)
        return Done()

    def push_pull(self, gradients: Gradients | None, examples: float, *, veto: bool = False) -> Pending:
        return self.push(gradients, examples)

    def offer(self, gradients: Gradients, examples: float) -> None:
        raise StateError("only a worker with a part of the model offers gradients")

    def masters(self) -> tuple[int, Mapping[str, HostArray]]:
        flat = {section: vector.copy() for section, vector in self._layout.flat(self._buffer).items()}
        flat |= {section: vector.astype(SINGLE) for section, vector in flat.items() if is_half(vector.dtype)}
        for part in self._chunks:
            flat[part.chunk.section][part.chunk.start : part.chunk.stop] = part.weights
        return self.clock, self._layout.views(flat)

    def owed(self) -> None:
        """Nothing travels, and nothing is left out."""

    def drain(self) -> None:
        pass

    def barrier(self) -> None:
        pass

    def set_rates(self, groups: Iterable[str], *, lr: float | None = None, weight_decay: float | None = None) -> None:
        for group in groups:
            if lr is not None:
                self._rates[group].set(self.clock, lr)
            if weight_decay is not None:
                self._optimizers[group] = with_decay(self._optimizers[group], weight_decay)

    def begin_step(self) -> bool:
        return bool(self.stop_point.begin(self.clock))

    def stop(self, reason: str) -> None:
        """Training ends where it would with one worker of a cluster: in lockstep others may have begun a step."""
        self.stop_point.decide(self.clock + self.job.ends_together, reason)

    def close(self, failure: str = "") -> None:
        pass

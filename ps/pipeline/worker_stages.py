"""WorkerStages: the stages that one worker of a pipeline has, made ready for each step."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from ps.pipeline.action import INPUT, needed
from ps.pipeline.cut import Cut
from ps.pipeline.gradient_sums import GradientSums
from ps.pipeline.runner import StageRunner, StepPlan
from ps.pipeline.schedules.schedule import PipelineSchedule
from ps.pipeline.stage import PipelineStage
from ps.pipeline.ties import ties
from ps.pipeline.timeline import AGAIN, USUAL, timeline

if TYPE_CHECKING:
    from ps.pipeline.pipeline import Pipeline


class WorkerStages:
    """Those with the numbers ``worker``, ``worker`` + ``workers`` and so on.

    ``stages`` has them by number, to measure with; in training each step has its own, as several may be under way.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        cut: Cut,
        schedule: PipelineSchedule,
        worker: int,
        workers: int,
        *,
        seed: int,
        replica: int,
    ) -> None:
        """``replica``: the number of this pipeline among those that train the model on other shares of the data."""
        self._chain, self._kind, self._cut, self._schedule = pipeline.chain, pipeline.arrays, cut, schedule
        self._worker, self._workers = worker, workers
        self._costs = AGAIN if pipeline.recompute else USUAL
        self._bubbles: dict[int, float] = {}
        """By how many micro-batches there are."""
        self._count = len(cut.stages)
        self._make = partial(
            PipelineStage,
            loss=pipeline.loss_function,
            seed=seed,
            pipeline=replica,
            recompute=pipeline.recompute,
            splits=any(action.kind == INPUT for action in schedule.actions(self._count, 1, worker)),
        )
        self.stages = self._stages()

    def _stages(self) -> dict[int, PipelineStage]:
        numbers = range(self._worker, self._count, self._workers)
        return {number: self._make(self._chain, self._cut.stages[number], self._kind) for number in numbers}

    def know(self, names: Iterable[str], trained: Container[str]) -> None:
        """Take the names of all tensors of the model, and which of them are trained, on whatever worker they are."""
        self.names = self._chain.split(names)
        self._ties = ties(self.names, self._cut)
        self._first = next(
            place for place, own in enumerate(self.names) if any(name in trained for name in own.values())
        )

    def bubble(self, microbatches: int) -> float:
        """Return which share of a step workers are idle by the schedule alone, from 0 to 1."""
        if microbatches not in self._bubbles:
            first = self._cut.stage_of(self._first)
            work = [
                needed(self._schedule.actions(self._count, microbatches, worker), first)
                for worker in range(self._workers)
            ]
            self._bubbles[microbatches] = timeline(work, self._count, self._costs).bubble
        return self._bubbles[microbatches]

    def runner(self, plan: StepPlan, params: Mapping[str, Any], trained: Mapping[str, Any]) -> StageRunner:
        """Begin a step with these tensors; ``trained``: where their gradients are added up, by whole name."""
        sums = GradientSums(self._chain, self.names, trained, self._kind, once=plan.microbatches == 1)
        stages = self._stages()
        for stage in stages.values():
            stage.begin(params, self.names, sums, self._first, plan.step)
        actions = self._schedule.actions(self._count, plan.microbatches, self._worker)
        return StageRunner(
            stages, self._count, needed(actions, self._cut.stage_of(self._first)), plan, sums, self._ties
        )

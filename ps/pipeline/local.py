"""LocalPipeline: all stages in this one process: what one sends, another has received."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ps.errors import GradientError, StateError
from ps.pipeline.action import needed
from ps.pipeline.connection import Connection
from ps.pipeline.gradient_sums import GradientSums
from ps.pipeline.runner import StageRunner, StepPlan, Transfer
from ps.pipeline.stage import PipelineStage
from ps.pipeline.ties import ties

if TYPE_CHECKING:
    from ps.pipeline.pipeline import Pipeline


class LocalPipeline:
    """Each worker of a job trains the whole model; the stages take turns, as the schedule has it for their workers."""

    feeds = True

    def __init__(self, pipeline: Pipeline, kv: Connection, seed: int) -> None:
        self._kv = kv
        self._seed = seed
        self._pipeline = pipeline
        self._chain, self._kind, self._cut = pipeline.chain, pipeline.arrays, pipeline.cut
        self._stages = [
            PipelineStage(
                self._chain,
                places,
                self._kind,
                pipeline.loss_function,
                seed=seed,
                pipeline=kv.rank,
                recompute=pipeline.recompute,
            )
            for places in self._cut.stages
        ]

    def init(self, kinds: Mapping[str, str] | None, groups: Mapping[str, Mapping[str, Any]] | None) -> Any:
        """Give all first values to the job."""
        found = self._kv.init(self._chain.init(self._seed), {**self._chain.kinds(), **(kinds or {})}, groups)
        self._names = self._chain.split(self._kv.params)
        self._ties = ties(self._names, self._cut)
        aggregator = self._kv.job.specs.aggregator.build()
        self._weighs = aggregator.kind == "fold" and aggregator.weight(2.0) != aggregator.weight(1.0)
        trained = set(self._kv.grads)
        self._first = next(
            place for place, names in enumerate(self._names) if any(name in trained for name in names.values())
        )
        return found

    def step(
        self,
        xs: list[Any],
        ys: list[Any],
        weight: float,
        microbatches: int,
        *,
        examples: int,
        check: bool,
        metrics: Mapping[str, Any],
    ) -> float:
        """Train on one batch, cut already."""
        count, schedule = len(self._stages), self._pipeline.schedule
        plan = StepPlan(self._kv.clock, microbatches, weight, check)
        params, trained = self._kv.params, self._kv.grads
        first = self._cut.stage_of(self._first)
        workers = schedule.workers(count)
        runners = []
        for worker in range(workers):
            sums = GradientSums(self._chain, self._names, trained, self._kind, once=microbatches == 1)
            stages = {number: self._stages[number] for number in range(worker, count, workers)}
            for stage in stages.values():
                stage.begin(params, self._names, sums, self._first, plan.step)
            actions = needed(schedule.actions(count, microbatches, worker), first)
            runners.append(StageRunner(stages, count, actions, plan, sums, self._ties))
        home = {number: number % workers for number in range(count)}
        gradients = run(runners, home, runners[0].feed(xs, ys))
        loss = runners[0].loss
        try:
            heeded = weight if self._weighs and weight else None  # else it is the examples that count
            self._kv.step(gradients, examples=heeded, partial=len(gradients) < len(trained), loss=loss, **metrics)
        except GradientError as error:
            raise GradientError(f"{error}{self._origin(params, xs[:microbatches])}") from None
        return loss

    def follow(self, metrics: Mapping[str, Any]) -> float:
        """All batches go in here. Raises StateError."""
        raise StateError("this worker has all stages, and batches of its own")

    def _origin(self, params: Mapping[str, Any], xs: list[Any]) -> str:
        """Return where NaN or Inf came from, for an error: the first layer that returned such for a micro-batch."""
        for number, x in enumerate(xs):
            for stage in self._stages:
                x, layer = stage.first_bad(params, self._names, x)
                if layer:
                    return f". {layer} returned NaN or Inf first, for micro-batch {number}"
        return ""

    def outputs(self, x: Any, params: Mapping[str, Any] | None) -> Any:
        """Return what the model gives for a batch."""
        params = self._kv.params if params is None else params
        for stage in self._stages:
            x = stage.evaluate(params, self._names, x)
        return x


def run(runners: Sequence[StageRunner], home: Mapping[int, int], begin: Sequence[Transfer]) -> dict[str, Any]:
    """Run each worker's part of a step to its end, in turns; return the gradients of all.

    ``home`` says which runner has which stage, ``begin`` is what the first one has sent already. Raises StateError
    where all wait for each other, which no schedule of ours does.
    """
    for transfer in begin:
        runners[home[transfer.stage]].receive(transfer)
    while waiting := [runner for runner in runners if not runner.done]:
        able = [runner for runner in waiting if runner.waiting_for is None]
        if not able:
            raise StateError(f"all stages wait: {', '.join(f'{r.next!r} for {r.waiting_for!r}' for r in waiting)}")
        for runner in able:
            for transfer in runner.run():
                runners[home[transfer.stage]].receive(transfer)
    return {name: gradient for runner in runners for name, gradient in runner.gradients().items()}

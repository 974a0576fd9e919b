"""LocalPipeline: all stages in this one process: what one sends, another has received."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ps.errors import GradientError, StateError
from ps.pipeline.connection import Connection
from ps.pipeline.runner import StageRunner, StepPlan, Transfer
from ps.pipeline.weight_stash import WeightStash
from ps.pipeline.worker_stages import WorkerStages

if TYPE_CHECKING:
    from ps.pipeline.pipeline import Pipeline


class LocalPipeline:
    """Each worker of a job trains the whole model; the stages take turns, as the schedule has it for their workers.

    With several waves it computes what stages on several workers do: each wave is done here before the next begins, but
    with the weights that it would have there.
    """

    feeds = True

    def __init__(self, pipeline: Pipeline, kv: Connection, seed: int) -> None:
        self._kv = kv
        self._seed = seed
        self._chain, cut, schedule = pipeline.chain, pipeline.cut, pipeline.schedule
        count = len(cut.stages)
        workers = schedule.workers(count)
        self._home = {number: number % workers for number in range(count)}
        self._workers = [
            WorkerStages(pipeline, cut, schedule, worker, workers, seed=seed, replica=kv.rank)
            for worker in range(workers)
        ]
        self._stages = [self._workers[home].stages[number] for number, home in self._home.items()]
        self._stash = WeightStash(kv.job.waves, kv.job.lookahead) if kv.job.delay else None
        self._losses: deque[float] = deque(maxlen=kv.job.delay + 1)

    @property
    def places(self) -> Sequence[int]:
        return range(len(self._chain))

    def init(self, kinds: Mapping[str, str] | None, groups: Mapping[str, Mapping[str, Any]] | None) -> Any:
        """Give all first values to the job."""
        found = self._kv.init(self._chain.init(self._seed), {**self._chain.kinds(), **(kinds or {})}, groups)
        for worker in self._workers:
            worker.know(self._kv.params, self._kv.grads)
        self._names = self._workers[0].names
        self._weighs = self._kv.job.specs.weighs
        if self._stash is not None:
            self._stash.begin(self._kv.clock)
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
        plan = StepPlan(self._kv.clock, microbatches, weight, check)
        params, trained = self._kv.params, self._kv.grads
        if self._stash is not None:
            self._stash.keep(plan.step, {name: params[name] for name in trained})
            params = {**params, **self._stash.of(plan.step)}
        runners = [worker.runner(plan, params, trained) for worker in self._workers]
        gradients = run(runners, self._home, runners[0].feed(xs, ys))
        loss = runners[0].loss
        try:
            given = plan.stands_for(weighs=self._weighs)
            self._kv.step(gradients, examples=given, partial=len(gradients) < len(trained), loss=loss, **metrics)
        except GradientError as error:
            raise GradientError(f"{error}{self._origin(params, xs[:microbatches])}") from None
        self._losses.append(loss)
        return self._losses[0]

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
    for runner in runners:
        runner.finish()
    return {name: gradient for runner in runners for name, gradient in runner.gradients().items()}

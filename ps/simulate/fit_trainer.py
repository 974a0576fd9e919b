"""FitTrainer: the clients of one process that train by a function of their own, as ``ps.federated.Client`` has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ps.simulate.local_states import LocalStates
from ps.simulate.model import model_named
from ps.simulate.plan import TrainingPlan
from ps.simulate.task import TrainingResult, TrainingTask
from ps.worker.federated.fit import check, not_finite, train
from ps.xp import HostArray


class FitTrainer:
    """Calls ``fit(params, round)`` of the model's file for one client after the other."""

    def __init__(self, plan: TrainingPlan) -> None:
        """ConfigError for an algorithm that changes each local step."""
        check(plan.job)
        self._plan = plan
        self._fit = model_named(plan.model).fit
        self._chunks = plan.layout.cut(plan.job)
        self._states = LocalStates(plan.uplink)

    def train(self, tasks: Sequence[TrainingTask], weights: HostArray) -> Iterator[list[TrainingResult]]:
        """Yield the result of each task by itself; all begin with ``weights``, uint8, as it travels."""
        layout = self._plan.layout
        before = layout.flat(weights)
        for task in tasks:
            buffer = weights.copy()
            views, after = layout.views(layout.flat(buffer)), layout.flat(buffer)
            trained, examples, metrics = train(self._fit, views, self._plan.job, task.client, task.round)
            declined = not_finite(trained) or ("" if examples else "fit had no examples")
            if declined:
                yield [TrainingResult(task.ticket, 0, 0, {}, (), declined)]
                continue
            for name, values in trained.items():
                views[name][...] = values
            parts = [
                after[chunk.section][chunk.start : chunk.stop] - before[chunk.section][chunk.start : chunk.stop]
                for chunk in self._chunks
            ]
            kept = self._states.of(task.client)
            frames = self._states.send(task, self._chunks, parts, kept, self._plan.job.seed)
            if not self._plan.remembers:
                self._states.forget(task.ticket)
            steps = int(metrics.pop("steps", 1))
            yield [TrainingResult(task.ticket, examples, steps, metrics, frames)]

    def settle(self, ticket: int, accepted: bool) -> None:
        """Say what became of a task, where clients keep anything from task to task."""
        self._states.settle(ticket, accepted)

"""Trainer: the clients that live in one process, their examples and their training, many at once where that can be."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ps.algorithms import effective_steps
from ps.data.shares import view
from ps.partition import Features
from ps.simulate import dense
from ps.simulate.division import divide
from ps.simulate.evaluator import Evaluator
from ps.simulate.local_states import LocalState, LocalStates
from ps.simulate.model import STACKED, model_named
from ps.simulate.plan import TrainingPlan
from ps.simulate.task import TrainingResult, TrainingTask
from ps.simulate.vectorized import Gradients, Trained, TrainingStart, group_size, train
from ps.xp import HostArray

WEIGHTS, CONTROL = "float32", "float32/control"
"""The sections of the models there are, and of their control variates."""


class Trainer:
    """Trains whichever clients it is asked for; one that is asked again must have been settled before."""

    def __init__(self, plan: TrainingPlan, data: Mapping[str, HostArray]) -> None:
        """``data``: x_train, y_train, x_test and y_test, which are only read."""
        job, x = plan.job, data["x_train"]
        self._plan = plan
        self._local = plan.local
        self._schedule = job.specs.schedule.build()
        self._chunks = plan.layout.cut(job)
        self._trainable = plan.layout.of_kind("trainable")
        self._model = model_named(plan.model)
        self._stacked = plan.model in STACKED
        self._x = x.reshape(len(x), -1) if self._stacked else x
        self._y = data["y_train"]
        self._division = divide(data, job)
        self._distorts = isinstance(self._division.spec.build(), Features)
        self._evaluator = Evaluator(self._model, data, self._division)
        self._states = LocalStates(plan.uplink)
        self._remembers = plan.remembers

    def train(self, tasks: Sequence[TrainingTask], weights: HostArray) -> Iterator[list[TrainingResult]]:
        """Yield the tasks' results, of those at once that were computed together, about in their order.

        All begin with ``weights``, uint8, as it travels.
        """
        work = self._plan.work
        groups: dict[tuple[int, int], list[TrainingTask]] = {}
        for task in tasks:
            kind = work.width(self._size(task)), self._states.of(task.client).updates
            groups.setdefault(kind, []).append(task)
        flat = self._plan.layout.flat(weights)
        features = math.prod(self._x.shape[1:])
        arrays = 2 + len(self._local.optimizer.slots) + self._local.algorithm.control
        for (width, _), group in groups.items():
            size = group_size(flat[WEIGHTS].size, width, features, arrays)
            for part in _evenly(group, size):
                part.sort(key=lambda task: -work.local_steps(self._size(task)))
                yield list(self._group(part, flat))

    def settle(self, ticket: int, accepted: bool) -> None:
        """Say what became of a task, where clients keep anything from task to task."""
        self._states.settle(ticket, accepted)

    def _group(self, tasks: Sequence[TrainingTask], flat: Mapping[str, HostArray]) -> Iterator[TrainingResult]:
        anchor, control = flat[WEIGHTS], flat.get(CONTROL)
        kept = [self._states.of(task.client) for task in tasks]
        x, y, shares = self._examples(tasks)
        batches = [self._plan.work.batches(t.client, t.round, s) for t, s in zip(tasks, shares, strict=True)]
        start = TrainingStart(
            anchor,
            self._local.optimizer.lr * self._schedule(tasks[0].version),
            [each.optimizer for each in kept],
            kept[0].updates,
            control,
            None if control is None else np.stack([_own(each, control) for each in kept]),
        )
        trained = train(self._local, start, batches, self._gradients(x, y))
        for i, task in enumerate(tasks):
            steps = len(batches[i][0])
            report = {"loss": float(trained.losses[i])}
            if task.evaluate:
                report["accuracy"] = self._evaluator.of_client(self._views(anchor), task.client)
                report["accuracy_tuned"] = self._evaluator.of_client(self._views(trained.weights[i]), task.client)
            delta = {WEIGHTS: trained.weights[i] - anchor}
            learnt = self._learn(kept[i], trained, i, steps)
            if start.own is not None and control is not None and self._local.algorithm.renew is not None:
                effective = effective_steps(self._local.optimizer, steps)
                renewed = self._local.algorithm.renew(
                    start.own[i], control, anchor, trained.weights[i], effective, start.lr
                )
                delta[CONTROL] = renewed - start.own[i]
                learnt = replace(learnt, own=renewed)
            parts = [delta[chunk.section][chunk.start : chunk.stop] for chunk in self._chunks]
            frames = self._states.send(task, self._chunks, parts, learnt, self._plan.job.seed)
            if not self._remembers:
                self._states.forget(task.ticket)
            yield TrainingResult(task.ticket, len(shares[i]), steps, report, frames)

    def _learn(self, kept: LocalState, trained: Trained, i: int, steps: int) -> LocalState:
        if not self._local.algorithm.keeps_optimizer:
            return kept
        return replace(
            kept,
            optimizer={name: stack[i].copy() for name, stack in trained.state.items()},
            updates=kept.updates + steps,
        )

    def _gradients(self, x: HostArray, y: HostArray) -> Gradients:
        return self._stack_of(x, y) if self._stacked else self._one_by_one(x, y)

    def _stack_of(self, x: HostArray, y: HostArray) -> Gradients:
        layers = dense.layers_of(self._plan.layout)
        room: dict[tuple[int, ...], HostArray] = {}

        def gradients(weights: HostArray, rows: HostArray, counts: HostArray, out: HostArray) -> HostArray:
            shape = (*rows.shape, x.shape[1])
            if shape not in room:
                room[shape] = np.empty(shape, x.dtype)
            batch = np.take(x, rows, axis=0, out=room[shape], mode="clip")
            batch = batch.astype(weights.dtype, copy=False)
            return dense.loss_and_grad(layers, weights, batch, y[rows], counts, out)

        return gradients

    def _one_by_one(self, x: HostArray, y: HostArray) -> Gradients:
        def gradients(weights: HostArray, rows: HostArray, counts: HostArray, out: HostArray) -> HostArray:
            losses = np.empty(len(weights))
            for i, count in enumerate(counts):
                batch = rows[i, :count]
                losses[i], grads = self._model.loss_and_grad(self._views(weights[i]), x[batch], y[batch])
                for name, view_of in self._views(out[i]).items():
                    view_of[...] = grads[name]
            return losses

        return gradients

    def _views(self, flat: HostArray) -> dict[str, HostArray]:
        return dict(self._trainable.views({WEIGHTS: flat}))

    def _size(self, task: TrainingTask) -> int:
        return len(self._division.share(task.client))

    def _examples(self, tasks: Sequence[TrainingTask]) -> tuple[HostArray, HostArray, list[HostArray]]:
        """Return examples and labels, and the indices of each client's own in them."""
        shares = [self._division.share(task.client) for task in tasks]
        if not self._distorts:
            return self._x, self._y, shares
        seen = [view((self._x, self._y), self._division, task.client) for task in tasks]
        ends = np.cumsum([len(share) for share in shares])
        places = [np.arange(end - len(share), end) for end, share in zip(ends, shares, strict=True)]
        return np.concatenate([x for x, _ in seen]), np.concatenate([y for _, y in seen]), places


def _evenly(tasks: Sequence[TrainingTask], most: int) -> Iterator[list[TrainingTask]]:
    """Cut tasks into runs of about the same length, ``most`` or some more or less: each run has its own overhead."""
    parts = max(1, round(len(tasks) / most))
    for part in range(parts):
        yield list(tasks[part * len(tasks) // parts : (part + 1) * len(tasks) // parts])


def _own(kept: LocalState, control: HostArray) -> HostArray:
    return np.zeros_like(control) if kept.own is None else kept.own

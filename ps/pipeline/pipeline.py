"""Pipeline: a model as a list of layers, which can be cut into stages; the same script trains it whole or cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ps import xp
from ps.errors import StateError, UsageError
from ps.pipeline import microbatch
from ps.pipeline.arrays import ArrayKind, here
from ps.pipeline.chain import Chain
from ps.pipeline.connection import Connection
from ps.pipeline.cut import cut_at
from ps.pipeline.execution import Execution
from ps.pipeline.local import LocalPipeline
from ps.pipeline.loss import demand_loss, weight_of
from ps.pipeline.microbatch import Axis
from ps.pipeline.schedules import PIPELINE_SCHEDULES

HALVES = 2
"""Micro-batches that are compared with both as one."""
MOST_EXAMPLES = 1 << 62
"""More micro-batches than any batch has had."""


class Pipeline:
    """A model that is a list of layers, each of which takes what the one before it returns.

    >>> pipe = ps.Pipeline([embed, block, block, head], loss=ps.models.softmax_cross_entropy)  # doctest: +SKIP
    >>> params = pipe.init(kv, seed=0)  # doctest: +SKIP
    >>> loss = pipe.step(x, y, microbatches=8)  # doctest: +SKIP

    A batch is cut into micro-batches, whose gradients are added up: the step is that of the whole batch. Tensors are
    called by the places of their layers, ``2.weight``, or by the keys of a dict of layers.
    """

    def __init__(
        self,
        layers: Any,
        loss: Any,
        *,
        cuts: Sequence[int] | int | None = None,
        schedule: str = "1f1b",
        recompute: bool = False,
        axis: Axis = 0,
        label_axis: Axis = 0,
        inexact: bool = False,
        arrays: Callable[[xp.Device], ArrayKind] = here,
    ) -> None:
        """``layers`` are as ``ps.pipeline.PipelineLayer`` says, ``loss`` as ``PipelineLoss``.

        ``cuts``: the places with which stages begin, or how many stages; ``schedule``: in which order they work.
        ``recompute`` keeps only the inputs of stages, and does forward passes again. ``axis`` and ``label_axis`` say
        where the examples are, if not in the first axis of each array: a number, None for what is passed whole, or a
        tree of these. ``inexact`` takes layers and losses for which cutting the batch changes the result. ``arrays``
        returns the arrays that layers work with, on a device.

        Raises UsageError for what is no layer, loss or cut, ConfigError for an unknown schedule.
        """
        self.chain = Chain(layers)
        self.loss_function = demand_loss(loss)
        self.cut = cut_at(len(self.chain), cuts)
        self.schedule = PIPELINE_SCHEDULES.parse(schedule).build()
        self.recompute = recompute
        self.axis = axis
        self.label_axis = label_axis
        self.inexact = inexact
        self.arrays = here()
        self._arrays_on = arrays
        self.sample: Any = None
        """While ``init`` lasts, what layers may be tried with."""
        self._most = 0
        """Micro-batches of a batch so far, at most."""
        self._execution: Execution | None = None

    def init(
        self,
        kv: Connection,
        seed: int = 0,
        kinds: Mapping[str, str] | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        sample: Any = None,
    ) -> Any:
        """Give the model's first values to the job, as ``kv.init`` does; return the parameters.

        Each layer's follow from ``seed`` and its place. Layers are frozen by ``kinds={"0.*": "frozen"}``. ``sample``, a
        pair x, y like a micro-batch, is what ``--stages auto`` measures layers with.

        Raises UsageError for tensors that cannot be trained, LayoutMismatch where another worker trains another model.
        """
        self.arrays = self._arrays_on(kv.device)
        self.sample = sample
        try:
            self._execution = kv.execution(self, kv, seed) or LocalPipeline(self, kv, seed)
        finally:
            self.sample = None
        found = self._execution.init(kinds, groups)
        nbytes = sum(tensor.nbytes for tensor in found.values())
        kv.note_stages(self._execution.places, len(self.chain), nbytes)
        return found

    def step(self, x: Any, y: Any = None, *, microbatches: int = 1, **metrics: Any) -> float:
        """Train on one batch, cut into micro-batches; return its mean loss.

        In a job with several ``waves`` the batch is under way when this returns, and what is returned is the loss of
        the newest wave that is done: of the batch ``waves - 1`` before this one, in the first steps of the first one.
        They are all done when ``kv.batches`` ends, in ``kv.barrier`` and at the end of the connection; ``kv.clock`` and
        ``kv.params`` are those of the updates so far.

        ``x`` and ``y`` are arrays or trees of them. A batch with fewer examples than micro-batches is refused, but for
        a last one that is shorter than those before it: it is cut into single examples. ``metrics`` go into the
        record, the loss by itself.

        Raises UsageError for a batch that cannot be cut, for layers whose shapes do not fit, and, in the first step
        with several micro-batches, where cutting the batch changes the result; GradientError naming the layer; else as
        ``kv.step`` does.
        """
        if self._execution is None:
            raise StateError("no parameters yet: call pipe.init(kv) first")
        if not self._execution.feeds:
            return self._execution.follow(metrics)
        examples = microbatch.count(x, self.axis, self.arrays)
        if microbatch.demand_number(microbatches) > examples and self._most >= microbatches:
            microbatches = examples
        parts = microbatch.sizes(examples, microbatches)
        xs = microbatch.cut(x, parts, self.axis, self.arrays)
        ys = microbatch.cut(y, parts, self.label_axis, self.arrays, "y")
        check = self._most < HALVES <= microbatches and not self.inexact
        if check:
            both = [sum(parts[:HALVES]), *([sum(parts[HALVES:])] if microbatches > HALVES else [])]
            xs.append(microbatch.cut(x, both, self.axis, self.arrays)[0])
            ys.append(microbatch.cut(y, both, self.label_axis, self.arrays, "y")[0])
        weight = weight_of(self.loss_function, y)
        loss = self._execution.step(xs, ys, weight, microbatches, examples=examples, check=check, metrics=metrics)
        self._most = max(self._most, microbatches)
        return loss

    def resume(self, clock: int) -> None:
        """Go on for a process that was lost after so many steps: what it had looked at is not looked at again."""
        self._most = MOST_EXAMPLES if clock else 0

    # Measuring

    def outputs(self, x: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Return what the model gives for a batch, with the parameters as they are now, or with other ones.

        Raises StateError before ``init``, and UsageError for layers whose shapes do not fit.
        """
        if self._execution is None:
            raise StateError("no parameters yet: call pipe.init(kv) first")
        return self._execution.outputs(x, params)

    def loss(self, params: Mapping[str, Any] | None, data: Any, batch_size: int = 1000) -> float:
        """Return the mean loss over ``data``, a Dataset or a pair x, y: ``kv.evaluate(pipe.loss, test)``.

        Raises UsageError for no examples.
        """
        total = 0.0
        for x, y in self._batches(data, batch_size):
            total += float(self.loss_function(self.outputs(x, params), y)[0])
        _, labels = data
        weight = weight_of(self.loss_function, labels)
        return total / weight if weight else float("nan")

    def accuracy(self, params: Mapping[str, Any] | None, data: Any, batch_size: int = 1000) -> float:
        """Return the share of ``data`` for which the largest output is that of the label, from 0 to 1.

        Raises UsageError for no examples.
        """
        right = total = 0
        for x, y in self._batches(data, batch_size):
            scores, labels = (self.arrays.tree(self.arrays.to_host, each) for each in (self.outputs(x, params), y))
            right += int(np.sum(np.argmax(scores, axis=-1) == labels))
            total += int(np.size(labels))
        return right / total

    def _batches(self, data: Any, batch_size: int) -> Any:
        x, y = data
        examples = microbatch.count(x, self.axis, self.arrays)
        if not examples or batch_size < 1:
            raise UsageError(f"nothing is measured of {examples} examples, {batch_size} at a time")
        parts = [min(batch_size, examples - at) for at in range(0, examples, batch_size)]
        xs = microbatch.cut(x, parts, self.axis, self.arrays)
        ys = microbatch.cut(y, parts, self.label_axis, self.arrays, "y")
        for pair in zip(xs, ys, strict=True):
            yield self.arrays.tree(self._brought, pair)

    def _brought(self, array: Any) -> Any:
        """Return an array where the layers compute: examples to be measured are on the host."""
        return self.arrays.from_host(array) if xp.is_host(array) else array

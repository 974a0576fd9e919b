"""One step of a small pipeline: a runner for each worker, with a batch that the first of them was fed."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from ps.models import mlp, softmax_cross_entropy
from ps.pipeline import Pipeline, Tied, microbatch
from ps.pipeline.action import needed
from ps.pipeline.gradient_sums import GradientSums
from ps.pipeline.runner import StageRunner, StepPlan, Transfer
from ps.pipeline.stage import PipelineStage
from ps.pipeline.ties import ties
from support.pipeline_layers import Linear, Transposed

DRAWN: dict[str, st.SearchStrategy[Any]] = {
    "stages": st.integers(1, 5),
    "schedule": st.sampled_from(["1f1b", "fill-drain", "zero-bubble", "interleaved", "interleaved:3"]),
    "microbatches": st.integers(1, 9),
    "window": st.sampled_from([1, 2, 100]),
    "frozen": st.integers(0, 4),
    "tied": st.booleans(),
    "seed": st.integers(0, 9),
}
"""What a step is drawn from, where it is to come to its end whatever it is: for ``hypothesis.given``."""


def workers(
    pipe: Pipeline, microbatches: int, *, frozen: int = 0, check: bool = False
) -> tuple[list[StageRunner], dict[int, int], list[Transfer]]:
    """Return the runners of one step of a pipeline, where each stage is, and what the first has sent."""
    chain, kind, cut = pipe.chain, pipe.arrays, pipe.cut
    params = chain.init(0)
    names = chain.split(params)
    trained = {name: params[name] for name in params if int(name.split(".")[0]) >= frozen}
    first = next(place for place, own in enumerate(names) if any(name in trained for name in own.values()))
    count = len(cut.stages)
    at = ties(names, cut)
    random = np.random.default_rng(1)
    x, y = random.standard_normal((13, 6), np.float32), random.integers(0, 4, 13)
    parts = microbatch.sizes(13, microbatches)
    xs, ys = microbatch.cut(x, parts, 0, kind), microbatch.cut(y, parts, 0, kind)
    if check:
        xs.append(x[: sum(parts[:2])])
        ys.append(y[: sum(parts[:2])])
    runners = []
    size = pipe.schedule.workers(count)
    for worker in range(size):
        sums = GradientSums(chain, names, dict.fromkeys(trained), kind, once=microbatches == 1)
        stages = {n: PipelineStage(chain, cut.stages[n], kind, pipe.loss_function) for n in range(worker, count, size)}
        for stage in stages.values():
            stage.begin(params, names, sums, first, 0)
        actions = needed(pipe.schedule.actions(count, microbatches, worker), cut.stage_of(first))
        runners.append(StageRunner(stages, count, actions, StepPlan(0, microbatches, 13, check), sums, at))
    return runners, {n: n % size for n in range(count)}, runners[0].feed(xs, ys)


def model(stages: int, schedule: str, *, tied: bool) -> Pipeline:
    layers: list[Any] = mlp.stages([6, 3, 3, 3, 3, 4])
    if tied:
        embed, twice = Linear(6, 4), Linear(4, 4)
        layers = [embed, twice, twice, Linear(4, 4), Tied(embed, Transposed(6, 4))]
    return Pipeline(layers, softmax_cross_entropy, cuts=stages, schedule=schedule)

"""Promise: over channels that hold next to nothing, and whatever comes first, a step comes to its end: with the bits of
all stages taking turns."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ps.models import mlp, softmax_cross_entropy
from ps.pipeline import Pipeline, Tied, microbatch
from ps.pipeline.action import needed
from ps.pipeline.gradient_sums import GradientSums
from ps.pipeline.local import run
from ps.pipeline.runner import LABELS, StageRunner, StepPlan, Transfer
from ps.pipeline.stage import PipelineStage
from ps.pipeline.ties import ties
from support.pipeline_layers import Linear, Transposed
from support.pipeline_links import run_over_links


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


@settings(max_examples=40)
@given(
    stages=st.integers(1, 5),
    schedule=st.sampled_from(["1f1b", "fill-drain", "zero-bubble", "interleaved", "interleaved:3"]),
    microbatches=st.integers(1, 9),
    window=st.sampled_from([1, 2, 100]),
    frozen=st.integers(0, 4),
    tied=st.booleans(),
    seed=st.integers(0, 9),
)
def test_a_step_ends_over_every_window_with_the_same_bits(
    stages: int, schedule: str, microbatches: int, window: int, frozen: int, tied: bool, seed: int
) -> None:
    pipe = model(stages, schedule, tied=tied)
    frozen = 0 if tied else frozen
    check = microbatches > 1
    runners, home, fed = workers(pipe, microbatches, frozen=frozen, check=check)
    found = run_over_links(runners, home, fed, window, seed)
    assert len({runner.loss for runner in runners}) == 1
    whole, at, none = workers(model(1, "1f1b", tied=tied), microbatches, frozen=frozen)
    expected = run(whole, at, none)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in found)
    assert runners[0].loss == whole[0].loss


def test_who_waits_says_for_what() -> None:
    runners, _, fed = workers(model(3, "1f1b", tied=False), 4)
    assert [transfer.kind for transfer in fed] == [LABELS] * 4
    assert repr(runners[1].waiting_for) == "activation 0 for stage 1"
    assert repr(runners[2].next) == "F0@2"
    assert runners[0].waiting_for is None
    for _ in range(3):  # as many as there are stages
        (sent,) = runners[0].run()
        runners[1].receive(sent)
    assert repr(runners[0].waiting_for) == "gradient 0 for stage 0"
    assert runners[1].unused("activation", 1) == 3

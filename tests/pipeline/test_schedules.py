"""Promises of the schedules: each pass once, none before what it needs, nobody waits in vain, and little is held."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps.errors import ConfigError
from ps.pipeline.action import BACKWARD, FORWARD, INPUT, WEIGHTS, Action, needed
from ps.pipeline.schedules import PIPELINE_SCHEDULES

TEXTS = ["1f1b", "1f1b:1", "fill-drain", "zero-bubble", "zero-bubble:2", "interleaved", "interleaved:3"]
sizes = given(text=st.sampled_from(TEXTS), stages=st.integers(1, 9), microbatches=st.integers(1, 20))


def lists(text: str, stages: int, microbatches: int) -> list[list[Action]]:
    schedule = PIPELINE_SCHEDULES.parse(text).build()
    return [schedule.actions(stages, microbatches, worker) for worker in range(schedule.workers(stages))]


def done_in_order(work: list[list[Action]], stages: int) -> bool:
    """Whether all can be done, each worker in its order, whatever comes as soon as it can."""
    at, done = [0] * len(work), set()
    while True:
        before = len(done)
        for worker, actions in enumerate(work):
            while at[worker] < len(actions):
                action = actions[at[worker]]
                after = action.after(stages)
                if after is not None and after not in done:
                    break
                done.add(action)
                at[worker] += 1
        if len(done) == before:
            return before == sum(map(len, work))


@sizes
def test_every_pass_is_done_once_where_its_stage_is(text: str, stages: int, microbatches: int) -> None:
    work = lists(text, stages, microbatches)
    backward = (INPUT, WEIGHTS) if text.startswith("zero-bubble") else (BACKWARD,)
    for worker, actions in enumerate(work):
        own = range(worker, stages, len(work))
        wanted = {Action(k, s, m) for k in (FORWARD, *backward) for s in own for m in range(microbatches)}
        assert sorted(actions) == sorted(wanted)


@sizes
def test_nobody_waits_in_vain_also_where_nothing_is_trained_below(text: str, stages: int, microbatches: int) -> None:
    work = lists(text, stages, microbatches)
    for first in range(stages + 1):
        left = [needed(actions, first) for actions in work]
        assert done_in_order(left, stages)
        assert not any(action.kind != FORWARD and action.stage < first for actions in left for action in actions)


@sizes
def test_micro_batches_come_in_one_order_in_every_stage(text: str, stages: int, microbatches: int) -> None:
    for actions in lists(text, stages, microbatches):
        for kind in (FORWARD, BACKWARD, INPUT, WEIGHTS):
            for stage in range(stages):
                found = [a.microbatch for a in actions if a.kind == kind and a.stage == stage]
                assert found == sorted(found)


@given(stages=st.integers(1, 9), microbatches=st.integers(1, 20), text=st.sampled_from(["1f1b", "zero-bubble"]))
def test_1f1b_and_zero_bubble_hold_no_more_micro_batches_than_there_are_stages(
    stages: int, microbatches: int, text: str
) -> None:
    last = BACKWARD if text == "1f1b" else WEIGHTS
    for worker, actions in enumerate(lists(text, stages, microbatches)):
        held = most = 0
        for action in actions:
            held += (action.kind == FORWARD) - (action.kind == last)
            most = max(most, held)
        assert most <= (stages - worker if text == "1f1b" else stages)


def test_they_are_the_orders_of_their_papers() -> None:
    assert [str(a) for a in lists("fill-drain", 2, 2)[0]] == ["F0", "F1", "B0", "B1"]
    assert " ".join(map(str, lists("1f1b", 4, 6)[2])) == "F0 F1 B0 F2 B1 F3 B2 F4 B3 F5 B4 B5"
    assert " ".join(map(str, lists("1f1b:1", 4, 6)[2])) == "F0 F1 F2 B0 F3 B1 F4 B2 F5 B3 B4 B5"
    assert " ".join(map(str, lists("1f1b:1", 4, 3)[3])) == "F0 B0 F1 B1 F2 B2"
    assert " ".join(map(str, lists("zero-bubble", 3, 4)[2])) == "F0 I0 F1 I1 F2 I2 W0 F3 I3 W1 W2 W3"
    assert " ".join(map(repr, lists("interleaved", 4, 2)[1])) == "F0@1 F1@1 F0@3 B0@3 F1@3 B1@3 B0@1 B1@1"


@pytest.mark.parametrize("text", ["gpipe", "fill-drain:2", "1f1b:-1", "interleaved:0", "interleaved:each=1.5"])
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="pipeline schedule"):
        PIPELINE_SCHEDULES.parse(text)

"""Promises: the bubbles are those of the papers, and the picture shows them in 80 columns."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from ps.cli.schedule_picture import schedule_picture
from ps.errors import StateError
from ps.pipeline.action import Action
from ps.pipeline.schedules import PIPELINE_SCHEDULES
from ps.pipeline.timeline import ScheduleTimeline, timeline
from ps.pipeline.wave_timeline import wave_timeline


def timed(text: str, stages: int, microbatches: int) -> ScheduleTimeline:
    schedule = PIPELINE_SCHEDULES.parse(text).build()
    work = [schedule.actions(stages, microbatches, worker) for worker in range(schedule.workers(stages))]
    return timeline(work, stages)


@settings(max_examples=40)
@given(stages=st.integers(1, 8), microbatches=st.integers(1, 20))
def test_bubbles_are_those_of_the_papers(stages: int, microbatches: int) -> None:
    formula = (stages - 1) / (microbatches + stages - 1)
    assert timed("fill-drain", stages, microbatches).bubble == pytest.approx(formula)
    assert timed("1f1b", stages, microbatches).bubble == pytest.approx(formula)
    assert timed("1f1b:1", stages, microbatches).bubble == pytest.approx(formula)
    zero = timed("zero-bubble", stages, microbatches)
    assert zero.bubble <= formula + 1e-9
    if microbatches >= stages:
        assert zero.bubble == pytest.approx((stages - 1) / (3 * microbatches + stages - 1))
        several = timed("interleaved:2", 2 * stages, microbatches * stages).bubble
        assert several == pytest.approx((stages - 1) / (2 * microbatches * stages + stages - 1))


def test_workers_that_wait_for_each_other_are_found() -> None:
    work = [[Action("F", 0, 0), Action("B", 0, 0)], [Action("B", 1, 0), Action("F", 1, 0)]]
    with pytest.raises(StateError, match="wait for each other"):
        timeline(work, 2)


def drawn(stages: int, microbatches: int, text: str, waves: int = 1, width: int = 80) -> list[str]:
    console = Console(width=width, force_terminal=False, highlight=False)
    with console.capture() as capture:
        console.print(schedule_picture(stages, microbatches, text, width, waves))
    return capture.get().splitlines()


def test_a_picture_has_a_row_for_each_worker_and_a_cell_for_each_pass() -> None:
    lines = drawn(2, 2, "1f1b")
    assert lines[0] == "1f1b: 2 stages on 2 workers, 2 micro-batches"
    assert lines[2:4] == [
        "worker 0 F0 F1 ·  ·  B0─── ·  B1───",
        "worker 1 ·  F0 B0─── F1 B1─── ·  ·",
    ]
    assert "idle: 33.3% of the workers' time; (p - 1) / (m + p - 1) would be 33.3%" in lines
    assert "micro-batches held at once: 2 by the first worker, 1 by the last" in lines


@pytest.mark.parametrize("text", ["1f1b", "zero-bubble", "interleaved:3", "fill-drain"])
@pytest.mark.parametrize(("stages", "microbatches"), [(1, 1), (100, 2), (4, 200)])
@pytest.mark.parametrize("width", [40, 80])
def test_every_picture_fits_its_columns(text: str, stages: int, microbatches: int, width: int) -> None:
    lines = drawn(stages, microbatches, text, width=width)
    assert max(map(len, lines)) <= width


def test_with_two_waves_1f1b_has_no_bubble_and_holds_no_more_where_there_are_more_micro_batches_than_stages() -> None:
    for stages, microbatches in [(2, 3), (4, 8), (4, 5), (8, 16)]:
        schedule = PIPELINE_SCHEDULES.parse("1f1b").build()
        work = [schedule.actions(stages, microbatches, worker) for worker in range(stages)]
        found = wave_timeline(work, stages, 2, 12)
        assert found.bubble == pytest.approx(0)
        assert [found.times.most_held(worker) for worker in (0, stages - 1)] == [stages, 1]


@settings(max_examples=30)
@given(
    text=st.sampled_from(["1f1b", "zero-bubble", "interleaved:2", "fill-drain"]),
    stages=st.integers(1, 5),
    microbatches=st.integers(1, 8),
    waves=st.integers(2, 4),
)
def test_waves_are_never_more_idle_than_drained_steps(text: str, stages: int, microbatches: int, waves: int) -> None:
    schedule = PIPELINE_SCHEDULES.parse(text).build()
    work = [schedule.actions(stages, microbatches, worker) for worker in range(schedule.workers(stages))]
    found, drained = wave_timeline(work, stages, waves, 6), timeline(work, stages)
    assert found.times.length <= 6 * drained.length
    for spans in found.times.workers:
        assert all(one.stop <= other.start for one, other in itertools.pairwise(spans))
        assert len({span.action for span in spans}) == len(spans)


def test_a_picture_of_waves_numbers_their_micro_batches_on() -> None:
    lines = drawn(2, 2, "1f1b", 2)
    assert lines[0] == "1f1b: 2 stages on 2 workers, 2 micro-batches, 2 waves under way"
    assert lines[2:4] == [
        "worker 0 F0 F1 F2 F3 B0─── ·  B1─── F4 B2─── F5 B3─── ·  B4─── ·  B5───",
        "worker 1 ·  F0 B0─── F1 B1─── F2 B2─── F3 B3─── F4 B4─── F5 B5─── ·  ·",
    ]
    assert "idle: 0.0% of the workers' time once all is going, 33.3% with one wave" in lines

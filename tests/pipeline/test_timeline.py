"""Promises: the bubbles are those of the papers, and the picture shows them in 80 columns."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from ps.cli.schedule_picture import schedule_picture
from ps.errors import StateError
from ps.pipeline.action import Action
from ps.pipeline.schedules import PIPELINE_SCHEDULES
from ps.pipeline.timeline import ScheduleTimeline, timeline


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


def drawn(*what: object, width: int = 80) -> list[str]:
    console = Console(width=width, force_terminal=False, highlight=False)
    with console.capture() as capture:
        console.print(schedule_picture(*what, width))  # type: ignore[arg-type]
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

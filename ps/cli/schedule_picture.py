"""The picture of a pipeline's schedule: a row for each worker, a cell for each pass, and what of the time is idle."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from ps.pipeline.action import BACKWARD, FORWARD, INPUT, WEIGHTS, Action
from ps.pipeline.schedules import PIPELINE_SCHEDULES
from ps.pipeline.timeline import ScheduleTimeline, TimedAction, timeline
from ps.pipeline.wave_timeline import wave_timeline
from ps.text import counted

STYLES = {
    FORWARD: "black on bright_blue",
    BACKWARD: "black on green",
    INPUT: "black on cyan",
    WEIGHTS: "black on yellow",
}
WORDS = {FORWARD: "forward", BACKWARD: "backward", INPUT: "backward, input", WEIGHTS: "backward, weights"}
MOST_WORKERS = 40
"""Rows, at most."""
MOST_WAVES = 8
"""How many times as many waves as are under way are looked at, to see how idle workers are in the long run."""
_IDLE, _GOES_ON = "·", "─"


def schedule_picture(stages: int, microbatches: int, spec: str, width: int, waves: int = 1) -> RenderableType:
    """Return the picture in ``width`` columns; what is longer goes on below. Raises ConfigError for no schedule.

    With several ``waves`` under way it is that of one more of them, whose micro-batches are numbered on.
    """
    schedule = PIPELINE_SCHEDULES.parse(spec).build()
    count = schedule.workers(stages)
    work = [schedule.actions(stages, microbatches, worker) for worker in range(count)]
    times = timeline(work, stages) if waves == 1 else wave_timeline(work, stages, waves, waves + 1).times
    title = (
        f"{spec}: {counted(stages, 'stage')} on {counted(count, 'worker')}, {counted(microbatches, 'micro-batch')}"
        f"{f', {waves} waves under way' if waves > 1 else ''}"
    )
    kinds = [kind for kind in WORDS if any(span.action.kind == kind for span in times.workers[0])]
    rows = times.workers[:MOST_WORKERS]
    head = len(f"worker {len(rows) - 1}") + 1
    # in each cell the kind and the number of the micro-batch, and the stage where a worker has several
    cell = max(len(_name(span, several=stages > count)) for spans in rows for span in spans) + 1
    each = max(1, (width - head) // cell)
    parts: list[RenderableType] = [Text(title, style="bold"), Text()]
    for start in range(0, times.length, each):
        until = min(start + each, times.length)
        parts += [_row(worker, spans, start, until, cell, head, stages > count) for worker, spans in enumerate(rows)]
        parts.append(Text())
    if count > len(rows):
        parts.append(Text(f"{len(rows)} of {count} workers", style="dim"))
    measures = _measures(times, stages, microbatches, count) if waves == 1 else _measures_of_waves(work, stages, waves)
    return Group(*parts, _legend(kinds), *measures)


def _name(span: TimedAction, *, several: bool) -> str:
    action = span.action
    return f"{action!r}" if several else f"{action}"


def _row(worker: int, spans: list[TimedAction], start: int, until: int, cell: int, head: int, several: bool) -> Text:
    text = Text(f"{f'worker {worker}':<{head}}")
    at = start
    for span in spans:
        lo, hi = max(span.start, start), min(span.stop, until)
        if lo >= hi:
            continue
        text.append(f"{_IDLE:<{cell}}" * (lo - at), "dim")
        width = (hi - lo) * cell - 1
        name = _name(span, several=several) if lo == span.start else ""
        text.append(f"{name:{_GOES_ON}<{width}}"[:width], STYLES[span.action.kind]).append(" ")
        at = hi
    text.append(f"{_IDLE:<{cell}}" * (until - at), "dim")
    text.rstrip()
    return text


def _legend(kinds: list[str]) -> Text:
    text = Text()
    for kind in kinds:
        text.append(f" {kind} ", STYLES[kind]).append(f" {WORDS[kind]}  ", "dim")
    return text.append(f"{_IDLE} idle", "dim")


def _measures_of_waves(work: list[list[Action]], stages: int, waves: int) -> list[Text]:
    found, drained = wave_timeline(work, stages, waves, MOST_WAVES * waves), timeline(work, stages)
    held = [found.times.most_held(worker) for worker in (0, len(work) - 1)]
    each = ", in each stage counted" if stages > len(work) else ""
    return [
        Text(f"idle: {found.bubble:.1%} of the workers' time once all is going, {drained.bubble:.1%} with one wave"),
        Text(f"micro-batches held at once: {held[0]} by the first worker, {held[1]} by the last{each}"),
    ]


def _measures(times: ScheduleTimeline, stages: int, microbatches: int, workers: int) -> list[Text]:
    formula = (workers - 1) / (microbatches + workers - 1)
    each = ", in each stage counted" if stages > workers else ""
    held = [times.most_held(worker) for worker in range(workers)]
    return [
        Text(f"idle: {times.bubble:.1%} of the workers' time; (p - 1) / (m + p - 1) would be {formula:.1%}"),
        Text(f"micro-batches held at once: {held[0]} by the first worker, {held[-1]} by the last{each}"),
    ]

"""How a model is divided: by what the script says of stages and their schedule, and the job of its workers."""

from __future__ import annotations

from ps.errors import UsageError
from ps.pipeline.cut import Cut, evenly
from ps.pipeline.schedules.interleaved import Interleaved
from ps.pipeline.schedules.schedule import PipelineSchedule


def cut_for(given: Cut, count: int, layers: int) -> Cut:
    """Return the cut into as many stages as the job has, as the script has it. Raises UsageError."""
    if len(given.stages) == count:
        return given
    if len(given.stages) > 1:
        raise UsageError(
            f"the script cuts the model into {len(given.stages)} stages, and the job has {count}: start it with "
            f"--stages {len(given.stages)}, or leave cuts out"
        )
    return evenly(layers, count)


def schedule_for(given: PipelineSchedule, count: int, places: int) -> PipelineSchedule:
    """Return the schedule: with several stages on each worker an interleaved one. Raises UsageError."""
    if given.workers(count) == places:
        return given
    found = Interleaved(-(-count // places))
    if given.workers(count) != count or found.workers(count) != places:
        raise UsageError(
            f"the script's schedule has {given.workers(count)} workers for {count} stages, and the job {places}: start "
            f"it with --pipeline-workers {given.workers(count)}, or leave schedule out"
        )
    return found

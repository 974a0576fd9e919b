"""The schedules of pipelines, one line each."""

from __future__ import annotations

from ps.pipeline.schedules.fill_drain import FillDrain
from ps.pipeline.schedules.interleaved import Interleaved
from ps.pipeline.schedules.one_f_one_b import OneForwardOneBackward
from ps.pipeline.schedules.schedule import PipelineSchedule
from ps.pipeline.schedules.zero_bubble import ZeroBubble
from ps.spec import Registry

PIPELINE_SCHEDULES: Registry[PipelineSchedule] = Registry(
    "pipeline schedule",
    {
        "1f1b": OneForwardOneBackward,
        "fill-drain": FillDrain,
        "interleaved": Interleaved,
        "zero-bubble": ZeroBubble,
    },
    interface=PipelineSchedule,
    pluggable=False,
)

"""The orders in which a pipeline's workers do their passes: pure functions, one file each."""

from ps.pipeline.schedules.registry import PIPELINE_SCHEDULES
from ps.pipeline.schedules.schedule import PipelineSchedule

__all__ = ["PIPELINE_SCHEDULES", "PipelineSchedule"]

"""Pipelines: a model as a list of layers that can be cut into stages, and what they do in which order.

Everything here is pure: no sockets, threads or clocks. ``Pipeline`` runs all stages in one process; what a worker of a
cut one does is a ``StageRunner``'s to say.
"""

from ps.pipeline.cut import Cut
from ps.pipeline.layer import ForwardPass, PipelineLayer, SplitLayer, StatefulLayer, Tied, TrainingLayer
from ps.pipeline.loss import PipelineLoss, SummedLoss
from ps.pipeline.pipeline import Pipeline
from ps.pipeline.schedules import PIPELINE_SCHEDULES, PipelineSchedule

__all__ = [
    "PIPELINE_SCHEDULES",
    "Cut",
    "ForwardPass",
    "Pipeline",
    "PipelineLayer",
    "PipelineLoss",
    "PipelineSchedule",
    "SplitLayer",
    "StatefulLayer",
    "SummedLoss",
    "Tied",
    "TrainingLayer",
]

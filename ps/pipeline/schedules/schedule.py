"""PipelineSchedule: what every schedule is: the order in which a worker of a pipeline does its part of a step."""

from __future__ import annotations

from typing import Protocol

from ps.pipeline.action import Action


class PipelineSchedule(Protocol):
    """A pure function of numbers. Stage s is on worker s modulo the workers.

    Whatever the schedule, a worker does each stage's forward passes in the order of the micro-batches, and so its
    backward passes: gradients are added up in one order, and have the same bits with every schedule.
    """

    def workers(self, stages: int) -> int:
        """Return how many workers a pipeline of so many stages has."""
        ...

    def actions(self, stages: int, microbatches: int, worker: int) -> list[Action]:
        """Return what a worker does, in order; the others' actions that it depends on are never waited for in vain."""
        ...

"""TrainingPlan: what all clients of a simulated job share, as every process of the simulation knows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ps.algorithms import LocalStep
from ps.compress import Uplink
from ps.config import JobConfig
from ps.dataclass import dataclass
from ps.protocol.layout import Layout
from ps.simulate.local_work import LocalWork


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """The job's settings, the layout that travels, the model's name, and the local training."""

    job: JobConfig
    layout: Layout
    model: str
    work: LocalWork

    @property
    def local(self) -> LocalStep:
        """How a client's weights change with a step."""
        specs = self.job.specs
        return LocalStep(
            specs.local_optimizer.build(), specs.algorithm.build(), self.job.clip_value, self.job.clip_norm
        )

    @property
    def uplink(self) -> Uplink:
        """How deltas are made small on their way up."""
        return Uplink(self.job.specs.compress)

    @property
    def remembers(self) -> bool:
        """Whether clients keep anything, so that they have to be told what became of their tasks."""
        algorithm = self.local.algorithm
        return algorithm.control or algorithm.keeps_optimizer or bool(self.uplink.init(np.zeros(1, np.float32)))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that ``from_dict`` takes, in another process."""
        work = self.work
        return {
            "job": self.job.to_dict(),
            "layout": self.layout.pack(),
            "model": self.model,
            "work": (work.batch_size, work.epochs, work.steps, work.seed),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingPlan:
        """Return the plan that these values describe."""
        layout = tuple((name, section, tuple(shape)) for name, section, shape in values["layout"])
        job = JobConfig.from_dict(values["job"])
        return cls(job, Layout.unpack(layout), values["model"], LocalWork(*values["work"]))

"""Recording: a store without a cluster that remembers how it was used, and fails when told to."""

from __future__ import annotations

from typing import Any

import numpy as np

from ps import xp
from ps.config import job_from
from ps.errors import PSError
from ps.worker import KV
from ps.worker.background import Pending
from ps.worker.gradients import Gradients
from ps.worker.local import LocalStore
from ps.worker.step_log import StepLog


class Recording(LocalStore):
    """A local store that remembers how it was used, and fails when told to."""

    def __init__(self, **job: Any) -> None:
        super().__init__(job_from(job))
        self.closed: list[str] = []
        self.examples: list[float] = []
        self.trouble: PSError | None = None

    def push(self, gradients: Gradients | None, examples: float) -> Pending:
        self.examples.append(examples)
        return super().push(gradients, examples)

    def close(self, failure: str = "") -> None:
        self.closed.append(failure)
        if self.trouble is not None:
            raise self.trouble


def recording(**job: Any) -> tuple[KV, Recording]:
    store = Recording(**job)
    return KV(store, xp.CPU, StepLog(None)), store


def ones(params: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.ones(value.shape, value.dtype) for name, value in params.items()}

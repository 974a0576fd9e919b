"""A small federation for tests: made-up examples, a plan, and first weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from ps.config import JobConfig
from ps.protocol.layout import Layout
from ps.simulate.local_work import LocalWork
from ps.simulate.model import fresh
from ps.simulate.plan import TrainingPlan
from ps.xp import HostArray

FEATURES, CLASSES = 12, 4


def examples(n: int = 240, seed: int = 0) -> dict[str, HostArray]:
    """Examples whose class is a linear function of their features."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, FEATURES), np.float32)
    y = (x @ rng.standard_normal((FEATURES, CLASSES))).argmax(axis=1)
    cut = n * 5 // 6
    return {"x_train": x[:cut], "y_train": y[:cut], "x_test": x[cut:], "y_test": y[cut:]}


def plan_of(model: str = "softmax", work: LocalWork | None = None, **job: Any) -> TrainingPlan:
    """A plan for softmax, mlp or cnn (of 3 x 4 images it cannot be) over ``examples``."""
    settings = {"mode": "federated", "workers": 20, "optimizer": "sgd:lr=0.1", **job}
    config = JobConfig.from_dict(settings)
    layout = Layout.of(fresh(model, (FEATURES,), CLASSES, (8,)))
    return TrainingPlan(
        config, layout.with_controls() if config.algorithm == "scaffold" else layout, model, work or LocalWork(4)
    )


def first_weights(plan: TrainingPlan) -> HostArray:
    """The flat buffer that everybody begins with; control variates are 0."""
    buffer = np.zeros(plan.layout.nbytes, np.uint8)
    tensors = plan.layout.views(plan.layout.flat(buffer))
    for name, value in fresh(plan.model, (FEATURES,), CLASSES, (8,)).items():
        tensors[name][...] = value
    return buffer

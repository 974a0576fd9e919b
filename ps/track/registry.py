"""The trackers, one line each."""

from __future__ import annotations

import importlib.util

from ps.errors import UsageError
from ps.spec import Registry
from ps.track.mlflow import MLflow
from ps.track.tensorboard import TensorBoard
from ps.track.tracker import ExperimentTracker
from ps.track.trackio import Trackio
from ps.track.wandb import WandB

TRACKERS: Registry[ExperimentTracker] = Registry(
    "tracker",
    {
        "mlflow": MLflow,
        "tensorboard": TensorBoard,
        "trackio": Trackio,
        "wandb": WandB,
    },
)


def demand_tracker(name: str) -> None:
    """Raise ConfigError for a tracker that there is none of, UsageError for one whose library is not installed."""
    tracker = TRACKERS.parse(name).build()
    if importlib.util.find_spec(tracker.module) is None:
        raise UsageError(
            f'track = {name} needs {tracker.module}, which is not installed here. Try: pip install "{tracker.package}"'
        )

"""MLflow: a tracking server (``MLFLOW_TRACKING_URI``), or a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ps.dataclass import dataclass
from ps.track.tracker import TrackedRun

_TAG, _BEHIND = "paramserver.run", "paramserver.left_behind"
MOST_PARAMETER = 500
"""Characters of a parameter's value; servers refuse more."""


@dataclass(frozen=True, slots=True)
class MLflow:
    """The project is an experiment, ``MLFLOW_EXPERIMENT_NAME`` if that is set; the settings are parameters."""

    module = "mlflow"
    package = "paramserver[mlflow]"

    def open(self, run: TrackedRun) -> _Metrics:
        """Begin a run."""
        if run.directory is not None:
            os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"  # which newer versions want to be told
        from mlflow import MlflowClient

        client = MlflowClient(None if run.directory is None else Path(run.directory).absolute().as_uri())
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", run.project)
        experiment = client.get_experiment_by_name(name)
        number = client.create_experiment(name) if experiment is None else experiment.experiment_id
        if run.id and (known := _find(client, number, run.id)):
            client.update_run(known, status="RUNNING")
            return _Metrics(client, known)
        made = client.create_run(number, run_name=run.label, tags={_TAG: run.id} if run.id else None)
        if run.before and (behind := _find(client, number, run.before)):
            client.set_tag(behind, _BEHIND, f"went back to step {run.step}, see {run.label}")
        for key, value in run.settings.items():
            client.log_param(made.info.run_id, key, str(value)[:MOST_PARAMETER])
        return _Metrics(client, made.info.run_id)


def _find(client: Any, experiment: Any, run: str) -> str:
    """Return MLflow's number of the run that is tagged with ours; "" where there is none."""
    found = client.search_runs([experiment], f"tags.`{_TAG}` = '{run}'", max_results=1)
    return str(found[0].info.run_id) if found else ""


class _Metrics:
    def __init__(self, client: Any, run: str) -> None:
        self._client, self._run = client, run

    def log(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._run, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    def close(self) -> None:
        self._client.set_terminated(self._run)

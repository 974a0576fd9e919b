"""Weights & Biases. With ``WANDB_MODE=offline`` runs are kept in files, for ``wandb sync`` to upload."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ps.dataclass import dataclass
from ps.track.tracker import TrackedRun


@dataclass(frozen=True, slots=True)
class WandB:
    """``WANDB_PROJECT``, ``WANDB_NAME``, ``WANDB_MODE`` and the like are the library's own, and win."""

    module = "wandb"
    package = "paramserver[wandb]"

    def open(self, run: TrackedRun) -> _WandBLog:
        """Begin a run."""
        import wandb

        made = wandb.init(
            project=os.environ.get("WANDB_PROJECT", run.project),
            name=os.environ.get("WANDB_NAME", run.label),
            config=dict(run.settings),
            dir=run.directory,
            id=os.environ.get("WANDB_RUN_ID", run.id.replace(".", "-")) or None,
            resume=os.environ.get("WANDB_RESUME", "allow") if run.id else None,
            group=os.environ.get("WANDB_RUN_GROUP", run.id.partition(".")[0]) or None,
            settings=wandb.Settings(silent=True, console="off"),
        )
        made.define_metric("step", hidden=True)
        made.define_metric("*", step_metric="step")  # its own step may only grow, over all names together
        return _WandBLog(made)


class _WandBLog:
    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log({**values, "step": step})

    def close(self) -> None:
        self._run.finish()

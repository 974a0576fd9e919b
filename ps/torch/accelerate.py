"""What Accelerate, and the Trainer above it, are told of a job: this worker's rank, and who clips."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from ps.torch.clipping import demand_clip_norm, demand_clip_value
from ps.torch.optimizer import DistributedOptimizer
from ps.worker import KV


def prepare_accelerator(accelerator: Any, kv: KV) -> None:
    """Make an Accelerator one of a job's workers: see ``ps.torch.prepare``."""
    job = kv.job

    def norm_of(parameters: Any) -> list[torch.Tensor]:
        given: Iterable[torch.Tensor] = [parameters] if isinstance(parameters, torch.Tensor) else parameters
        return [parameter.grad for parameter in given if parameter.grad is not None]

    def clip_grad_norm_(parameters: Any, max_norm: float, norm_type: float = 2.0) -> torch.Tensor:
        """Check that the job clips so; return the norm of this worker's gradient."""
        if math.isfinite(max_norm):
            demand_clip_norm(job, max_norm)
        accelerator.unscale_gradients()
        return torch.nn.utils.get_total_norm(norm_of(parameters), norm_type)

    def clip_grad_value_(parameters: Any, clip_value: float) -> None:
        """Check that the job clips so."""
        demand_clip_value(job, clip_value)

    accelerator.dataloader_config.dispatch_batches = False  # or the main process alone reads what has no length
    prepared = accelerator.prepare_optimizer

    def prepare_optimizer(optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> Any:
        found = prepared(optimizer, *args, **kwargs)
        if isinstance(optimizer, DistributedOptimizer):
            found.__class__ = _heeding(type(found))
        return found

    accelerator.prepare_optimizer = prepare_optimizer
    accelerator.clip_grad_norm_ = clip_grad_norm_
    accelerator.clip_grad_value_ = clip_grad_value_
    be_rank(kv.rank)


def _heeding(prepared: Any) -> Any:
    """Return the class of a prepared optimizer that knows of steps which were skipped for another worker's sake.

    Accelerate's own takes a step for taken once it was called, and would have a schedule go on.
    """

    class PreparedDistributedOptimizer(prepared):
        @property
        def step_was_skipped(self) -> bool:
            return bool(self.optimizer.step_was_skipped)

    return PreparedDistributedOptimizer


def be_rank(rank: int) -> None:
    """Have this process be the one with this rank for all of Accelerate, while it trains by itself.

    Whatever is for the main process alone is left to rank 0 then: saving, rotating, trackers, bars, the hub.
    """
    from accelerate.state import AcceleratorState, PartialState

    PartialState()
    for shared in (PartialState._shared_state, AcceleratorState._shared_state):
        if shared:
            shared["process_index"] = shared["local_process_index"] = rank

"""Prepare: what a library's trainer needs to be one of several workers, though it believes to be alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ps.errors import UsageError
from ps.torch.accelerate import prepare_accelerator
from ps.torch.own_plan import demand_own_plan
from ps.torch.transformers import prepare_trainer
from ps.worker import KV

KINDS: dict[tuple[str, str], Callable[[Any, KV], None]] = {
    ("accelerate", "Accelerator"): prepare_accelerator,
    ("transformers", "Trainer"): prepare_trainer,
}
"""By the library and the class."""


def prepare(trainer: Any, kv: KV) -> None:
    """Make a Hugging Face ``Trainer``, or an ``Accelerator``, one of the job's workers; before it trains.

    Both: rank 0 alone saves, rotates, logs and pushes to a hub, and gradients are clipped by the job.

    ``Trainer``: it gets a ``DistributedOptimizer`` with the groups, the learning rate and weight decay of its own
    arguments (what else its ``optim`` says is the job's ``--optimizer`` to decide), its share of the training data,
    also of data without a length, and with ``--aggregator weighted`` its batches weigh what they have of labels, as in
    one process. It ends where ``kv.stop`` has training end. What it loads as the best model is what the servers had
    then, on every worker that can read the checkpoints of rank 0; ``train()`` once more goes on with what they have.

    ``Accelerator``: the script makes the ``DistributedOptimizer``, and its loader with ``ps.torch.sampler`` or
    ``ps.torch.stream``, before ``accelerator.prepare``.

    Lightning has strategies for this: ``lightning.Trainer(strategy=ps.torch.lightning_strategy(kv))``.

    Raises UsageError for anything else, in a federated job, and for what cannot be: clipping that the job does not do.
    """
    demand_own_plan(kv.job)
    for cls in type(trainer).__mro__:
        if work := KINDS.get((cls.__module__.partition(".")[0], cls.__name__)):
            work(trainer, kv)
            return
    if type(trainer).__module__.startswith(("lightning", "pytorch_lightning")):
        raise UsageError("Lightning takes a strategy: Trainer(strategy=ps.torch.lightning_strategy(kv))")
    raise UsageError(f"prepare takes a transformers.Trainer or an accelerate.Accelerator, not {type(trainer).__name__}")

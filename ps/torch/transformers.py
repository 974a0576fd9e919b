"""What Hugging Face's Trainer needs to be one of a job's workers."""

from __future__ import annotations

import logging
import re
from collections.abc import Sized
from pathlib import Path
from typing import Any

from ps.errors import UsageError
from ps.torch.accelerate import prepare_accelerator
from ps.torch.clipping import demand_clip_norm
from ps.torch.optimizer import DistributedOptimizer, weighs
from ps.torch.sampler import ShareSampler, sampler
from ps.torch.stream import stream
from ps.torch.trained_groups import numbers_of
from ps.worker import KV

log = logging.getLogger("ps.worker")

_CHECKPOINT = re.compile(r"checkpoint-([0-9]+)")
ORDERS = {"random": True, "sequential": False}
"""Which of a Trainer's ways to draw its examples can be shared out, and whether they shuffle."""


def prepare_trainer(trainer: Any, kv: KV) -> None:
    """Make a Trainer one of a job's workers: see ``ps.torch.prepare``."""
    args = trainer.args
    if args.max_grad_norm:
        demand_clip_norm(kv.job, args.max_grad_norm)
    order = str(getattr(args.train_sampling_strategy, "value", args.train_sampling_strategy))
    if order not in ORDERS:
        raise UsageError(f"train_sampling_strategy={order!r} is not shared out among workers: leave it out")
    if trainer.optimizer is None:
        trainer.optimizer = DistributedOptimizer(_groups(trainer, kv), kv, model=trainer.model)
    optimizer = trainer.optimizer
    if not isinstance(optimizer, DistributedOptimizer):
        raise UsageError(
            f"the Trainer has a {type(optimizer).__name__}, which would train this worker alone: leave optimizers out, "
            f"or make a ps.torch.DistributedOptimizer"
        )
    _share(trainer, kv, shuffle=ORDERS[order])
    _weigh(trainer, optimizer, kv)
    prepare_accelerator(trainer.accelerator, kv)
    if kv.rank:
        args.save_strategy = type(args.save_strategy)("no")
    trainer.add_callback(_callback(trainer, optimizer, kv))


def _groups(trainer: Any, kv: KV) -> list[dict[str, Any]]:
    """Return the groups that the Trainer would make, with the numbers that the job's optimizer knows."""
    args, known = trainer.args, numbers_of(kv.job)
    decaying = set(trainer.get_decay_parameter_names(trainer.model))
    named = [(name, each) for name, each in trainer.model.named_parameters() if each.requires_grad]
    own = {"lr": args.learning_rate} if "lr" in known else {}
    if "weight_decay" not in known:
        return [{"params": [each for _, each in named], **own}]
    parts = [([p for n, p in named if n in decaying], args.weight_decay)]
    parts += [([p for n, p in named if n not in decaying], 0.0)]
    return [{"params": part, "weight_decay": decay, **own} for part, decay in parts if part]


def _share(trainer: Any, kv: KV, *, shuffle: bool) -> None:
    """Give the Trainer its share of the training data."""
    args, data = trainer.args, trainer.train_dataset
    seed = args.seed if args.data_seed is None else args.data_seed

    def share(dataset: Sized | None = None) -> ShareSampler:
        return sampler(kv, trainer.train_dataset if dataset is None else dataset, shuffle, seed)

    if data is not None and not isinstance(data, Sized):
        trainer.train_dataset = stream(kv, data)
    else:
        trainer._get_train_sampler = share


def _callback(trainer: Any, optimizer: DistributedOptimizer, kv: KV) -> Any:
    """Return what has a Trainer begin with the servers' weights, end where training ends for all, and have one best
    model on all workers."""
    from transformers import TrainerCallback

    class OneOfSeveral(TrainerCallback):
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            optimizer.refresh()  # the Trainer may have loaded a best model before

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step < state.max_steps and kv.stopped:
                control.should_training_stop = True

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if args.load_best_model_at_end:
                kv.barrier()  # rank 0 has written it by then
                if kv.rank:
                    _load_best(trainer)

    return OneOfSeveral()


def _load_best(trainer: Any) -> None:
    """Load what rank 0 has found to be the best model, from the folder that both can read; else say so."""
    from transformers.trainer_callback import TrainerState

    folder, step = Path(trainer.args.output_dir), trainer.state.global_step
    written = [(int(m[1]), path) for path in folder.glob("checkpoint-*") if (m := _CHECKPOINT.fullmatch(path.name))]
    newest = max(((each, path) for each, path in written if each <= step), default=None)
    best = newest and TrainerState.load_from_json(str(newest[1] / "trainer_state.json")).best_model_checkpoint
    if not best or not Path(best).is_dir():
        log.warning(
            "the best model was loaded by rank 0 alone: its checkpoints are not in %s here. This worker has that of "
            "step %d",
            folder,
            step,
        )
        return
    trainer.state.best_model_checkpoint = best
    trainer._load_best_model()


def _weigh(trainer: Any, optimizer: DistributedOptimizer, kv: KV) -> None:
    """Have a step weigh as much as its batches have labels, of which the Trainer takes the loss's mean."""
    collect, heeded, told = trainer.get_batch_samples, weighs(kv.job), False

    def get_batch_samples(*args: Any, **kwargs: Any) -> Any:
        nonlocal told
        batches, items = collect(*args, **kwargs)
        if items is not None and heeded:
            optimizer.weight = float(items) or None
        elif items is not None and not told:
            told = True
            log.warning(
                "the loss is a mean over labels, and aggregator = %s takes each worker's for as much, however many it "
                "has: --aggregator weighted gives the step of the whole batch",
                kv.job.specs.aggregator.name,
            )
        return batches, items

    trainer.get_batch_samples = get_batch_samples

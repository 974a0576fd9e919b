"""Lightning: a strategy for its Trainer by which a process is one of a job's workers."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, RandomSampler

from ps import xp
from ps.data.foreign_loader import KEPT, is_default
from ps.errors import UsageError
from ps.torch.clipping import demand_clip_norm, demand_clip_value
from ps.torch.first_batch import digest
from ps.torch.own_plan import demand_own_plan
from ps.torch.sampler import ShareSampler, generator, sampler
from ps.torch.stream import ShareStream, stream
from ps.worker import KV

SAME = (*(name for name in KEPT if name != "generator"), "batch_size", "drop_last")
"""What a loader of a share has as the one that it is made of."""


def lightning_strategy(kv: KV, device: str | torch.device | None = None) -> Any:
    """Return a strategy for ``lightning.Trainer(strategy=..., devices=1)``: training as one of the job's workers.

    ``configure_optimizers`` returns a ``DistributedOptimizer(self, kv)``. Training loaders, also of data without a
    length, give each worker its share; those for validation are left alone. Rank 0 alone writes checkpoints, removes
    them and logs. ``gradient_clip_val`` has to be the job's. Training ends where ``kv.stop`` has it end. ``device`` is
    where this worker computes, unless given a device of the Trainer's ``accelerator``: of GPUs one by rank.

    Raises UsageError in a federated job.
    """
    demand_own_plan(kv.job)
    from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator
    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.strategies import SingleDeviceStrategy
    from lightning.pytorch.utilities.rank_zero import rank_zero_only

    class StopCallback(Callback):
        """Ends training where it ends for all."""

        def on_train_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
            if kv.stopped:
                trainer.should_stop = True

    class ParameterServerStrategy(SingleDeviceStrategy):
        """Trains on one device, as the worker with its rank in a job."""

        strategy_name = "paramserver"

        def __init__(self) -> None:
            super().__init__("cpu" if device is None else device)
            self.global_rank = kv.rank
            rank_zero_only.rank = kv.rank

        @property
        def root_device(self) -> torch.device:
            chosen = self.accelerator
            if device is not None or chosen is None or isinstance(chosen, CPUAccelerator):
                return super().root_device
            if isinstance(chosen, CUDAAccelerator):
                here = kv.device
                return torch.device("cuda", kv.rank % torch.cuda.device_count() if here == xp.CPU else here.index)
            found: torch.device = chosen.get_parallel_devices(chosen.parse_devices(1))[0]
            return found

        @property
        def is_global_zero(self) -> bool:
            return kv.rank == 0

        def setup(self, trainer: Any) -> None:
            super().setup(trainer)
            if trainer.gradient_clip_val:
                by_value = str(trainer.gradient_clip_algorithm or "norm").endswith("value")
                (demand_clip_value if by_value else demand_clip_norm)(kv.job, trainer.gradient_clip_val)
                trainer.gradient_clip_val = None  # the servers do it

            trainer.callbacks.append(StopCallback())

        def process_dataloader(self, dataloader: Any) -> Any:
            trainer = self.lightning_module.trainer
            return share_of(dataloader, kv) if trainer.training else dataloader

        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            if args and not self._looked:
                self._looked = True
                kv.note_first_batch(digest(args[0]))
            return super().training_step(*args, **kwargs)

        _looked = False

    return ParameterServerStrategy()


def share_of(loader: Any, kv: KV) -> Any:
    """Return a loader of this worker's share of what a ``DataLoader`` loads, unless it is one already.

    Raises UsageError for one whose share cannot be known.
    """
    if not isinstance(loader, DataLoader):
        raise UsageError(f"training data comes from a DataLoader here, not a {type(loader).__name__}")
    same = {name: getattr(loader, name) for name in SAME}
    if isinstance(loader.dataset, IterableDataset):
        return loader if isinstance(loader.dataset, ShareStream) else DataLoader(stream(kv, loader.dataset), **same)
    if isinstance(loader.sampler, ShareSampler):
        return loader
    if not is_default(loader):
        raise UsageError(
            f"a loader with a {type(loader.sampler).__name__} or batches of its own cannot be shared out among "
            f"workers: DataLoader(..., sampler=ps.torch.sampler(kv, data))"
        )
    shuffle = isinstance(loader.sampler, RandomSampler)
    return DataLoader(loader.dataset, sampler=sampler(kv, loader.dataset, shuffle), generator=generator(kv), **same)

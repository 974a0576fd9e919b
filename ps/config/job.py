"""JobConfig: what every member of a job must agree on. The scheduler holds it and hands it out in WELCOME."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

MODES = ("sync", "async", "ssp")
AGGREGATORS = ("mean", "weighted")
TRANSPORTS = ("auto", "tcp", "ipc")


def setting(default: Any, help: str, choices: tuple[str, ...] = ()) -> Any:
    """Declare one setting: its default, one line of help and, where they are few, its values."""
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True, slots=True)
class JobConfig:
    """The settings of a job, every one with a default."""

    servers: int = setting(1, "number of server processes that share the model")
    workers: int = setting(1, "number of workers the job starts with")
    mode: str = setting("sync", "when pushed gradients are applied", MODES)
    staleness: int = setting(2, "ssp: how many clocks a worker may run ahead of the slowest")
    backup_workers: int = setting(0, "sync: apply after all but this many workers have pushed")
    staleness_scaling: bool = setting(False, "async: divide the learning rate by a push's staleness")
    aggregator: str = setting("mean", "sync: how gradients are combined", AGGREGATORS)
    optimizer: str = setting("sgd:lr=0.1", "name and numbers, such as adam:lr=1e-3,weight_decay=1e-4")
    schedule: str = setting("constant", "learning-rate schedule, such as cosine:steps=1000,warmup=50")
    clip_value: float | None = setting(None, "clip every gradient element to [-v, v]")
    clip_norm: float | None = setting(None, "scale the gradient down to this global L2 norm")
    on_nan: str = setting("fail", "a gradient with NaN or Inf: stop, or skip the step", ("fail", "skip"))
    transport: str = setting("auto", "how tensors travel; auto takes the fastest that works", TRANSPORTS)
    chunk_size: int = setting(1 << 20, "bytes of a tensor chunk, at most")
    window: int = setting(8 << 20, "bytes a worker may have unanswered at each server")
    heartbeat_timeout: float = setting(10.0, "seconds of silence after which a member is dead")
    start_timeout: float = setting(120.0, "seconds to wait for all servers and workers to join")
    seed: int = setting(0, "seed of the data's order")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return dataclasses.asdict(self)

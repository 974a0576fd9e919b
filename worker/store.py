"""Store: where a worker's parameters live. In this process (``local``) or on the servers (``cluster``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ps.config.job import JobConfig
from ps.protocol.layout import Layout
from ps.worker.gradients import Gradients
from ps.xp import HostArray


@dataclass(slots=True)
class Traffic:
    """What a store has sent, received and waited for since it was made; bytes and seconds."""

    bytes_up: int = 0
    bytes_down: int = 0
    wait_s: float = 0.0


class Handle(Protocol):
    """An exchange under way; ``kv.wait`` waits for it."""

    @property
    def done(self) -> bool:
        """Whether everything was answered."""
        ...

    @property
    def staleness(self) -> int:
        """The greatest staleness that any chunk of it had, as the mode counts it."""
        ...


class Store(Protocol):
    """What ``KV`` needs of the place where the parameters live. All arrays are on the host."""

    job: JobConfig
    rank: int
    clock: int
    """Steps this worker has done, or was given when it came late."""
    traffic: Traffic

    @property
    def num_workers(self) -> int: ...

    def init(self, layout: Layout, values: HostArray) -> HostArray:
        """Agree on the layout and the first values (one flat buffer); return the buffer that holds the weights."""
        ...

    def push(self, gradients: Gradients | None, examples: float) -> Handle:
        """Send gradients (None: skip this clock); they may be changed once this returns."""
        ...

    def pull(self, into: HostArray) -> Handle:
        """Ask for the weights; they are in ``into`` (a flat buffer) once the handle is waited for."""
        ...

    def push_pull(self, gradients: Gradients | None, examples: float) -> Handle:
        """Send gradients and bring the weights' buffer up to date; returns when both are done."""
        ...

    def wait(self, handle: Handle) -> None:
        """Return when the exchange is done. Raises what went wrong with it."""
        ...

    def barrier(self) -> None:
        """Return when all live workers are here. Afterwards all have the same clock, and weights to match."""
        ...

    def set_lr(self, lr: float) -> None:
        """From the next step on the base learning rate is ``lr``."""
        ...

    def close(self, failure: str = "") -> None:
        """Leave in good order; ``failure`` says why when it is not one."""
        ...

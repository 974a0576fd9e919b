"""Store: where a worker's parameters live. In this process (``local``) or on the servers (``cluster``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ps.config.job import JobConfig
from ps.protocol.layout import Layout
from ps.worker.evaluation import Evaluation
from ps.worker.gradients import Gradients
from ps.worker.step_log import StepLog
from ps.worker.traffic import Traffic
from ps.xp import Array, Device, HostArray


@dataclass(frozen=True, slots=True)
class Buffers:
    """Where a store has the weights, and where it would like gradients to be, if anywhere; uint8, a layout's bytes."""

    weights: HostArray
    """What it writes to."""
    shown: HostArray
    """What is read of them: the same memory, or that of the servers. A script that writes there is stopped."""
    gradients: HostArray | None = None
    encodes: bool = False
    """Whether it encodes gradients, on whatever side they are, before it sends them; else they have to be on the host.
    """


class Pending(Protocol):
    """An exchange under way, as a store knows it."""

    @property
    def done(self) -> bool:
        """Whether everything was answered."""
        ...

    @property
    def staleness(self) -> int:
        """The greatest staleness that any chunk of it had, as the mode counts it."""
        ...


class Loader(Protocol):
    """Where a worker's batches come from."""

    planned: int
    """The clock at which the batches end; 0 where that is not known."""

    @property
    def examples(self) -> int:
        """How many examples the batch has that the next step is of; 0 before the first."""
        ...

    def stepped(self) -> None:
        """Note that a step was done."""
        ...

    def begin(self, clock: int) -> None:
        """Leave out the batches of the clocks before this one: the other workers have done those."""
        ...

    def batches(self, data: Any, batch_size: int, epochs: int, shuffle: bool) -> Iterator[Any]:
        """Yield this worker's batches. Raises DataError at the call."""
        ...

    def note(self, samples: float, metrics: Mapping[str, Any]) -> bool:
        """Take a step's metrics; return whether the step has no line of its own in the record."""
        ...

    def goes_on_without(self, why: str) -> bool:
        """Whether training goes on although a gradient cannot be applied, without the round that it is part of."""
        ...


class Store(Protocol):
    """What ``KV`` needs of the place where the parameters live. Weights are on the host."""

    job: JobConfig
    rank: int
    traffic: Traffic
    report: Callable[[], dict[str, Any]]
    """Returns what the status shows of this worker; called on another thread. Set by whoever counts."""

    @property
    def clock(self) -> int:
        """Steps this worker has done, or was given when it came late."""
        ...

    @property
    def rejoins(self) -> int:
        """How often the weights' buffer was brought up to date unasked, because this worker came (back) late."""
        ...

    @property
    def num_workers(self) -> int: ...

    @property
    def neighbours(self) -> int:
        """How many workers share this host, this one included."""
        ...

    def init(self, layout: Layout, values: HostArray, *, in_place: bool) -> Buffers:
        """Agree on the layout and the first values (one flat buffer); return the buffers to work with.

        ``in_place``: the script reads the weights in the buffer itself, so it may be one that others read too, and
        must be one that the script cannot write to.
        """
        ...

    def loader(self, device: Device, log: StepLog, evaluation: Evaluation) -> Loader:
        """Return where the batches come from."""
        ...

    def place(self, flat: Mapping[str, Array], refresh: Callable[[], None]) -> None:
        """Learn where the script reads the parameters: by section, on its side; ``refresh`` copies the buffer there."""
        ...

    def settle(self) -> None:
        """Return when earlier pushes are done, so that the memory they were sent from may be used again."""
        ...

    @property
    def eager(self) -> bool:
        """Whether a chunk may be sent before the step's other chunks are known."""
        ...

    def send(self, gradients: Gradients, chunks: Iterable[int], examples: float) -> None:
        """Send these chunks of the next ``push_pull`` now; it sends the others. Needs ``settle`` before the first."""
        ...

    def push(self, gradients: Gradients | None, examples: float) -> Pending:
        """Send gradients (None: skip this clock); the script's arrays may be changed once this returns."""
        ...

    def pull(self, into: HostArray) -> Pending:
        """Ask for the weights; they are in ``into`` (a flat buffer) once the exchange is waited for."""
        ...

    def push_pull(self, gradients: Gradients | None, examples: float) -> Pending:
        """Send gradients and bring the weights' buffer up to date.

        Returns when both are done; in a job with ``overlap``, when the first tensor's weights are there.
        """
        ...

    def arrive(self, chunks: Iterable[int]) -> None:
        """Return when these chunks of the last ``push_pull`` are there."""
        ...

    def poll(self) -> None:
        """Take the answers that are here, without waiting."""
        ...

    def wait(self, pending: Pending) -> None:
        """Return when the exchange is done. Raises what went wrong with it."""
        ...

    def barrier(self) -> None:
        """Return when all live workers are here. All have the same clock then, and the same weights."""
        ...

    def set_lr(self, lr: float) -> None:
        """From the next step on the base learning rate is ``lr``."""
        ...

    def close(self, failure: str = "") -> None:
        """Leave in good order; ``failure`` says why when it is not one. Raises what an unwaited push ran into."""
        ...

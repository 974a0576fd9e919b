"""Store: where a worker's parameters live. In this process (``local``) or on the servers (``cluster``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from ps.config.job import JobConfig
from ps.dataclass import dataclass
from ps.protocol.layout import Chunk, Layout
from ps.worker.background import Background, Pending
from ps.worker.compression import Compression
from ps.worker.crew import StepShare
from ps.worker.cut_plan import CutPlan
from ps.worker.evaluation import Evaluation
from ps.worker.gradients import Gradients
from ps.worker.loader import Loader
from ps.worker.part import ModelPart
from ps.worker.step_log import StepLog
from ps.worker.stop_point import StopPoint
from ps.worker.traffic import Traffic
from ps.xp import Array, Device, HostArray

if TYPE_CHECKING:
    from ps.pipeline import Pipeline
    from ps.pipeline.execution import Execution


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


Masters = Mapping[str, HostArray]
"""Float32 masters of what is in half precision, as flat vectors by section of the layout."""


def nothing() -> Masters:
    """Leave the first values as they are."""
    return {}


WholeModel: TypeAlias = tuple[Mapping[str, Array], Callable[[str], HostArray]]
"""All tensors of a model whose parts several workers have, as shapes and dtypes, and what returns the values of one."""


class Store(Protocol):
    """What ``KV`` needs of the place where the parameters live. Weights are on the host."""

    job: JobConfig
    rank: int
    traffic: Traffic
    background: Background
    whole: Callable[[Mapping[str, Any]], WholeModel] | None
    """Returns the model where several workers have its parts; raises UsageError where that is for another of them."""
    cut_plan: CutPlan | None
    """Which checkpoint is to be made; None where there are none."""
    report: Callable[[], dict[str, Any]]
    """Returns what the status shows of this worker; called on another thread. Set by whoever counts."""

    @property
    def scheduler(self) -> str:
        """The address of the job's scheduler; empty without a cluster."""
        ...

    @property
    def clock(self) -> int:
        """Steps this worker has done, or was given when it came late."""
        ...

    @property
    def num_workers(self) -> int: ...

    @property
    def job_id(self) -> str:
        """What no other job is called; empty without a cluster."""
        ...

    @property
    def saves(self) -> bool:
        """Whether this worker has the job's model to save: as the live one of the lowest rank, or of all the rounds."""
        ...

    def init(
        self,
        layout: Layout,
        values: HostArray,
        *,
        in_place: bool,
        count: Callable[[], Masters] = nothing,
        part: ModelPart | None = None,
    ) -> Buffers:
        """Agree on the layout and the first values (one flat buffer); return the buffers to work with.

        ``in_place``: the script reads the weights in the buffer itself, so it may be one that others read too, and
        must be one that the script cannot write to. ``count`` is called where this worker's values count; it may
        change them, and returns masters that they are the copies of, if there are any. ``part``: the layout is that of
        the part of a model that this worker has.
        """
        ...

    def execution(self, pipeline: Pipeline, kv: Any, seed: int) -> Execution | None:
        """Return how the stages of a model are executed together with other workers; None: each worker has all."""
        ...

    def owed(self) -> tuple[Compression, tuple[Chunk, ...]] | None:
        """Return what compression has left out and owes, with the chunks that it is of; None without compression."""
        ...

    def loader(self, device: Device, log: StepLog, evaluation: Evaluation) -> Loader:
        """Return where the batches come from."""
        ...

    def push(self, gradients: Gradients | None, examples: float) -> Pending:
        """Send gradients (None: skip this clock); the script's arrays may be changed once this returns."""
        ...

    def pull(self, into: HostArray) -> Pending:
        """Ask for the weights; they are in ``into`` (a flat buffer) once the exchange is waited for."""
        ...

    def push_pull(self, gradients: Gradients | None, examples: float, *, veto: bool = False) -> Pending:
        """Send gradients and bring the weights' buffer up to date.

        ``veto``: there are none, and in sync mode no worker is to take the step.
        Returns when both are done; in a job with ``overlap``, when the first tensor's weights are there.
        """
        ...

    def offer(self, gradients: Gradients, examples: float) -> None:
        """Send this worker's own gradients of the next step, of a pipeline: its word on others' comes with the step."""
        ...

    def masters(self) -> tuple[int, Mapping[str, HostArray]]:
        """Return the tensors that are trained with the float32 masters of those in half precision, and their clock.

        They are this worker's own to have: nobody changes them. Raises PSError when they cannot be had.
        """
        ...

    def share(self) -> StepShare:
        """Return which part of the examples of its next step is this worker's, where workers share a fixed number."""
        ...

    def drain(self) -> None:
        """Return when all steps are done that the script has given, where a pipeline has several under way."""
        ...

    def barrier(self) -> None:
        """Return when all live workers are here. All have the same clock then, and the same weights."""
        ...

    def set_rates(self, groups: Iterable[str], *, lr: float | None = None, weight_decay: float | None = None) -> None:
        """From the next step on these groups of tensors, "" for the rest, have this base learning rate and decay."""
        ...

    @property
    def stop_point(self) -> StopPoint:
        """Where training ends, as far as this worker knows."""
        ...

    def begin_step(self) -> bool:
        """Whether another step is this worker's to take; it counts as begun then."""
        ...

    def stop(self, reason: str) -> None:
        """Have training end everywhere."""
        ...

    def close(self, failure: str = "") -> None:
        """Leave in good order; ``failure`` says why when it is not one. Raises what an unwaited push ran into."""
        ...


def brief(store: Store, *, closed: bool, begun: bool) -> str:
    """Return which worker of which job a store's is, and how far it is; for people."""
    role = "client" if store.job.federated and store.scheduler else "worker"
    where = f"in the {store.job.mode} job at {store.scheduler}" if store.scheduler else "without a cluster"
    end = ", closed" if closed else "" if begun else ", before init"
    return f"<KV: {role} {store.rank} {where}, clock {store.clock}{end}>"

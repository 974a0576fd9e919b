"""RoundLoader: the batches of a client: while it takes part in a round, its own share of the data, over and over."""

from __future__ import annotations

import itertools
import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from ps import xp
from ps.config.job import JobConfig
from ps.data import (
    Columns,
    ExampleStream,
    ForeignLoader,
    IndexedExamples,
    Partition,
    Source,
    ahead,
    counterpart,
    demand_arrays,
    demand_prefetch,
    demand_whole,
    is_columns,
    labels_of,
    partition,
    size_of,
    source_of,
    view,
)
from ps.dataclass import dataclass
from ps.errors import DataError, PSError, StateError
from ps.worker.batch_loader import placed
from ps.worker.evaluation import Evaluation
from ps.worker.federated.training import Training
from ps.worker.loader import ignore
from ps.worker.parameters import Parameters
from ps.worker.shares import write_share
from ps.worker.step_log import StepLog
from ps.worker.traffic import Traffic
from ps.xp import Array, Device, HostArray

log = logging.getLogger("ps.worker")

TUNED = "_tuned"
"""What is put behind a metric's name when it was measured after the client's own training (personalisation)."""


@dataclass(frozen=True, slots=True)
class RoundTask:
    """What this client is to do now; ``version`` is that of the weights it began with."""

    number: int
    round: int
    version: int
    evaluate: bool
    token: int


class RoundStore(Protocol):
    """A client's tasks, as its store has them."""

    job: JobConfig
    rank: int
    traffic: Traffic
    training: Training
    task: RoundTask | None
    finished: bool
    seen: int

    def place(self, flat: Mapping[str, Array], refresh: Callable[[], None]) -> None: ...

    def begin(self) -> RoundTask | None: ...

    def look(self, version: int) -> int: ...

    def end(self, examples: float, report: Mapping[str, float]) -> str: ...

    def decline(self, why: str) -> str: ...

    def spoil(self, why: str) -> str: ...

    def abandon(self, why: str) -> None: ...


class RoundLoader:
    """Waits for tasks, yields a round's batches, and ships what the script's steps made of the weights."""

    ahead = False
    epoch = 0
    planned = share = 0
    refreshed: Callable[[], None] = staticmethod(lambda: None)
    """How many steps there will be is the rounds' concern."""

    def __init__(self, store: RoundStore, device: Device, log: StepLog, evaluation: Evaluation) -> None:
        self.examples = 0
        """How many examples the last batch had; 0 before the first."""
        self.idle: Callable[[], None] = lambda: None
        self._store = store
        self._owner = threading.get_ident()
        self._device = device
        self._log = log
        self._evaluation = evaluation
        self._metrics: dict[str, list[float]] = {}
        self._samples = 0.0
        self._spoiled = ""
        """What was wrong with a gradient of this round."""
        self._shown: set[int] = set()
        self._published: Callable[[int], None] = ignore
        job = store.job
        self._private = job.specs.secure.build().masks
        """Whether nothing of this client alone is to be told."""
        if self._private:
            log.keep_private(alone=not job.specs.partition.build().divides)
        self._looked = -1
        """The version that was evaluated last, for the record."""

    def stepped(self, clock: int) -> None:
        """Nothing is taken ahead: a round ends with its last step."""

    def begin(self, clock: int, model: Parameters, published: Callable[[int], None] = ignore) -> None:
        """Train this model from now on. Nothing is left out: a client always does what it is assigned."""
        self._published = published
        self._store.place(model.flat, model.refresh)

    def note(self, samples: float, metrics: Mapping[str, Any]) -> bool:
        """Take one step's metrics: a round has one line in the record, with their means."""
        self._samples += samples
        for name, value in metrics.items():
            number = _number(value)
            if number is not None:
                self._metrics.setdefault(name, []).append(number)
        return True

    def goes_on_without(self, why: str) -> bool:
        """Give this round up for a gradient that cannot be applied; the next one may be better."""
        if self._store.task is None:
            return False
        self._spoiled = self._spoiled or why
        return True

    def batches(
        self,
        data: Any,
        batch_size: int | None,
        epochs: int,
        shuffle: bool,
        prefetch: int = 0,
    ) -> Iterator[Any]:
        """Yield the batches of every round that this client takes part in, until all rounds are done.

        ``epochs`` is the script's plan for training at once; here ``local_epochs`` or ``local_steps`` of the job
        count. A client whose share is empty gives back what it is assigned, and stays; so does one of whose gradients
        one has NaN or the like, with ``on_nan`` = fail. Raises DataError, at the call, when the data cannot be divided
        as the job wants it; GradientError when gradients spoil several rounds in a row.
        """
        demand_prefetch(prefetch)
        source = source_of(data, batch_size)
        share = self._share(data, source)
        if epochs > 1 and self._store.rank == 0:
            job = self._store.job
            number, unit = (job.local_epochs, "epoch") if job.local_steps is None else (job.local_steps, "step")
            log.warning(
                "epochs = %d of kv.batches does not count in a federated job: a client trains %d %s in each of %d "
                "rounds (--local-epochs, --local-steps, --rounds)",
                epochs,
                number,
                unit if number == 1 else f"{unit}s",
                job.rounds,
            )

        def generate() -> Iterator[Any]:
            while not self._store.finished:
                self._demand_owner()
                task = self._store.begin()
                if task is not None:
                    yield from self._round(task, data, share, shuffle, prefetch)
                elif (version := self._due(self._looked)) > self._looked:
                    self._looked = self._store.look(version)
                    self._evaluation.run(self._looked)
                    self._published(self._looked)

        return generate()

    def _demand_owner(self) -> None:
        if threading.get_ident() != self._owner:
            raise StateError(
                "in a federated job the batches of a round end with its steps: take them in the thread that trains, "
                "not ahead in another one"
            )

    def _due(self, looked: int) -> int:
        """Return a version that rank 0 is to evaluate for the record, or one that it has."""
        every, seen = self._store.job.eval_every or int(self._evaluation.patient), self._store.seen
        due = self._evaluation and every > 0 and self._store.rank == 0 and seen // every > looked // every
        return seen if due and not self._store.finished else looked

    def _round(self, task: RoundTask, data: Any, share: Source, shuffle: bool, prefetch: int) -> Iterator[Any]:
        order, n = self._order(task, share, shuffle)
        if n == 0:
            verdict = self._store.decline("there are no examples in its share")
            self._log.step(task.round, 0, {"verdict": verdict}, self._store.traffic, staleness=0, steps=0)
            return
        if self._due(self._looked) > self._looked:  # the weights are those of a published version now
            self._looked = task.version
            self._evaluation.run(task.version)
        self._published(task.version)
        report = self._on_own(data, "") if task.evaluate else {}
        self._metrics, self._samples, self._spoiled = {}, 0.0, ""
        seen = 0
        try:
            for batch in ahead(itertools.islice(order, self._store.job.local_steps), prefetch):
                self._demand_owner()
                self.examples = size_of(batch)
                seen += self.examples
                yield placed(batch, self._device)
                if self._spoiled:
                    break
        except GeneratorExit:  # the script has had enough
            try:
                self._store.abandon("the script went on to something else")
            except PSError as error:  # nobody is left who would want to know
                log.debug("a task is not given back: %s", error)
            raise
        means = {name: _mean(values) for name, values in self._metrics.items()}
        if self._spoiled:
            noted = {**means, "verdict": self._store.spoil(self._spoiled)}
            self._log.step(task.round, self._samples, noted, self._store.traffic, staleness=0, steps=0)
            return
        if task.evaluate:
            report |= self._on_own(data, TUNED)
        count = self._store.training.steps
        verdict = self._store.end(self._weight(n, seen), {**means, **report})
        metrics = {**means, **report, "verdict": verdict}
        self._log.step(task.round, self._samples, metrics, self._store.traffic, staleness=0, steps=count)

    def _order(self, task: RoundTask, share: Source, shuffle: bool) -> tuple[Iterator[Any], int | None]:
        """Return a round's batches and of how many examples they are; None where only reading them tells."""
        job, steps = self._store.job, self._store.job.local_steps
        if isinstance(share, ExampleStream):
            passes = itertools.count() if steps is not None else range(job.local_epochs)
            own = not job.specs.partition.build().divides
            rank, clients = (0, 1) if own else (self._store.rank % job.workers, job.workers)
            return (share.join(each) for number in passes for each in share.epoch(number, rank, clients)), None
        n = len(share)
        if not n:
            return iter(()), 0
        seed = int(np.random.SeedSequence((job.seed, self._store.rank, task.round)).generate_state(1)[0])
        size = min(share.batch_size, n)
        epochs = job.local_epochs if steps is None else math.ceil(steps / math.ceil(n / size))
        return share.batches(size, epochs=epochs, seed=seed, shuffle=shuffle), n

    def _weight(self, n: int | None, seen: int) -> float:
        """Return how many examples a round's training counts as: all of the share, however often each was seen."""
        if n is not None:
            return n
        return seen if self._store.job.local_steps is not None else seen / self._store.job.local_epochs

    def _on_own(self, train: Any, suffix: str) -> dict[str, float]:
        """Return what is measured on this client's own test data."""
        if not self._evaluation:
            return {}
        found = self._evaluation.measure(lambda test: self.counterpart(train, test))
        return {f"{name}{suffix}": value for name, value in found.items()}

    # The client's data

    def _share(self, data: Any, source: Source) -> Source:
        """Return this client's part of data that every client sees, or all of what is its own."""
        job = self._store.job
        divides = job.specs.partition.build().divides
        if isinstance(source, ExampleStream):
            if source.once:
                raise DataError(
                    f"a client goes through its data in every round, and a {type(data).__name__} can be gone through "
                    f"once: give what begins anew each time, such as a list"
                )
            if job.specs.partition.name not in ("iid", "own"):
                raise DataError(
                    f"--partition {job.partition} divides data by index, and a {type(data).__name__} has examples in a "
                    f"row: with iid they are dealt out to the clients, with own all of them are this client's"
                )
            return source
        demand_whole("batch_size", source.batch_size)
        if isinstance(source, Columns):
            demand_arrays(data)  # only to have it checked now
        if not divides:
            return source
        found = self._division(source)
        share: Columns | IndexedExamples | ForeignLoader
        labels: HostArray | None = None
        client = self._store.rank % found.clients
        if isinstance(source, Columns):
            own = view(data, found, client)
            share, labels = Columns(own, source.batch_size), xp.to_host(labels_of(own))
        else:
            if job.specs.partition.name == "features":
                raise DataError("--partition features distorts arrays: give a tuple of arrays")
            share = source.share(found.share(client))
        if self._log.run_dir is not None and client not in self._shown and not self._private:
            self._shown.add(client)
            write_share(self._log.run_dir, self._store.rank, len(share), labels)
        return share

    def _division(self, source: Columns | IndexedExamples | ForeignLoader) -> Partition:
        """Return how the job divides data among its clients: the same for all of them."""
        job = self._store.job
        if isinstance(source, Columns):
            labels = xp.to_host(labels_of(source.data))
        elif job.specs.partition.build().by_label:
            labels = source.labels()
        else:
            labels = np.zeros(len(source))
        return partition(job.specs.partition, labels, job.workers, job.seed)

    def counterpart(self, train: Any, test: Any) -> Any:
        """Return the test data by which this client is judged: arrays mixed as its own training data are, else all."""
        divides = self._store.job.specs.partition.build().divides
        if not divides or not is_columns(train) or not is_columns(test):
            return test
        found = self._division(Columns(train, 1))
        client = self._store.rank % found.clients
        labels = xp.to_host(labels_of(train)), xp.to_host(labels_of(test))
        return view(test, found, client, counterpart(found, *labels, client))


def _mean(values: list[float]) -> float:
    try:
        return math.fsum(values) / len(values)
    except OverflowError:  # of a model that diverged
        return math.fsum(value / len(values) for value in values)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None

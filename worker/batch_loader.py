"""BatchLoader: the batches a worker is given: its share of each epoch, on its device, from where the job is."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from ps import xp
from ps.data import (
    BlankBatches,
    ExampleStream,
    StepWindows,
    ahead,
    demand_length,
    demand_prefetch,
    size_of,
    source_of,
)
from ps.data.columns import Columns
from ps.data.foreign_loader import ForeignLoader
from ps.data.indexed import IndexedExamples
from ps.errors import BadMessage, UsageError
from ps.worker.crew import StepShare
from ps.worker.leases import BatchesCall, Courses
from ps.worker.loader import ignore
from ps.worker.parameters import Parameters
from ps.worker.stop_point import StopPoint
from ps.xp import Device

Indexed = Columns | IndexedExamples | ForeignLoader | BlankBatches


class StepStore(Protocol):
    """Whose steps the batches are for."""

    @property
    def clock(self) -> int: ...

    @property
    def stop_point(self) -> StopPoint: ...

    def begin_step(self) -> bool: ...

    def share(self) -> StepShare: ...

    def drain(self) -> None: ...


class BatchLoader:
    """Remembers which batches are done, over several calls of ``batches``."""

    def __init__(
        self,
        device: Device,
        rank: int,
        num_workers: int,
        seed: int,
        store: StepStore | None = None,
        *,
        place: int | None = None,
        size: int | None = None,
        courses: Courses | None = None,
        seen: Callable[[int, Any], None] | None = None,
    ) -> None:
        """``place``: of this worker in a pipeline, if it is in one. The first has batches, and the others as many, of
        zeros, for which nothing is read. ``size``: the examples of a step, where the workers that there are share so
        many. ``courses``: where batches are handed out, what hands them out. ``seen`` is told in which call of
        ``batches`` which source is gone through, and may refuse it."""
        self._size = size
        self.share = 0
        self.idle: Callable[[], None] = lambda: None
        self._courses = courses
        self._seen = seen
        self.refreshed: Callable[[], None] = lambda: None
        self._store = store
        self._place = place
        self._owner = threading.get_ident()
        self._examples = 0
        self._ahead: deque[list[int]] = deque()
        """The batches that were taken and have had no step yet, in their order: how many examples, how many such."""
        self._device = device
        self._rank, self._num_workers = rank % num_workers, num_workers
        self._share = {"rank": self._rank, "num_workers": num_workers, "seed": seed}
        self._skip = 0
        self._epochs = 0
        self.planned = 0
        """The clock at which the one call of ``batches`` ends; 0 before it, and where there are several."""
        self._calls = 0
        self.epoch = 0
        """How many steps an epoch of the latest call has; 0 where that is not known."""

    @property
    def examples(self) -> int:
        """How many examples the batch has that the next step is of: that of the last one, where all have had a step.

        Batches may be taken ahead, also by another thread: the steps are of them in their order.
        """
        return self._ahead[0][0] if self._ahead else self._examples

    def _took(self, examples: int) -> None:
        if self._ahead and self._ahead[-1][0] == examples:
            self._ahead[-1][1] += 1
        else:
            self._ahead.append([examples, 1])

    def stepped(self, clock: int) -> None:
        """Note that a step was done: with the next batch that was taken, if there is one."""
        if self._courses is not None:
            self._courses.stepped(clock)
        if self._ahead:
            self._examples = self._ahead[0][0]
            self._ahead[0][1] -= 1
            if not self._ahead[0][1]:
                self._ahead.popleft()

    def begin(self, clock: int, model: Parameters, published: Callable[[int], None] = ignore) -> None:
        """Leave out the batches of the clocks before this one: the other workers have done those."""
        self._skip = clock

    def batches(
        self,
        data: Any,
        batch_size: int | None,
        epochs: int,
        shuffle: bool,
        prefetch: int = 0,
    ) -> Iterator[Any]:
        """Yield batches; a second call goes on with the next epochs. Raises DataError at the call."""
        demand_prefetch(prefetch)
        given = source_of(data, batch_size)
        if self._place is not None:
            demand_length(given)
        source = BlankBatches(given) if self._place else given
        if self._size is not None:
            return self._shared(StepWindows(given, self._size, self._share["seed"], shuffle), epochs, prefetch)
        if isinstance(source, ExampleStream):
            source.check(epochs)
        else:  # only to have it checked now
            source.batches(source.batch_size, epochs=epochs, shuffle=shuffle, **self._share)

        def generate() -> Iterator[Any]:
            first, self._epochs = self._epochs, self._epochs + epochs
            self._begin_call(given)
            if self._courses is not None and not isinstance(source, ExampleStream):
                yield from self._leased(self._courses, source, first, epochs, shuffle, prefetch)
                return
            if isinstance(source, ExampleStream):
                self.planned = self.epoch = 0
                order = self._read(source, range(first, first + epochs))
            else:
                steps = self.epoch = source.steps(source.batch_size, self._num_workers)
                skipped = min(self._skip, epochs * steps)
                self._skip -= skipped
                self.planned = (first + epochs) * steps if self._calls == 1 else 0
                start = first * steps + skipped
                order = source.batches(
                    source.batch_size, epochs=first + epochs, start=start, shuffle=shuffle, **self._share
                )
            yield from self._given(ahead(order, prefetch))
            if self._store is not None and threading.get_ident() == self._owner:
                self._store.drain()

        return generate()

    def _shared(self, windows: StepWindows, epochs: int, prefetch: int) -> Iterator[Any]:
        """Yield the batches of this worker's share of each step: of the examples that are that step's, by its clock."""
        store = self._store
        assert store is not None

        def generate() -> Iterator[Any]:
            first, self._epochs = self._epochs, self._epochs + epochs
            self._begin_call(windows.source)
            steps = self.epoch = windows.steps
            skipped = min(self._skip, epochs * steps)
            self._skip -= skipped
            begin = store.clock - skipped
            self.planned = begin + epochs * steps if self._calls == 1 else 0
            try:
                while self._goes_on() and (step := (clock := store.clock) - begin) < epochs * steps:
                    epoch, at = first + step // steps, step % steps
                    lo, hi = store.share().part(windows.count(at))
                    self.share = hi - lo
                    if not self.share:
                        self.idle()
                        continue
                    for batch in ahead(windows.batches(epoch, at, lo, hi), prefetch):
                        if store.clock != clock or not self._goes_on():
                            break  # it was late for this step, or training has ended
                        self._took(size_of(batch))
                        yield placed(batch, self._device)
                    if store.clock == clock and self._goes_on():
                        raise UsageError(
                            "with --global-batch each batch of kv.batches is followed by kv.step before the next one "
                            "is taken: which examples come next depends on who is there then"
                        )
            finally:
                self.share = 0

        return generate()

    def _begin_call(self, source: Any) -> None:
        """Another call of ``batches`` begins. Raises UsageError for data that are not those of the job."""
        if self._seen is not None and not self._place:  # the later ones of a pipeline read nothing
            self._seen(self._calls, source)
        self._calls += 1

    def _given(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Yield batches to the script until training ends; return whether it goes on."""
        for batch in batches:
            if not self._goes_on():
                return
            self._took(size_of(batch))
            yield placed(batch, self._device)

    def _leased(
        self, courses: Courses, source: Indexed, first: int, epochs: int, shuffle: bool, prefetch: int
    ) -> Iterator[Any]:
        """Yield the batches that this worker is handed out, of ``epochs`` epochs from ``first`` on."""
        size, number = source.batch_size, self._calls - 1
        steps = self.epoch = source.steps(size, self._num_workers)
        self.planned = epochs * steps if number == 0 else 0
        course = courses.begin(BatchesCall(number, len(source), size, epochs, self._num_workers, steps))
        try:
            grid = course.open()
            most = epochs * grid * source.steps(size, grid)
            before = first * (most // epochs)
            while True:
                cells = (before + demand_below(cell, most) for cell in course.cells())
                share = {**self._share, "num_workers": grid, "rank": 0}
                yield from self._given(ahead(source.batches(size, cells=cells, shuffle=shuffle, **share), prefetch))
                if self._store is not None and self._store.stop_point.over(self._store.clock):
                    break
                goes_on = course.finish()
                self.refreshed()
                if not goes_on:
                    break
        finally:
            courses.end(course)

    def _read(self, stream: ExampleStream, epochs: Iterable[int]) -> Iterator[Any]:
        """Yield a stream's batches, without those of clocks that are over: they can only be read over."""
        for epoch in epochs:
            for examples in stream.epoch(epoch, self._rank, self._num_workers):
                if self._skip:
                    self._skip -= 1
                else:
                    yield stream.join(examples)

    def _goes_on(self) -> bool:
        """Whether there is another step to take; a thread that takes batches ahead does not speak for the script."""
        store = self._store
        if store is None:
            return True
        return store.begin_step() if threading.get_ident() == self._owner else not store.stop_point.over(store.clock)

    @property
    def ahead(self) -> bool:
        """Whether there are batches that were taken and have had no step yet."""
        return bool(self._ahead)

    def note(self, samples: float, metrics: Mapping[str, Any]) -> bool:
        """Whether a step has no line of its own in the record: here it has."""
        return False

    def goes_on_without(self, why: str) -> bool:
        """Whether training goes on without what a gradient that cannot be applied is part of: here it cannot."""
        return False


def demand_below(cell: int, most: int) -> int:
    """Return the number of a batch. Raises BadMessage for one that there is not."""
    if cell >= most:
        raise BadMessage(f"the scheduler has handed out batch {cell} of {most}; the workers' data or epochs differ")
    return cell


def placed(batch: Any, device: Device) -> Any:
    """Return a batch with its arrays, one or those of a tuple or dict, on a device; what is no array as it is."""
    if device.backend is xp.NUMPY:
        return batch
    if isinstance(batch, tuple):
        return tuple(placed(part, device) for part in batch)
    if isinstance(batch, dict):
        return {name: placed(part, device) for name, part in batch.items()}
    return device.array(batch) if isinstance(batch, np.ndarray) and batch.dtype.kind in "biufcV" else batch

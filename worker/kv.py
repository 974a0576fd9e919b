"""KV: what a training script talks to. The same in every mode, with a cluster or without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import numpy as np

from ps import xp
from ps.config.job import JobConfig
from ps.data import batches, num_examples, steps_per_epoch
from ps.errors import GradientError, StateError, UsageError
from ps.protocol.layout import Layout
from ps.worker.gradients import Gradients, Staging, first_bad, match
from ps.worker.record import StepLog
from ps.worker.store import Handle, Store
from ps.xp import Array, Device, HostArray


class KV:
    """A worker's connection to its parameters; made by ``ps.connect``.

    ``init`` comes first, then ``step`` for each batch. ``push``, ``pull``, ``push_pull`` and ``wait`` are the verbs
    below ``step``. All of them belong to the thread that made the connection.
    """

    def __init__(self, store: Store, device: Device, log: StepLog) -> None:
        self.device = device
        """Where this worker computes."""
        self._store = store
        self._log = log
        self._closed = False
        self._examples = 0.0
        self._skip = store.clock
        self._layout: Layout | None = None

    # What is known

    @property
    def rank(self) -> int:
        """This worker's number, from 0."""
        return self._store.rank

    @property
    def num_workers(self) -> int:
        """How many workers are in the job now."""
        return self._store.num_workers

    @property
    def clock(self) -> int:
        """How many steps this worker has done; one that came late begins with the job's clock."""
        return self._store.clock

    @property
    def job(self) -> JobConfig:
        """The job's settings."""
        return self._store.job

    # The model

    def init(self, params: Mapping[str, Any]) -> dict[str, Array]:
        """Set the model's first values and return the parameters to train.

        The first worker's values win; every worker gets the same. The result has the names, shapes and dtypes of
        ``params`` (float32 or float64; NumPy, CuPy or DLPack), lies on ``kv.device`` as views of one flat vector,
        and changes in place with each ``step``. Raises LayoutMismatch when another worker trains another model,
        UsageError for tensors that cannot be trained, StateError the second time.
        """
        self._open()
        if self._layout is not None:
            raise StateError("kv.init was called before; a connection trains one model")
        arrays = {name: xp.asarray(value) for name, value in params.items()}
        layout = Layout.of(arrays)
        values = xp.host_buffer(layout.nbytes, self.device)
        for name, view in layout.views(layout.flat(values)).items():
            xp.copy_to_host(arrays[name], view)
        self._buffer = self._store.init(layout, values)
        self._skip = self._store.clock
        self._staging = Staging(
            layout,
            layout.chunks(self.job.servers, self.job.chunk_size),
            xp.host_buffer(layout.nbytes, self.device),
        )
        self._host = layout.flat(self._buffer)
        self._flat = self._host
        if self.device is not xp.CPU:
            self._flat = {dtype: self.device.array(vector) for dtype, vector in self._host.items()}
        self._layout = layout
        self.params = layout.views(self._flat)
        """The parameters, as ``init`` returned them."""
        return dict(self.params)

    def step(self, grads: Mapping[str, Any], *, examples: float | None = None, **metrics: Any) -> None:
        """Give one batch's gradients and bring the parameters up to date, by the job's mode.

        ``grads`` has a gradient for each parameter, of its shape and dtype. ``examples`` is how many examples they
        are the mean of; the size of the last batch of ``kv.batches`` if not given. ``metrics`` (loss=0.3) go into
        the run's record. Raises GradientError naming the tensor, and nothing is applied then.
        """
        before = (self._store.traffic.bytes_up, self._store.traffic.bytes_down, self._store.traffic.wait_s)
        clock = self.clock
        samples = self._examples if examples is None else examples
        gradients = self._checked(grads)
        done = self._store.push_pull(gradients, samples or 1.0)
        self._refresh()
        traffic = self._store.traffic
        counted = {
            "bytes_up": traffic.bytes_up - before[0],
            "bytes_down": traffic.bytes_down - before[1],
            "wait_s": round(traffic.wait_s - before[2], 6),
            "staleness": done.staleness,
        }
        if gradients is None:
            counted["skipped"] = 1
        self._log.step(clock, samples, metrics, **counted)
        self._report()

    def push_pull(self, grads: Mapping[str, Any], params: Mapping[str, Any] | None = None) -> None:
        """Give gradients and get the new weights, into ``params`` (dict of arrays) or the connection's own."""
        self._store.push_pull(self._checked(grads), self._examples or 1.0)
        self._refresh()
        if params is not None:
            self._copy_out(params)

    def push(self, grads: Mapping[str, Any]) -> Handle:
        """Give gradients without waiting for their application. They are copied and may be reused at once."""
        return self._store.push(self._checked(grads), self._examples or 1.0)

    def pull(self, out: Mapping[str, Any] | None = None) -> Handle:
        """Ask for the weights that have this worker's pushes in them; they are there after ``wait``.

        They land in ``out`` (a dict of arrays like the parameters), or in the parameters themselves.
        """
        self._initialised()
        if out is None or out is self.params:
            return PullHandle(self._store.pull(self._buffer), None)
        self._fits(out)
        if not hasattr(self, "_scratch"):
            self._scratch = np.empty_like(self._buffer)
        return PullHandle(self._store.pull(self._scratch), out)

    def wait(self, handle: Handle) -> None:
        """Return when what the handle stands for is done. Raises StateError for what is no handle."""
        self._initialised()
        if isinstance(handle, PullHandle):
            self._store.wait(handle.inner)
            if handle.out is None:
                self._refresh()
            elif not handle.taken:
                self._scatter(self._scratch, handle.out)
            handle.taken = True
            return
        if not hasattr(handle, "staleness"):
            raise StateError(f"kv.wait takes a handle of push or pull, not {type(handle).__name__}")
        self._store.wait(handle)

    def barrier(self) -> None:
        """Return when every live worker is here. All leave it with the same clock and the same weights."""
        self._open()
        self._store.barrier()
        if self._layout is not None:
            self._refresh()

    def set_lr(self, lr: float) -> None:
        """From the next step on the base learning rate is ``lr``, for all workers; the schedule multiplies it."""
        self._initialised()
        if not 0 <= lr < float("inf"):
            raise UsageError(f"the learning rate must be a number of at least 0, not {lr!r}")
        self._store.set_lr(float(lr))

    def batches(self, data: Any, batch_size: int, *, epochs: int = 1, shuffle: bool = True) -> Iterator[Any]:
        """Yield this worker's batches: in each epoch the workers together see every example once.

        ``data`` is a Dataset, an array, or a tuple of arrays of one length; batches come on ``kv.device``, at most
        ``batch_size`` long. All workers get the same number of batches. A worker that came late begins where the
        job is. Raises DataError, with the numbers, when the data cannot be divided so.
        """
        self._open()
        workers = self.job.workers
        made = batches(
            data,
            batch_size,
            epochs=epochs,
            rank=self.rank % workers,
            num_workers=workers,
            seed=self.job.seed,
            start=self._skip,
            shuffle=shuffle,
        )
        return self._batches(made, data, batch_size, epochs, workers)

    def _batches(self, made: Iterator[Any], data: Any, batch_size: int, epochs: int, workers: int) -> Iterator[Any]:
        self._skip = max(0, self._skip - epochs * steps_per_epoch(num_examples(data), batch_size, workers))
        for batch in made:
            first = batch[0] if isinstance(batch, tuple) else batch
            self._examples = len(first)
            yield self._placed(batch)

    def _placed(self, batch: Any) -> Any:
        if self.device is xp.CPU:
            return batch
        if isinstance(batch, tuple):
            return tuple(self._placed(part) for part in batch)
        return self.device.array(batch) if xp.is_host(batch) else batch

    # Inside

    def _open(self) -> None:
        if self._closed:
            raise StateError("this connection is closed")

    def _initialised(self) -> Layout:
        self._open()
        if self._layout is None:
            raise StateError("no parameters yet: call kv.init(params) first")
        return self._layout

    def _checked(self, grads: Mapping[str, Any]) -> Gradients | None:
        """Return the gradients ready to send, or None when this step is to be skipped."""
        layout = self._initialised()
        gradients = match(grads, self._staging)
        bad = first_bad(gradients, layout)
        if not bad:
            return gradients
        if self.job.on_nan == "skip":
            return None
        raise GradientError(f"{bad}, at clock {self.clock}; nothing was applied (--on-nan skip would go on without it)")

    def _refresh(self) -> None:
        """Bring the device's parameters up to date with the host's."""
        if self._flat is not self._host:
            for dtype, vector in self._host.items():
                self.device.backend.fill(self._flat[dtype], vector)

    def _fits(self, out: Mapping[str, Any]) -> None:
        for tensor in self._initialised().tensors:
            if tensor.name not in out:
                raise UsageError(f"nowhere to put tensor {tensor.name!r}: it is missing in what was given")
            array = out[tensor.name]
            if tuple(array.shape) != tensor.shape or str(array.dtype) != tensor.dtype:
                raise UsageError(f"{tensor} cannot go into an array of {array.dtype}{list(array.shape)}")

    def _copy_out(self, out: Mapping[str, Any]) -> None:
        if any(out.get(name) is not mine for name, mine in self.params.items()):
            self._fits(out)
            self._scatter(self._buffer, out)

    def _scatter(self, source: HostArray, out: Mapping[str, Any]) -> None:
        layout = self._initialised()
        for name, view in layout.views(layout.flat(source)).items():
            xp.backend_of(out[name]).fill(out[name], view)

    def _report(self) -> None:
        report = getattr(self._store, "report", None)
        if report is not None:
            traffic = self._store.traffic
            report.update(self._log.report())
            report.update(bytes_up=traffic.bytes_up, bytes_down=traffic.bytes_down, wait_s=round(traffic.wait_s, 3))

    # The end

    def close(self, failure: str = "") -> None:
        """Leave the job in good order. Closing twice does nothing."""
        if not self._closed:
            self._closed = True
            self._log.flush()
            self._store.close(failure)

    def __enter__(self) -> KV:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(f"{type(error).__name__}: {error}" if error is not None else "")


class PullHandle:
    """A pull under way and where its weights go."""

    __slots__ = ("inner", "out", "taken")

    def __init__(self, inner: Handle, out: Mapping[str, Any] | None) -> None:
        self.inner = inner
        self.out = out
        self.taken = False

    @property
    def done(self) -> bool:
        """Whether everything was answered; the weights are in place after ``kv.wait``."""
        return self.inner.done

    @property
    def staleness(self) -> int:
        """Staleness of the weights, as the mode counts it."""
        return self.inner.staleness

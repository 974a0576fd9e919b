"""Place a script's model in a job: how it is laid out and cut, where its weights and gradients lie."""

from __future__ import annotations

import dataclasses
from functools import partial

from ps import xp
from ps.dataclass import dataclass
from ps.errors import UsageError
from ps.protocol.layout import Chunk, Layout
from ps.worker.first_values import FirstValues
from ps.worker.model import Model
from ps.worker.parameters import Parameters
from ps.worker.store import Buffers, Store
from ps.xp import Array, Device


@dataclass(frozen=True, slots=True)
class Placement:
    """``trained`` is the layout of the gradients, ``chunks`` how they are cut."""

    trained: Layout
    chunks: tuple[Chunk, ...]
    buffers: Buffers
    parameters: Parameters


def place(model: Model, store: Store, device: Device) -> Placement:
    """Give a model's first values to the store, and return where it is from now on.

    Raises UsageError where workers have parts of models and this is a whole one.

    In a federated job buffers and counters are part of what the store has; else they stay with this worker.
    """
    job, trained, part = store.job, model.trained, model.part
    if job.pipeline and part is None and store.scheduler:
        raise UsageError(
            f"with mode = {job.mode} a worker has some layers of the model: make it a ps.Pipeline and call "
            f"pipe.init(kv). With mode = sync each worker trains the whole model"
        )
    layout = model.layout if job.federated else trained
    init = job.init if job.resume is None else None  # what is resumed has its own values
    first = FirstValues(model, init)
    if part is not None and init is not None:
        part = dataclasses.replace(part, value=first.value)
    beside = {name: _fixed(device.array(array)) for name, array in first.own(model.frozen).items()}
    if not job.federated:
        beside |= {name: device.array(array) for name, array in first.own(model.untrained()).items()}
    values = xp.host_buffer(layout.nbytes, device)
    model.fill(layout, values)
    chunks = trained.whole() if job.federated else (part or layout).cut(job)
    count = partial(first.fill, layout, values)
    buffers = store.init(layout, values, in_place=device.backend is xp.NUMPY, count=count, part=part)
    weights = buffers.weights if buffers.weights is values else xp.pinned(buffers.weights, device)
    parameters = Parameters(layout, weights, buffers.shown, device, beside, list(model.arrays))
    return Placement(trained, chunks, buffers, parameters)


def _fixed(array: Array) -> Array:
    """Return an array that cannot be written to, on the host."""
    view = array.view()
    if xp.is_host(view):
        view.flags.writeable = False
    return view

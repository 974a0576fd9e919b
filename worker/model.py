"""Model: the tensors that a script hands to ``kv.init``, checked, and what each of them is."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ps import xp
from ps.config.job import JobConfig
from ps.dataclass import dataclass
from ps.errors import UsageError
from ps.half import HALVES
from ps.optim import Optimizer
from ps.optim.group import assign, divide, matches
from ps.optim.limit import all_within, elements_within, limit_of
from ps.protocol.layout import Layout, Tensor
from ps.spec import Spec
from ps.worker.parameters import readable
from ps.worker.part import DividedModel, ModelPart
from ps.xp import Array, Device, HostArray

log = logging.getLogger("ps.worker")

FROZEN = "frozen"
_NUMBERS = re.compile(r"([0-9]+)")
KINDS = ("trainable", "buffer", "counter", FROZEN)


@dataclass(frozen=True, slots=True)
class Model:
    """``arrays`` by name, in the script's order.

    ``layout`` has those of them that may change, ``trained`` those that have gradients; ``frozen`` is the rest. They
    are this worker's, where it has a ``part`` of the model only.
    """

    arrays: dict[str, Array]
    layout: Layout
    trained: Layout
    frozen: dict[str, Array]
    part: ModelPart | None = None
    shapes: Mapping[str, Array] | None = None
    """All workers' tensors, where it has a part. Here and in ``arrays`` they are shapes and dtypes alone then, and
    ``value`` makes them, one layer after the other."""

    @property
    def all(self) -> Mapping[str, Array]:
        """The tensors of all workers, as far as this one knows them."""
        return self.arrays if self.shapes is None else self.shapes

    @property
    def whole(self) -> Layout:
        """The layout of what all workers train together."""
        return self.trained if self.part is None else self.part.whole

    def fill(self, layout: Layout, values: HostArray) -> None:
        """Copy the tensors of a layout into a flat buffer."""
        views = layout.views(layout.flat(values))
        for tensor in layout.tensors:
            xp.copy_to_host(self.value(tensor.name), views[tensor.name])
            if self.part is not None:
                check_values(tensor, views[tensor.name])

    def untrained(self) -> dict[str, HostArray]:
        """Return the tensors that have no gradients, in host memory."""
        return {t.name: xp.to_host(self.value(t.name)) for t in self.layout.tensors if t.kind != "trainable"}

    def value(self, name: str) -> Array:
        """Return what a tensor of this worker's begins with."""
        return self.arrays[name] if self.part is None else self.part.value(name)


def read(params: Any, kinds: Any, groups: Any, optimizer: Spec[Optimizer], *, as_given: bool = False) -> Model:
    """Return a script's model; ``optimizer`` is what updates it. Raises UsageError naming a tensor that it cannot have.

    It is laid out by the tensors' names, so that their order in the dict means nothing, unless ``as_given``.

    Raises ConfigError for a group with numbers that the optimizer does not take.
    """
    divided = params if isinstance(params, DividedModel) else None
    params = params if divided is None else divided.arrays
    if not isinstance(params, Mapping):
        raise UsageError(f"a model is a dict with an array for each tensor, not {type(params).__name__}")
    arrays = {name: readable(name, value) for name, value in params.items()}
    _warn_of_ties(arrays)
    declared = declared_kinds(kinds, list(arrays))
    frozen = {name: array for name, array in arrays.items() if declared.get(name) == FROZEN}
    order = list(arrays) if as_given else sorted(arrays, key=natural)
    changing = {name: arrays[name] for name in order if name not in frozen}
    trainable = [name for name in changing if declared.get(name, "trainable") == "trainable"]
    assigned = assign(groups, trainable, optimizer)
    layout = Layout.of(changing, declared, assigned if divided is None else divide(assigned, divided.parts(trainable)))
    trained = layout.of_kind("trainable")
    if not any(tensor.size for tensor in trained.tensors):
        raise UsageError("a model has at least one tensor with elements that is trained")
    if divided is not None:
        return _part(Model(arrays, layout, trained, frozen), divided)
    for tensor in trained.tensors:
        check_values(tensor, arrays[tensor.name])
    return Model(arrays, layout, trained, frozen)


def _part(whole: Model, divided: DividedModel) -> Model:
    """Return what one worker has of a model."""
    own = divided.own
    layout, trained = (
        Layout(tuple(tensor for tensor in each.tensors if tensor.name in own)) for each in (whole.layout, whole.trained)
    )
    arrays = {name: array for name, array in whole.arrays.items() if name in own}
    frozen = {name: divided.value(name) for name in whole.frozen if name in own}
    changing = len(layout.tensors) > len(trained.tensors)
    part = ModelPart(whole.trained, trained, divided.place, divided.value, changing)
    return Model(arrays, layout, trained, frozen, part, whole.arrays)


def natural(name: str) -> list[tuple[int, str]]:
    """Return what names are sorted by: numbers in them as numbers, so that a model's layers stay side by side."""
    return [(int(part) if part.isdecimal() else -1, part) for part in _NUMBERS.split(name)]


def demand_precision(trained: Layout, job: JobConfig, device: Device) -> None:
    """Raise UsageError for the first tensor of half precision that a job, or a device, cannot train."""
    half = next((tensor for tensor in trained.tensors if tensor.dtype in HALVES), None)
    if half is None:
        return
    way_out = f"give {half.name!r} as float32"
    if job.federated:
        raise UsageError(f"{half} cannot be trained by clients, who have no master of it: {way_out}; --compress bf16")
    if job.compress != "none":
        raise UsageError(f"{half} travels in two bytes already, and no codec takes it: {way_out}, or use no --compress")
    if half.dtype == "bfloat16" and device.backend is not xp.NUMPY:
        raise UsageError(f"{half} cannot lie on a device, since CuPy has no bfloat16: {way_out} or float16")


def check_values(tensor: Tensor, array: Array, source: str = "") -> None:
    """Raise UsageError for NaN, Inf, or what would overflow with the first decay or norm; ``source``: whence it is."""
    vector = array.reshape(-1)
    if all_within([vector]):
        return
    at = int(elements_within(vector).argmin())
    where = tuple(int(i) for i in np.unravel_index(at, tensor.shape)) if tensor.shape else ()
    raise UsageError(
        f"the first value of {tensor.name!r}{source} is {float(vector[at])} at {where}; training begins with numbers "
        f"of up to {limit_of(vector.dtype):.2g}. Was the model saved after it had diverged, or never initialised?"
    )


def _warn_of_ties(arrays: Mapping[str, Array]) -> None:
    """Say which tensors share memory in the script, as one array or as views of it: here each is trained on its own."""
    open_: list[tuple[int, str]] = []
    for low, high, name in sorted((*xp.extent(array), name) for name, array in arrays.items() if array.size):
        open_ = [(end, other) for end, other in open_ if end > low]
        for _, other in open_:
            if xp.share_memory(arrays[other], arrays[name]):
                first, second = sorted((other, name), key=list(arrays).index)
                log.warning(
                    "%r and %r are one array, or share its memory, but are trained as two, which differ after the "
                    "first step; for tied weights give it one name and add up its gradients",
                    first,
                    second,
                )
        open_.append((high, name))


def declared_kinds(kinds: Any, names: list[str]) -> dict[str, str]:
    """Return each tensor's kind, of those that have one, by name or pattern: a name before any pattern.

    Raises UsageError for a tensor that there is not, or a kind that scripts have nothing to do with.
    """
    if kinds is None:
        return {}
    if not isinstance(kinds, Mapping):
        raise UsageError(f"kinds is a dict with a kind for each tensor that is not trained, not {kinds!r}")
    found: dict[str, str] = {}
    for pattern, kind in kinds.items():
        if kind not in KINDS:
            raise UsageError(f"{pattern!r} cannot be a {kind!r}; kinds are {', '.join(KINDS[:-1])} and {KINDS[-1]}")
        matching = [name for name in names if matches(name, pattern)]
        if not matching:
            raise UsageError(f"kinds names {pattern!r}, which is no tensor of the model")
        for name in matching:
            if name == pattern or name not in found:
                found[name] = str(kind)
    return found

"""How a model is dealt out to the workers of a pipeline: its cut, its schedule, and which tensors each of them has."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ps.errors import UsageError
from ps.pipeline.arrays import ArrayKind, leaves
from ps.pipeline.chain import Chain
from ps.pipeline.cut import Cut, evenly
from ps.pipeline.schedules.interleaved import Interleaved
from ps.pipeline.schedules.schedule import PipelineSchedule
from ps.worker.part import DividedModel
from ps.xp import Array


def described(chain: Chain, seed: int) -> tuple[dict[str, Array], LayerValues]:
    """Return all tensors of a model, with shape and dtype and memory for one element, and what makes first values.

    All of these are made once, layer by layer, to know what tensors there are.
    """
    arrays: dict[str, Array] = {}
    owners: dict[str, int] = {}
    for layer in range(len(chain)):
        for name, value in chain.init(seed, [layer]).items():
            arrays[name], owners[name] = _shape_of(value), layer
    return arrays, LayerValues(chain, seed, owners)


def divided(
    chain: Chain, cut: Cut, arrays: Mapping[str, Array], first: LayerValues, places: int, place: int
) -> DividedModel:
    """Return a model of these tensors as the worker at a ``place`` of so many has it."""
    home = [cut.stage_of(layer) % places for layer in range(len(chain))]
    holders: dict[str, list[int]] = {}
    for layer, names in enumerate(chain.split(arrays)):
        for name in names.values():
            holders.setdefault(name, []).append(home[layer])
    held = {name: tuple(dict.fromkeys(found)) for name, found in holders.items()}
    return DividedModel(arrays, held, place, first.value)


class LayerValues:
    """First values of tensors one after the other, whoever has them; of one layer at a time."""

    def __init__(self, chain: Chain, seed: int, owners: Mapping[str, int]) -> None:
        """``owners``: the place of the layer that a tensor belongs to."""
        self._chain, self._seed, self._owners = chain, seed, owners
        self.forget()

    def forget(self) -> None:
        """Keep the values of no layer."""
        self._at, self._values = -1, dict[str, Array]()

    def value(self, name: str) -> Array:
        """Return a tensor's first value."""
        place = self._owners[name]
        if place != self._at:
            self.forget()
            self._at, self._values = place, self._chain.init(self._seed, [place])
        return self._values[name]


def digest(batch: Any, arrays: ArrayKind) -> int:
    """Return what tells a batch from another one, as far as 32 bits do (CRC-32)."""
    found = 0
    for name, leaf in leaves(batch, ""):
        values = arrays.to_host(leaf) if isinstance(leaf, arrays.types) else repr(leaf).encode()
        found = zlib.crc32(name.encode(), found)
        if isinstance(values, bytes):
            found = zlib.crc32(values, found)
        else:
            found = zlib.crc32(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data, found)
    return found


def _shape_of(array: Array) -> Array:
    """Return an array like this one with memory for one element."""
    return np.broadcast_to(np.zeros((), array.dtype), array.shape)


def cut_for(given: Cut, count: int, layers: int) -> Cut:
    """Return the cut into as many stages as the job has, as the script has it. Raises UsageError."""
    if len(given.stages) == count:
        return given
    if len(given.stages) > 1:
        raise UsageError(
            f"the script cuts the model into {len(given.stages)} stages, and the job has {count}: start it with "
            f"--stages {len(given.stages)}, or leave cuts out"
        )
    return evenly(layers, count)


def schedule_for(given: PipelineSchedule, count: int, places: int) -> PipelineSchedule:
    """Return the schedule: with several stages on each worker an interleaved one. Raises UsageError."""
    if given.workers(count) == places:
        return given
    found = Interleaved(-(-count // places))
    if given.workers(count) != count or found.workers(count) != places:
        raise UsageError(
            f"the script's schedule has {given.workers(count)} workers for {count} stages, and the job {places}: start "
            f"it with --pipeline-workers {given.workers(count)}, or leave schedule out"
        )
    return found

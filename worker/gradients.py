"""Gradients: what a script hands in, checked against the layout and readable chunk by chunk on one side.

On the host a chunk that lies inside one tensor is read where the script has it. Chunks of several tensors are gathered
in staging memory, so that a thousand tiny tensors cost one copy each and nothing else. On a device, which is where
gradients are encoded in a job that compresses, all are gathered.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from operator import is_
from typing import Any

import numpy as np

from ps import xp
from ps.errors import GradientError, UsageError
from ps.optim import square_sum
from ps.optim.limit import all_within, copy_within, elements_within, limit_of, within_limit
from ps.protocol.layout import Chunk, Layout, Tensor
from ps.threads import ThreadTeam
from ps.worker.arrays import CONVERT, plain
from ps.xp import Array, HostArray

WAY_ON = "a lower learning rate may help; --on-nan skip, or PS_ON_NAN=skip, would go on without this step"
NO_GRADIENT = (
    "every tensor needs one in every step. With partial=True those without one stay as they are, and so does their "
    "optimizer's state; one that is never trained is frozen: kv.init(params, kinds={name: 'frozen'})"
)


LOOK_BYTES = 1 << 20
"""Bytes that a thread looks at in one go, at most."""


class Slot:
    """One tensor's place: what its gradient must be, where it is staged, and which chunks it has parts in."""

    __slots__ = ("chunks", "direct", "dtype", "edges", "name", "shape", "staged", "view")

    def __init__(self, tensor: Tensor, staged: Array) -> None:
        self.name = tensor.name
        self.shape = tensor.shape
        self.dtype = np.dtype(tensor.dtype)
        self.staged = staged
        self.view = staged.reshape(tensor.shape)
        self.direct: list[tuple[int, int, int]] = []
        """(chunk, first element, last element + 1) of the parts that are a whole chunk."""
        self.edges: list[tuple[int, int]] = []
        """(first element, last element + 1) of the parts that share a chunk with other tensors."""
        self.chunks: list[int] = []
        """The chunks in which it has a part."""


class Staging:
    """Memory for gradients that cannot be sent from where they are, and the map of tensors to chunks.

    ``buffer`` (uint8) is on the host, or on the device where gradients are encoded. ``weights`` is the buffer, on the
    host, that answers land in: gradients that lie there are staged too.
    """

    def __init__(
        self,
        layout: Layout,
        chunks: tuple[Chunk, ...],
        buffer: Array,
        weights: HostArray,
        team: ThreadTeam | None = None,
        *,
        read_here: bool = False,
    ) -> None:
        """``team`` shares out what passes over all gradients; ``read_here``: servers read them in the buffer alone."""
        self.layout = layout
        self.weights = weights
        self.team = team or ThreadTeam()
        self.read_here = read_here
        self._backend = xp.backend_of(buffer)
        self._buffer = buffer
        self._on_device: dict[str, Array] = {}
        flat = layout.flat(buffer)
        # of chunks that are other workers' there is nothing
        self.regions = [
            flat[c.section][c.start : c.stop] if c.section in flat else np.empty(0, c.dtype) for c in chunks
        ]
        nothing = {t.section: xp.namespace(buffer).empty(0, t.dtype) for t in layout.tensors if not t.size}
        staged = (flat[t.section][t.start : t.stop] if t.size else nothing[t.section] for t in layout.tensors)
        self.slots = [Slot(tensor, place) for tensor, place in zip(layout.tensors, staged, strict=True)]
        self.names: list[list[str]] = [[] for _ in chunks]
        """The tensors that have a part in each chunk, in order."""
        self._by_name = {slot.name: slot for slot in self.slots}
        self._views = {slot.name: slot.view for slot in self.slots}
        for section in flat:
            self._map(
                [
                    (t, slot)
                    for t, slot in zip(layout.tensors, self.slots, strict=True)
                    if t.section == section and t.size
                ],
                [chunk for chunk in chunks if chunk.section == section],
            )

    def chunks_of(self, name: str) -> list[int]:
        """Return the chunks in which a tensor has a part."""
        return self._by_name[name].chunks

    def holds(self, array: Array) -> bool:
        """Whether an array lies in the staging memory, where another gradient may be about to be put."""
        if xp.is_host(array) and xp.is_host(self._buffer):
            return bool(np.may_share_memory(array, self._buffer))
        return any(array is slot.view for slot in self.slots)

    def holds_all(self, grads: Mapping[str, Any]) -> bool:
        """Whether gradients are these very arrays, of all tensors and no other: with a thousand it is soon said."""
        return len(grads) == len(self.slots) and all(map(is_, map(grads.get, self._views), self._views.values()))

    def arrays(self, device: xp.Device) -> dict[str, Array]:
        """Return an array for each tensor on the device: the staging memory itself, if it is there."""
        if device.backend is self._backend:
            return dict(self._views)
        if not self._on_device:
            self._on_device = {slot.name: device.array(np.zeros(slot.shape, slot.dtype)) for slot in self.slots}
        return dict(self._on_device)

    def _map(self, tensors: list[tuple[Tensor, Slot]], chunks: list[Chunk]) -> None:
        """Walk along one section's tensors and chunks, both in order, and note where they overlap."""
        at = 0
        for tensor, slot in tensors:
            while chunks[at].stop <= tensor.start:
                at += 1
            reach = at
            while reach < len(chunks) and chunks[reach].start < tensor.stop:
                chunk = chunks[reach]
                slot.chunks.append(chunk.index)
                self.names[chunk.index].append(slot.name)
                lo, hi = max(chunk.start, tensor.start) - tensor.start, min(chunk.stop, tensor.stop) - tensor.start
                if hi - lo == chunk.size:
                    slot.direct.append((chunk.index, lo, hi))
                else:
                    slot.edges.append((lo, hi))
                reach += 1


class Gradients:
    """One step's gradients as flat vectors, one for each chunk, on the staging memory's side."""

    __slots__ = ("_absent", "_staging", "regions")

    def __init__(self, regions: list[Array], staging: Staging, missing: frozenset[str] = frozenset()) -> None:
        self.regions = regions
        self._staging = staging
        self._absent = missing

    @property
    def missing(self) -> frozenset[str]:
        """The names of the tensors without a gradient."""
        return self._absent

    def leave_out(self, slots: Iterable[Slot]) -> None:
        """Have zeros for the gradients of these tensors, and remember that there are none."""
        for slot in slots:
            slot.staged[...] = 0
            self._absent |= {slot.name}

    def absent(self, chunk: int) -> tuple[int, ...]:
        """Return the tensors without a gradient, by their number among those that have a part in a chunk."""
        if not self._absent:
            return ()
        return tuple(number for number, name in enumerate(self._staging.names[chunk]) if name in self._absent)

    def lacks(self, chunk: int) -> bool:
        """Whether there is no gradient for any of a chunk's tensors."""
        return bool(self._absent) and self._absent.issuperset(self._staging.names[chunk])

    def chunk(self, chunk: Chunk) -> Array:
        """Return the chunk's gradient, 1-D and contiguous."""
        return self.regions[chunk.index]

    def keep(self, chunks: Iterable[int] | None = None) -> None:
        """Move what still lies in the script's arrays into staging memory, where they may be changed then."""
        staged = self._staging.regions
        for index in range(len(staged)) if chunks is None else chunks:
            if self.regions[index] is not staged[index]:
                np.copyto(staged[index], self.regions[index])
                self.regions[index] = staged[index]

    def _keep_usable(self) -> bool:
        """Do as ``keep``, and return whether all is usable; what is not may end it."""
        staged = self._staging.regions

        def look(index: int, lo: int, hi: int) -> bool:
            home, region = staged[index], self.regions[index]
            return within_limit(home[lo:hi]) if region is home else copy_within(home[lo:hi], region[lo:hi])

        if not usable(self.regions, look, self._staging.team):
            return False
        self.regions[:] = staged
        return True

    def norm_squared(self) -> float:
        """Return the squared L2 norm over all tensors, in float64, added up as the servers' chunks are."""
        return sum(square_sum(region) for region in self.regions)

    def first_bad(self) -> str:
        """Return what is wrong with the first tensor with NaN, Inf or an element beyond the limit, or nothing."""
        if self._keep_usable() if self._staging.read_here else all_usable(self.regions, self._staging.team):
            return ""
        self.keep()
        return next(filter(None, map(bad_element, self._staging.slots)), "")


def usable(vectors: list[HostArray], look: Callable[[int, int, int], bool], team: ThreadTeam) -> bool:
    """Whether ``look`` finds all elements, from one number to another, of each of some vectors on the host usable.

    The last are looked at first, so that the first ones, which go first, are in the cache when they are read next; none
    after one that is not usable.
    """
    if len(vectors) == 1 and vectors[0].nbytes <= LOOK_BYTES:
        return look(0, 0, vectors[0].size)
    parts = [
        (index, lo, min(lo + most, vector.size))
        for index, vector in enumerate(vectors)
        for most in (LOOK_BYTES // vector.itemsize,)
        for lo in range(0, max(1, vector.size), most)
    ]
    bad, last = list[bool](), len(parts) - 1

    def work(lo: int, hi: int) -> None:
        if not (bad or all(look(*parts[last - number]) for number in range(lo, hi))):
            bad.append(True)

    team.share(work, len(parts), 1, sum(vector.nbytes for vector in vectors))
    return not bad


def all_usable(vectors: list[Array], team: ThreadTeam) -> bool:
    """Whether no vector holds NaN, Inf or an element beyond the limit. From a device one scalar crosses for all."""
    if not vectors or xp.is_host(vectors[0]):
        return usable(vectors, lambda index, lo, hi: within_limit(vectors[index][lo:hi]), team)
    return all_within(vectors)


def bad_element(slot: Slot) -> str:
    """Return what is wrong with a tensor's staged gradient, or nothing."""
    fine = elements_within(slot.staged)
    if fine.all():
        return ""
    at = int(fine.argmin())
    where = tuple(int(i) for i in np.unravel_index(at, slot.shape)) if slot.shape else ()
    value = float(slot.staged[at])
    found = f"gradient of {slot.name!r} is {value} at {where}"
    if not math.isfinite(value):
        return found
    return f"{found}, beyond the limit of {limit_of(slot.dtype):.2g}: its square would overflow {slot.dtype}"


def match(grads: Mapping[str, Any], staging: Staging, *, partial: bool = False) -> Gradients:
    """Return the gradients a script handed in, on the staging memory's side. Raises GradientError naming the tensor.

    Every tensor of the layout has to be there, with its shape and dtype; arrays may be NumPy, CuPy or DLPack. With
    ``partial`` some may be missing, or None.
    """
    if not isinstance(grads, Mapping):
        raise GradientError(f"gradients are a dict with an array for each tensor, not {type(grads).__name__}")
    regions = list(staging.regions)
    if staging.holds_all(grads):
        return Gradients(regions, staging)
    arrays, given, left_out = [], [], []
    for slot in staging.slots:
        if partial and grads.get(slot.name) is None:
            left_out.append(slot)
            continue
        if grads.get(slot.name) is slot.view:
            continue
        if slot.name not in grads:
            refuse_unknown(grads, staging)
            raise GradientError(f"no gradient for tensor {slot.name!r}; {NO_GRADIENT}")
        array = array_of(slot.name, grads[slot.name])
        arrays.append(array if array is slot.view or not staging.holds(array) else xp.namespace(array).array(array))
        given.append(slot)
    for slot, array in zip(given, arrays, strict=True):
        place(array, slot, regions, staging.weights)
    if len(grads) != len(staging.slots) or left_out:
        refuse_unknown(grads, staging)
    gradients = Gradients(regions, staging)
    gradients.leave_out(left_out)
    return gradients


def array_of(name: str, value: Any) -> Array:
    """Return a gradient as an array of ours. Raises GradientError naming it when it cannot be one."""
    try:
        return plain(value)
    except UsageError as error:
        hint = f"; {NO_GRADIENT}" if value is None else ""
        raise GradientError(f"gradient of {name!r} {error}{hint}") from error.__cause__


def place(array: Array, slot: Slot, regions: list[Array], weights: HostArray) -> None:
    """Check one gradient, and put it where its chunks are read."""
    if array.shape != slot.shape:
        raise GradientError(f"gradient of {slot.name!r} has shape {tuple(array.shape)}, expected {slot.shape}")
    if array.dtype != slot.dtype:
        hint = CONVERT.replace("float32", slot.dtype.name).replace(".float()", f".to(torch.{slot.dtype.name})")
        raise GradientError(f"gradient of {slot.name!r} has dtype {array.dtype}, expected {slot.dtype}: {hint}")
    if array is slot.view:
        return
    if not (xp.is_host(array) and xp.is_host(slot.view)):
        xp.copy(array, slot.view)
        return
    if not slot.direct:
        np.copyto(slot.view, array)
        return
    if not array.flags.c_contiguous or np.may_share_memory(array, weights):
        np.copyto(slot.view, array)
        return
    vector = array.reshape(-1)
    for lo, hi in slot.edges:
        np.copyto(slot.staged[lo:hi], vector[lo:hi])
    for index, lo, hi in slot.direct:
        regions[index] = vector[lo:hi]


def refuse_unknown(grads: Mapping[str, Any], staging: Staging) -> None:
    """Raise GradientError for the first name that is no tensor's."""
    known = {slot.name for slot in staging.slots}
    for name in grads:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise GradientError(f"gradient for an unknown tensor {name!r}{hint}")

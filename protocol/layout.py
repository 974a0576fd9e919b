"""Layout: named tensors laid out in one flat buffer, and the cut of that buffer into chunks with owners.

The buffer holds one section for each kind, dtype and group that occurs (float32 and float64 models have one section
each), tensors in the order of the dict they came in. A chunk is a range of one section, so that all of it is updated
with the same numbers; chunks are numbered in buffer order, so that a low number belongs to the first layers. Nothing
here moves data.
"""

from __future__ import annotations

import hashlib
import math
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np

from ps.config.cut import chunk_bytes_of
from ps.dataclass import dataclass
from ps.errors import BadMessage, LayoutMismatch, UsageError
from ps.half import HALVES
from ps.protocol.messages import Packed
from ps.protocol.ranges import MOST_CHUNKS, MOST_NAME, MOST_TENSORS
from ps.xp import Array

if TYPE_CHECKING:
    from ps.config.job import JobConfig

DTYPES = ("float32", "float64")
KINDS: dict[str, tuple[str, ...]] = {
    "trainable": (*DTYPES, *HALVES),
    "buffer": DTYPES,
    "counter": ("int64",),
    "control": DTYPES,
}
"""What a tensor is, with the dtypes it may have: ``trainable`` by gradients; a ``buffer`` that scripts change
themselves (batch-norm statistics); a whole number that is counted up; or a ``control`` variate of SCAFFOLD."""
GROUPED = ("trainable", "control")
"""The kinds of which a group of tensors has sections of its own."""
PLACES = {(dtype, kind): i for i, (dtype, kind) in enumerate((d, k) for k, dtypes in KINDS.items() for d in dtypes)}
"""The order of a buffer's sections. Those of groups follow the one of the same kind and dtype without."""
ALIGN = 64
MAX_BYTES = 1 << 40
MAX_TENSORS = MOST_TENSORS
MAX_NAME = MOST_NAME
MAX_DIMENSIONS = 32
MAX_CHUNKS = MOST_CHUNKS
MAX_SECTIONS = 1000
FINE = 200
"""A server's share of a section is cut at multiples of ``ALIGN`` when it has at least this many of them."""


_NONE: Mapping[str, str] = types.MappingProxyType({})


def section_of(dtype: str, kind: str, group: str = "") -> str:
    """Return the name of the section for tensors of a dtype, kind and group: ``float32``, ``float32/buffer``."""
    if group:
        return f"{dtype}/{kind}/{group}"
    return dtype if kind == "trainable" else f"{dtype}/{kind}"


def parts_of(section: str) -> tuple[str, str, str]:
    """Return the dtype, kind and group of a section by its name."""
    dtype, _, rest = section.partition("/")
    kind, _, group = rest.partition("/")
    return dtype, kind or "trainable", group


def dtype_of(section: str) -> np.dtype[Any]:
    """Return the dtype of a section's elements."""
    return np.dtype(section.partition("/")[0])


def kind_of(section: str) -> str:
    """Return what a section's tensors are."""
    return parts_of(section)[1]


def group_of(section: str) -> str:
    """Return the group of a section's tensors; "" for none."""
    return parts_of(section)[2]


def control_of(section: str) -> str:
    """Return the name of the section that holds the control variates of a trainable one."""
    dtype, _, group = parts_of(section)
    return section_of(dtype, "control", group)


def _way_out(dtype: str, kind: str) -> str:
    """Return what to do with a tensor whose dtype its kind cannot have."""
    *others, last = KINDS[kind]
    allowed = f"{', '.join(others)} and {last}" if others else last
    if kind != "trainable":
        return f"{allowed} for a {kind}"
    if "float" in dtype:
        return f"{allowed} can be trained: give such a copy (x.astype('float32')), and convert it where you compute"
    return f"{allowed} can be trained: convert it, or name it in kinds, as a counter (int64) if it counts"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One named tensor: ``start`` is its first element's index in its section; ``group`` see ``ps.optim.group``."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    kind: str = "trainable"
    group: str = ""

    @property
    def section(self) -> str:
        """The section it lies in."""
        return section_of(self.dtype, self.kind, self.group)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def stop(self) -> int:
        """Index behind the last element."""
        return self.start + self.size

    def __str__(self) -> str:
        kind = "" if self.kind == "trainable" else f" ({self.kind})"
        group = f" (group {self.group})" if self.group else ""
        return f"{self.name} {self.dtype}{list(self.shape)}{kind}{group}"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A range of elements of one section; ``offset`` is its first byte in the buffer, ``server`` its owner."""

    index: int
    server: int
    dtype: str
    start: int
    stop: int
    offset: int
    kind: str = "trainable"
    group: str = ""

    @property
    def section(self) -> str:
        """The section it is a part of."""
        return section_of(self.dtype, self.kind, self.group)

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.stop - self.start

    @property
    def nbytes(self) -> int:
        """Number of bytes."""
        return self.size * int(self.dtype[-2:]) // 8

    @property
    def region(self) -> tuple[int, int]:
        """First byte and byte behind the last in the buffer."""
        return self.offset, self.offset + self.nbytes

    @property
    def compressible(self) -> bool:
        """Whether its deltas go through the job's codec: only what is trained does.

        Control variates are to be the mean of the clients' own, exactly; buffers are small, and counters whole numbers.
        """
        return self.kind == "trainable"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each tensor lies. Two workers may train together only if their layouts are equal."""

    tensors: tuple[Tensor, ...]

    @staticmethod
    def of(params: Mapping[str, Any], kinds: Mapping[str, str] = _NONE, groups: Mapping[str, str] = _NONE) -> Layout:
        """Return the layout of a dict of arrays; ``kinds`` names those that are not trainable, ``groups`` by tensor.

        Raises UsageError for what cannot be.
        """
        packed = []
        for name, value in params.items():
            if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
                raise UsageError(f"tensor name {name!r}: 1 to {MAX_NAME} characters are possible")
            kind = kinds.get(name, "trainable")
            if str(value.dtype) not in KINDS[kind]:
                raise UsageError(f"tensor {name!r} has dtype {value.dtype}; {_way_out(str(value.dtype), kind)}")
            group = groups.get(name, "") if kind == "trainable" else ""
            packed.append((name, section_of(str(value.dtype), kind, group), tuple(value.shape)))
        try:
            return Layout.unpack(tuple(packed))
        except BadMessage as error:
            raise UsageError(str(error)) from None

    @staticmethod
    def unpack(packed: Packed) -> Layout:
        """Return the layout that ``pack`` wrote. Raises BadMessage when it is not one."""
        if not 0 < len(packed) <= MAX_TENSORS:
            raise BadMessage(f"a model has 1 to {MAX_TENSORS} tensors, not {len(packed)}")
        ends: dict[str, int] = {}
        tensors = []
        for name, section, shape in packed:
            if len(shape) > MAX_DIMENSIONS:
                many = f"{len(shape)} dimensions; at most {MAX_DIMENSIONS} are possible"
                raise BadMessage(f"tensor {name[:MAX_NAME]!r} has {many}")
            dtype, kind, group = parts_of(section)
            known = (dtype, kind) in PLACES and section == section_of(dtype, kind, group)
            if (
                not known
                or (group and kind not in GROUPED)
                or not 0 < len(name) <= MAX_NAME
                or any(n < 0 for n in shape)
            ):
                raise BadMessage(f"tensor {name[:MAX_NAME]!r}: dtype {section[:20]!r}, shape {shape[:8]}")
            tensors.append(Tensor(name, dtype, tuple(shape), ends.get(section, 0), kind, group))
            ends[section] = tensors[-1].stop
            if ends[section] > MAX_BYTES // 8:
                raise BadMessage(f"the model is larger than {MAX_BYTES} bytes")
        if len(ends) > MAX_SECTIONS:
            raise BadMessage(f"the model has tensors of {len(ends)} groups and dtypes; the limit is {MAX_SECTIONS}")
        if len({tensor.name for tensor in tensors}) != len(tensors):
            raise BadMessage("two tensors have the same name")
        if not any(ends.values()):
            raise BadMessage("the model has no elements")
        return Layout(tuple(tensors))

    def pack(self) -> Packed:
        """Return the layout as it travels."""
        return tuple((t.name, t.section, t.shape) for t in self.tensors)

    def of_kind(self, *kinds: str) -> Layout:
        """Return the layout of the tensors of these kinds alone."""
        return Layout(tuple(tensor for tensor in self.tensors if tensor.kind in kinds))

    def with_controls(self) -> Layout:
        """Return this layout with a control variate, named ``control/NAME``, for each trainable tensor."""
        trainable = self.of_kind("trainable").tensors
        extra = tuple((f"control/{t.name}"[:MAX_NAME], control_of(t.section), t.shape) for t in trainable)
        return Layout.unpack(self.pack() + extra)

    def digest(self) -> str:
        """Return a hash that is equal for equal layouts."""
        return hashlib.sha256(msgpack.packb(self.pack())).hexdigest()[:16]

    def sections(self) -> dict[str, tuple[int, int]]:
        """Return for each section that occurs: (first byte in the buffer, number of elements)."""
        sizes: dict[str, int] = {}
        places: dict[str, tuple[int, bool]] = {}
        for tensor in self.tensors:
            section = tensor.section
            if section not in sizes:
                sizes[section], places[section] = 0, (PLACES[tensor.dtype, tensor.kind], bool(tensor.group))
            sizes[section] += tensor.size
        found, offset = {}, 0
        for section in sorted(sizes, key=places.__getitem__):  # groups in the order in which they come
            if size := sizes[section]:
                found[section] = (offset, size)
                offset += -(-size * dtype_of(section).itemsize // ALIGN) * ALIGN
        return found

    @property
    def nbytes(self) -> int:
        """Bytes of the buffer."""
        return sum(-(-n * dtype_of(key).itemsize // ALIGN) * ALIGN for key, (_, n) in self.sections().items())

    def flat(self, buffer: Array) -> dict[str, Array]:
        """Return each section of a buffer (uint8, ``nbytes`` long, of any array library) as one flat vector."""
        return {
            section: buffer[offset : offset + size * dtype_of(section).itemsize].view(dtype_of(section))
            for section, (offset, size) in self.sections().items()
        }

    def views(self, flat: Mapping[str, Any]) -> dict[str, Any]:
        """Return every tensor by name as a view of the flat vectors (of any array library)."""
        empty = {t.section: np.empty(0, t.dtype) for t in self.tensors if t.section not in flat}
        vectors = {**empty, **flat}
        return {t.name: vectors[t.section][t.start : t.stop].reshape(t.shape) for t in self.tensors}

    def chunks(self, servers: int, chunk_size: int, cut_for: int | None = None) -> tuple[Chunk, ...]:
        """Cut the buffer into chunks of at most ``chunk_size`` bytes and give each an owner.

        ``cut_for``: cut it as for so many servers, and deal the chunks out to those that there are.

        Every section is cut into parts whose number is the smallest multiple of ``servers`` that keeps them small
        enough, and they are dealt out in turn. Parts are whole units of 64 bytes (single elements, where a
        server's share is small); what does not divide is one more unit for the first parts. So each server owns
        the same share of every section to within two units (under 1 %) or one element, the first layers are spread
        over all servers, and everyone who knows the layout computes the same map. Raises BadMessage when there
        would be too many chunks.
        """
        if servers < 1 or chunk_size < ALIGN:
            raise BadMessage(f"{servers} servers and chunks of {chunk_size} bytes; at least 1 and {ALIGN} are possible")
        cut: list[Chunk] = []
        dealt, cut_for = 0, cut_for or servers
        for section, (offset, size) in self.sections().items():
            dtype, kind, group = parts_of(section)
            itemsize = np.dtype(dtype).itemsize
            unit = ALIGN // itemsize if size * itemsize >= cut_for * FINE * ALIGN else 1
            units = -(-size // unit)
            parts = cut_for * -(-units // (chunk_size // (unit * itemsize) * cut_for))
            if (many := len(cut) + parts) > MAX_CHUNKS:
                raise BadMessage(f"{many} chunks of {chunk_size} bytes; the limit is {MAX_CHUNKS}. Use larger chunks")
            share, more = divmod(units, parts)
            for part in range(min(parts, units)):
                start = (part * share + min(part, more)) * unit
                stop = min(size, ((part + 1) * share + min(part + 1, more)) * unit)
                place = offset + start * itemsize
                cut.append(Chunk(len(cut), dealt % servers, dtype, start, stop, place, kind, group))
                dealt += 1
        return tuple(cut)

    def cut(self, job: JobConfig) -> tuple[Chunk, ...]:
        """Cut the buffer into the chunks of a job, as ``chunks`` does."""
        return self.chunks(job.servers, chunk_bytes_of(job, self.nbytes), job.cut_for)

    def whole(self) -> tuple[Chunk, ...]:
        """Return every section as one chunk, of nobody in particular."""
        cut: list[Chunk] = []
        for section, (offset, size) in self.sections().items():
            dtype, kind, group = parts_of(section)
            cut.append(Chunk(len(cut), 0, dtype, 0, size, offset, kind, group))
        return tuple(cut)

    def parts_in(self, chunk: Chunk) -> tuple[Tensor, ...]:
        """Return the tensors that have a part in a chunk, in order."""
        section, start, stop = chunk.section, chunk.start, chunk.stop
        return tuple(t for t in self.tensors if t.section == section and t.size and t.start < stop and start < t.stop)

    def spans(self, chunk: Chunk) -> tuple[tuple[int, int], ...]:
        """Return where each tensor's part of a chunk lies in it, in order: (first element, last element + 1)."""
        return tuple(
            (max(t.start, chunk.start) - chunk.start, min(t.stop, chunk.stop) - chunk.start)
            for t in self.parts_in(chunk)
        )

    def demand_equal(self, other: Layout, mine: str, theirs: str) -> None:
        """Raise LayoutMismatch naming the first tensor in which the two differ."""
        for a, b in zip(self.tensors, other.tensors, strict=False):
            if a != b:
                why = "they train different models"
                if set(self.pack()) == set(other.pack()):
                    why = "they have the same tensors in another order, which counts with --overlap"
                raise LayoutMismatch(f"{mine} has {a} where {theirs} has {b}: {why}")
        if len(self.tensors) != len(other.tensors):
            longer, owner = (self, mine) if len(self.tensors) > len(other.tensors) else (other, theirs)
            extra = longer.tensors[min(len(self.tensors), len(other.tensors))]
            raise LayoutMismatch(f"only {owner} has {extra}: they train different models")

"""TreePacker: trees of arrays as they travel: what they are, in plain values, and their arrays' bytes one after the
other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from ps.dataclass import dataclass
from ps.errors import BadMessage, UsageError
from ps.half import HALVES
from ps.pipeline.arrays import ArrayKind, shown
from ps.worker.pipeline.activation_compression import WIDE, ActivationCompression, TransferEncoder
from ps.xp import HostArray

ALIGN = 64
"""Bytes at a multiple of which each array begins."""
DEEPEST = 4
"""Levels of a tree, at most."""
MOST_BYTES = 1 << 40
DTYPES = {
    name: np.dtype(name)
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64"),
        *("complex64", "complex128", *HALVES),
    )
}
"""Of what arrays have that travel."""
TREE = "tree"
"""The key of what a tree is."""
ARRAY, FRAME, DICT, LIST, TUPLE, VALUE = "a", "f", "d", "l", "t", "v"


def new(nbytes: int) -> HostArray:
    """Return memory of this process."""
    return np.empty(nbytes, np.uint8)


@dataclass(frozen=True, slots=True)
class _Leaf:
    """An array as a tree describes it; ``is_frame``: it is encoded."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_frame: bool

    def nbytes(self, compression: ActivationCompression | None) -> int:
        size = math.prod(self.shape)
        return compression.nbytes(size, self.dtype) if compression and self.is_frame else size * self.dtype.itemsize


class TreePacker:
    """Packs trees of one kind of arrays, and unpacks them; both ends of a line have the same ``compression``."""

    def __init__(self, arrays: ArrayKind, compression: ActivationCompression | None = None) -> None:
        self._arrays = arrays
        self.compression = compression

    def pack(
        self, tree: Any, room: Callable[[int], HostArray] = new, encoder: TransferEncoder | None = None
    ) -> tuple[dict[str, Any], HostArray]:
        """Return what a tree is, and its arrays' bytes, which are a copy in the memory that ``room`` returns for so
        many. Raises UsageError for what cannot travel."""
        found: list[HostArray] = []
        node = self._packed(tree, encoder, found, 0)
        leaves = list(_described(node, 0, self.compression))
        memory = room(self._size(leaves))
        for array, leaf, place in zip(found, leaves, self._places(leaves, memory), strict=True):
            if leaf.is_frame and encoder is not None:
                encoder.write(array, place)
            else:
                np.copyto(place.view(leaf.dtype).reshape(leaf.shape), array)
        return {TREE: node}, memory

    def size_of(self, what: Mapping[str, Any]) -> int:
        """Return how many bytes the arrays of a tree have. Raises BadMessage for what is no tree."""
        size = self._size(_described(what.get(TREE), 0, self.compression))
        if size > MOST_BYTES:
            raise BadMessage(f"a tree of {size} bytes; the limit is {MOST_BYTES}")
        return size

    def unpack(self, what: Mapping[str, Any], memory: HostArray) -> Any:
        """Return a tree whose arrays lie in ``memory``, which is theirs from now on, or have their own: whoever has
        them may change them. Raises BadMessage for what could not have been encoded."""
        leaves = list(_described(what.get(TREE), 0, self.compression))
        pairs = zip(leaves, self._places(leaves, memory), strict=True)
        return self._unpacked(what[TREE], iter([self._read(leaf, place) for leaf, place in pairs]))

    def _size(self, leaves: Iterable[_Leaf]) -> int:
        return sum(_room(leaf.nbytes(self.compression)) for leaf in leaves)

    def _places(self, leaves: list[_Leaf], memory: HostArray) -> list[HostArray]:
        found, at = [], 0
        for leaf in leaves:
            nbytes = leaf.nbytes(self.compression)
            found.append(memory[at : at + nbytes])
            at += _room(nbytes)
        return found

    def _read(self, leaf: _Leaf, place: HostArray) -> HostArray:
        if leaf.is_frame and self.compression is not None:
            place = self.compression.read(place, math.prod(leaf.shape), leaf.dtype)
        return place.view(leaf.dtype).reshape(leaf.shape)

    def _packed(
        self, tree: Any, encoder: TransferEncoder | None, found: list[HostArray], depth: int
    ) -> tuple[Any, ...]:
        if isinstance(tree, self._arrays.types):
            array = self._arrays.to_host(tree)
            if array.dtype.name not in DTYPES:
                raise UsageError(f"{shown(array)} cannot go from stage to stage: numbers can, not {array.dtype}")
            found.append(array)
            kind = FRAME if encoder is not None and encoder.takes(array) else ARRAY
            return kind, array.dtype.name, tuple(array.shape)
        if tree is None or isinstance(tree, bool | int | float | str):
            return VALUE, tree
        if isinstance(tree, np.generic):
            return VALUE, tree.item()
        if depth >= DEEPEST:
            raise UsageError(f"a tree of more than {DEEPEST} levels cannot go from stage to stage: {shown(tree)}")
        if isinstance(tree, Mapping) and all(isinstance(key, str | int) for key in tree):
            return DICT, tuple((key, self._packed(value, encoder, found, depth + 1)) for key, value in tree.items())
        if type(tree) in (list, tuple):
            kind = LIST if isinstance(tree, list) else TUPLE
            return kind, tuple(self._packed(value, encoder, found, depth + 1) for value in tree)
        raise UsageError(
            f"a {type(tree).__name__} cannot go from stage to stage: arrays, numbers, texts and None can, and dicts, "
            f"lists and tuples of them"
        )

    def _unpacked(self, node: Any, found: Iterator[HostArray]) -> Any:
        kind = node[0]
        if kind in (ARRAY, FRAME):
            return self._arrays.from_host(next(found))
        if kind == VALUE:
            return node[1]
        if kind == DICT:
            return {key: self._unpacked(value, found) for key, value in node[1]}
        values = [self._unpacked(value, found) for value in node[1]]
        return values if kind == LIST else tuple(values)


def _room(nbytes: int) -> int:
    return -(-nbytes // ALIGN) * ALIGN


def _described(node: Any, depth: int, compression: ActivationCompression | None) -> Iterator[_Leaf]:
    """Yield each array, in order. Raises BadMessage."""
    match node:
        case ("a" | "f", str(name), tuple(shape)) if name in DTYPES and all(type(n) is int and n >= 0 for n in shape):
            is_frame = node[0] == FRAME
            if is_frame and (compression is None or DTYPES[name] not in WIDE or 0 in shape):
                raise BadMessage(f"{name}{list(shape)}, compressed: this job compresses no such thing")
            yield _Leaf(DTYPES[name], shape, is_frame)
        case ("d", tuple(items)) if depth < DEEPEST and all(type(item) is tuple and len(item) == 2 for item in items):
            for _, value in items:
                yield from _described(value, depth + 1, compression)
        case ("l" | "t", tuple(items)) if depth < DEEPEST:
            for value in items:
                yield from _described(value, depth + 1, compression)
        case ("v", None | bool() | int() | float() | str()):
            return
        case _:
            raise BadMessage("this is no tree of arrays")

"""Trees of arrays as they travel: what they are, in plain values, and the bytes of their arrays one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ps.errors import BadMessage, UsageError
from ps.half import HALVES
from ps.pipeline.arrays import ArrayKind, shown
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
ARRAY, DICT, LIST, TUPLE, VALUE = "a", "d", "l", "t", "v"


def new(nbytes: int) -> HostArray:
    """Return memory of this process."""
    return np.empty(nbytes, np.uint8)


def pack(tree: Any, arrays: ArrayKind, room: Callable[[int], HostArray] = new) -> tuple[dict[str, Any], HostArray]:
    """Return what a tree is, and its arrays' bytes, which are a copy in the memory that ``room`` returns for so many.

    Raises UsageError for what cannot travel.
    """
    found: list[HostArray] = []
    what = {TREE: _packed(tree, arrays, found, 0)}
    memory = room(sum(_room(array.nbytes) for array in found))
    for array, place in zip(found, _places([(a.dtype, a.shape) for a in found], memory), strict=True):
        np.copyto(place, array)
    return what, memory


def size_of(what: Mapping[str, Any]) -> int:
    """Return how many bytes the arrays of a tree have. Raises BadMessage for what is no tree."""
    size = sum(_room(math.prod(shape) * dtype.itemsize) for dtype, shape in _described(what.get(TREE), 0))
    if size > MOST_BYTES:
        raise BadMessage(f"a tree of {size} bytes; the limit is {MOST_BYTES}")
    return size


def unpack(what: Mapping[str, Any], memory: HostArray, arrays: ArrayKind) -> Any:
    """Return a tree whose arrays lie in ``memory``, which is theirs from now on: whoever has them may change them."""
    places = iter(_places(list(_described(what.get(TREE), 0)), memory))
    return _unpacked(what[TREE], places, arrays)


def _room(nbytes: int) -> int:
    return -(-nbytes // ALIGN) * ALIGN


def _places(kinds: list[tuple[np.dtype[Any], tuple[int, ...]]], memory: HostArray) -> list[HostArray]:
    found, at = [], 0
    for dtype, shape in kinds:
        nbytes = math.prod(shape) * dtype.itemsize
        found.append(memory[at : at + nbytes].view(dtype).reshape(shape))
        at += _room(nbytes)
    return found


def _packed(tree: Any, arrays: ArrayKind, found: list[HostArray], depth: int) -> tuple[Any, ...]:
    if isinstance(tree, arrays.types):
        array = arrays.to_host(tree)
        if array.dtype.name not in DTYPES:
            raise UsageError(f"{shown(array)} cannot go from stage to stage: numbers can, not {array.dtype}")
        found.append(array)
        return ARRAY, array.dtype.name, tuple(array.shape)
    if tree is None or isinstance(tree, bool | int | float | str):
        return VALUE, tree
    if isinstance(tree, np.generic):
        return VALUE, tree.item()
    if depth >= DEEPEST:
        raise UsageError(f"a tree of more than {DEEPEST} levels cannot go from stage to stage: {shown(tree)}")
    if isinstance(tree, Mapping) and all(isinstance(key, str | int) for key in tree):
        return DICT, tuple((key, _packed(value, arrays, found, depth + 1)) for key, value in tree.items())
    if type(tree) in (list, tuple):
        kind = LIST if isinstance(tree, list) else TUPLE
        return kind, tuple(_packed(value, arrays, found, depth + 1) for value in tree)
    raise UsageError(
        f"a {type(tree).__name__} cannot go from stage to stage: arrays, numbers, texts and None can, and dicts, lists "
        f"and tuples of them"
    )


def _described(node: Any, depth: int) -> Iterator[tuple[np.dtype[Any], tuple[int, ...]]]:
    """Yield dtype and shape of each array, in order. Raises BadMessage."""
    match node:
        case ("a", str(name), tuple(shape)) if name in DTYPES and all(type(n) is int and n >= 0 for n in shape):
            yield DTYPES[name], shape
        case ("d", tuple(items)) if depth < DEEPEST and all(type(item) is tuple and len(item) == 2 for item in items):
            for _, value in items:
                yield from _described(value, depth + 1)
        case ("l" | "t", tuple(items)) if depth < DEEPEST:
            for value in items:
                yield from _described(value, depth + 1)
        case ("v", None | bool() | int() | float() | str()):
            return
        case _:
            raise BadMessage("this is no tree of arrays")


def _unpacked(node: Any, places: Iterator[HostArray], arrays: ArrayKind) -> Any:
    kind = node[0]
    if kind == ARRAY:
        return arrays.from_host(next(places))
    if kind == VALUE:
        return node[1]
    if kind == DICT:
        return {key: _unpacked(value, places, arrays) for key, value in node[1]}
    values = [_unpacked(value, places, arrays) for value in node[1]]
    return values if kind == LIST else tuple(values)

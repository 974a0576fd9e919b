"""Cutting a batch, a tree of arrays, into micro-batches, and joining them again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from ps.errors import UsageError
from ps.pipeline.arrays import ArrayKind
from ps.sequences import rebuilt

Axis: TypeAlias = Any
"""The axis of the examples: one for all arrays, None for none, or a tree of these like the values."""


def count(values: Any, axis: Axis, kind: ArrayKind, name: str = "x") -> int:
    """Return how many examples a batch has.

    Raises UsageError naming two arrays that disagree, and where no array has an axis of examples.
    """
    found: tuple[str, int] | None = None
    for where, array, at in _arrays(values, axis, kind, name):
        size = _size(array, at, where)
        if found is not None and size != found[1]:
            raise UsageError(
                f"{where} has {size} examples where {found[0]} has {found[1]}: one of them has its examples in another "
                f"axis, or in none and is passed whole. Say so with axis=, which is a number, None, or a tree of these "
                f"like {name}"
            )
        found = found or (where, size)
    if found is None:
        raise UsageError(f"{name} has no array with an axis of examples, so it cannot be cut into micro-batches")
    return found[1]


def demand_number(microbatches: Any) -> int:
    """Return a number of micro-batches. Raises UsageError for what is none."""
    if isinstance(microbatches, bool) or not isinstance(microbatches, int) or microbatches < 1:
        raise UsageError(f"microbatches is how many parts a batch is cut into, at least 1, not {microbatches!r}")
    return microbatches


def sizes(examples: int, microbatches: int) -> list[int]:
    """Return how many examples each micro-batch has: as equally many as can be, the larger ones first.

    Raises UsageError for more micro-batches than examples.
    """
    if demand_number(microbatches) > examples:
        raise UsageError(f"a batch of {examples} examples cannot be cut into {microbatches} micro-batches")
    each, more = divmod(examples, microbatches)
    return [each + (k < more) for k in range(microbatches)]


def cut(values: Any, parts: list[int], axis: Axis, kind: ArrayKind, name: str = "x") -> list[Any]:
    """Return a tree for each micro-batch, whose arrays are views of the batch's; what has no axis is in all of them.

    Raises UsageError for an array that has not as many examples as the ``parts`` together.
    """
    for where, array, at in _arrays(values, axis, kind, name):
        if _size(array, at, where) != sum(parts):
            raise UsageError(
                f"{where} has {_size(array, at, where)} examples in a batch of {sum(parts)}; what has no axis of "
                f"examples, or another one, is declared"
            )
    starts = [sum(parts[:k]) for k in range(len(parts))]
    return [_section(values, axis, kind, lo, lo + size) for lo, size in zip(starts, parts, strict=True)]


def join(parts: list[Any], axis: Axis, kind: ArrayKind) -> Any:
    """Return micro-batches as one again; what has no axis of examples is that of the first."""
    first = parts[0]
    if isinstance(first, kind.types):
        at = None if axis is None or isinstance(axis, Mapping | list | tuple) else axis
        return first if at is None or not first.ndim else kind.join(parts, at)
    if isinstance(first, Mapping):
        return {key: join([part[key] for part in parts], _inner(axis, key), kind) for key in first}
    if isinstance(first, list | tuple):
        at_each = range(len(first))
        return rebuilt(first, [join([part[i] for part in parts], _inner(axis, i), kind) for i in at_each])
    return first


def _inner(axis: Axis, key: Any) -> Axis:
    """Return the axis of a branch's part."""
    if isinstance(axis, Mapping):
        return axis.get(key, 0)
    if isinstance(axis, list | tuple):
        return axis[key] if isinstance(key, int) and key < len(axis) else 0
    return axis


def _arrays(values: Any, axis: Axis, kind: ArrayKind, name: str) -> list[tuple[str, Any, int]]:
    """Return the arrays that have examples: the way there, the array, and the axis."""
    if isinstance(values, kind.types):
        if isinstance(axis, Mapping | list | tuple):
            raise UsageError(f"axis has a {type(axis).__name__} in the place of {name}, which is one array")
        return [] if axis is None or not values.ndim else [(name, values, axis)]
    if isinstance(values, Mapping):
        return [each for key in values for each in _arrays(values[key], _inner(axis, key), kind, f"{name}.{key}")]
    if isinstance(values, list | tuple):
        parts = enumerate(values)
        return [each for key, part in parts for each in _arrays(part, _inner(axis, key), kind, f"{name}.{key}")]
    return []


def _size(array: Any, axis: int, where: str) -> int:
    if not -array.ndim <= axis < array.ndim:
        raise UsageError(f"{where} has {array.ndim} axes, and axis {axis} is declared to be that of the examples")
    return int(array.shape[axis])


def _section(values: Any, axis: Axis, kind: ArrayKind, lo: int, hi: int) -> Any:
    if isinstance(values, kind.types):
        if axis is None or not values.ndim:
            return values
        return values[(slice(None),) * (axis % values.ndim) + (slice(lo, hi),)]
    if isinstance(values, Mapping):
        return {key: _section(values[key], _inner(axis, key), kind, lo, hi) for key in values}
    if isinstance(values, list | tuple):
        return rebuilt(values, [_section(part, _inner(axis, i), kind, lo, hi) for i, part in enumerate(values)])
    return values

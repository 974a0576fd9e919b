"""Schema: what may stand in each field of each message, read from the declarations, so that tests cover all of them.

A message that is added later is covered without a word here.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import random
from collections.abc import Iterator
from typing import Any, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from ps.protocol import messages as m
from ps.protocol.fields import bare, words_of
from ps.protocol.fitting import MOST_LEVELS
from ps.protocol.ranges import AtMost, Within

_LOW, _HIGH = -(1 << 63), (1 << 63) - 1

integers = st.integers(_LOW, _HIGH)
_leaves = st.none() | st.booleans() | integers | st.floats(allow_nan=False) | st.text(max_size=20)
plain_values: st.SearchStrategy[Any] = _leaves
for _ in range(MOST_LEVELS):
    plain_values = (
        _leaves
        | st.lists(plain_values, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=8), plain_values, max_size=4)
    )


@functools.cache
def fields_of(cls: type[m.Message]) -> dict[str, Any]:
    """Return the declared kind of each field."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}  # type: ignore[arg-type]


def leaves(kind: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Yield every part of a field with where it is, down to what has no parts."""
    yield where, kind
    plain, _ = bare(kind)
    if get_origin(plain) is tuple:
        args = get_args(plain)
        for index, inner in enumerate(args[:1] if args[1:] == (Ellipsis,) else args):
            yield from leaves(inner, f"{where}[{index}]")


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Return everything that a field may hold, long enough at times for both ways of reading a header."""
    plain, bound = bare(kind)
    origin, args = get_origin(plain), get_args(plain)
    if words := words_of(plain):
        known = st.sampled_from(sorted(words))
        return known | st.text(max_size=bound.count) if isinstance(bound, AtMost) else known
    if isinstance(bound, Within):
        if plain is int:
            return st.integers(int(bound.low), int(bound.high))
        return st.floats(bound.low, bound.high, allow_nan=False)
    if plain is bool:
        return st.booleans()
    if origin is dict:
        return st.dictionaries(st.text(max_size=100), plain_values, max_size=6)
    if isinstance(bound, AtMost) and origin is tuple:
        return st.lists(values(args[0]), max_size=min(60, bound.count)).map(tuple)
    if isinstance(bound, AtMost):
        return st.text(max_size=min(600, bound.count))
    return st.tuples(*map(values, args))


def any_message() -> st.SearchStrategy[m.Message]:
    """Return any message with anything in it that it may hold."""
    return st.one_of(
        st.builds(cls, **{name: values(kind) for name, kind in fields_of(cls).items()}) for cls in m.TYPES.values()
    )


def ends(kind: Any) -> list[Any]:
    """Return the extremes of what a field may hold: both ends, the values beside them, the empty and the longest."""
    plain, bound = bare(kind)
    origin, args = get_origin(plain), get_args(plain)
    if isinstance(bound, Within):
        some = [bound.low, bound.high, 0, 1, 2, 3, 7, 255, 1 << 31, 1 << 53]
        some += [-1, bound.high - 1] if plain is int else [0.5, 5e-324, 1e-30, 1e30, 1e300]
        inside = [plain(n) for n in some if bound.low <= n <= bound.high and (plain is float or math.isfinite(n))]
        return sorted(set(inside))
    if plain is bool:
        return [False, True]
    if words := words_of(plain):
        return [*sorted(words), *(["", "w" * bound.count] if isinstance(bound, AtMost) else [])]
    if origin is dict:
        return [{}, *_REPORTS, {f"k{i}": i for i in range(200)}, {"t": "x" * 4000}, {"deep": _nested(12)}]
    if isinstance(bound, AtMost) and origin is tuple:
        each = ends(args[0])
        few = [(), tuple(each[:1]), tuple(each[-1:]), tuple(each[: bound.count])]
        many = min(bound.count, 40)
        return [*few, (each[0],) * many, (each[-1],) * many]
    if isinstance(bound, AtMost):
        texts = ["", "a", "x" * bound.count, "é" * bound.count, "\U0001f4a9" * bound.count, "\0\n\x1b[31m", "%s{}"]
        return [text[: bound.count] for text in texts]
    inner = [ends(arg) for arg in args]
    return [tuple(each[0] for each in inner), tuple(each[-1] for each in inner)]


def beyond(kind: Any) -> list[Any]:
    """Return values that a field may not hold: beyond both ends, too long, of another type, no number."""
    plain, bound = bare(kind)
    origin, args = get_origin(plain), get_args(plain)
    odd: list[Any] = [None, b"bytes", 1.5 if plain is int else (1, 2, 3, 4, 5, 6, 7), _nested(40)]
    if isinstance(bound, Within) and plain is int:
        odd += [n for n in (int(bound.low) - 1, int(bound.high) + 1, _LOW, _HIGH, (1 << 64) - 1) if not _in(bound, n)]
        return [*odd, "7", True]
    if isinstance(bound, Within):
        around = (math.nan, math.inf, -math.inf, -1e-300, -1.0, bound.high * 2, bound.high + 1)
        return [*odd, *(n for n in around if not _in(bound, n)), "7", True]
    if plain is bool:
        return [*odd, 0, 1, "true"]
    if words_of(plain):
        return [*odd, 7, *(["w" * (bound.count + 1)] if isinstance(bound, AtMost) else ["party"])]
    if origin is dict:
        return [*odd, 7, "text", {"b": b"bytes"}, {"n": (1 << 64) - 1}, {"deep": _nested(40)}]
    if isinstance(bound, AtMost) and origin is tuple:
        good, bad = ends(args[0])[-1], beyond(args[0])
        return [None, 7, "text", *((good, item) for item in bad), (good,) * (bound.count + 1)]
    if isinstance(bound, AtMost):
        return [*odd, 7, "x" * (bound.count + 1)]
    inner = [ends(arg)[-1] for arg in args]
    rows = [(*inner[:index], bad, *inner[index + 1 :]) for index, arg in enumerate(args) for bad in beyond(arg)]
    return [None, 7, (), (*inner, 1), *rows]


def extreme(cls: type[m.Message], chance: random.Random, **fixed: Any) -> m.Message:
    """Return a message with an extreme in each field that is not ``fixed``."""
    found = {name: chance.choice(some) for name, some in _extremes(cls).items() if name not in fixed}
    return cls(**found, **{name: value for name, value in fixed.items() if name in fields_of(cls)})


@functools.cache
def _extremes(cls: type[m.Message]) -> dict[str, list[Any]]:
    return {name: ends(kind) for name, kind in fields_of(cls).items()}


def _in(bound: Within, value: float) -> bool:
    return bound.low <= value <= bound.high


def _nested(depth: int) -> Any:
    found: Any = 1
    for _ in range(depth):
        found = (found,)
    return found


_NAMES = ("clock", "steps", "samples", "waiting", "waiting_for", "rejected", "metrics", "failure", "terminated", "loss")
_ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 1 << 62, -(1 << 63), 1e308, -1e308, math.inf, math.nan, "x", "x" * 3000),
    *(
        (),
        (1 << 62,) * 300,
        {},
        {"clock": "x", "for": "y", "seconds": ()},
        ({"clock": 1, "for": (1,), "seconds": 2.0},),
    ),
)
_REPORTS: list[dict[str, Any]] = [dict.fromkeys(_NAMES, value) for value in _ODD]

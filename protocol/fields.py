"""Field types of messages: what may stand in a field, and how a long header is read without trusting its sizes.

msgpack makes room for an array as soon as it reads the array's declared length, and once more for each array
inside. So headers that are long are read piece by piece, as their declared types say.
"""

from __future__ import annotations

from collections.abc import Callable
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from ps.errors import BadMessage

MALFORMED = "malformed header"
"""The reason for which such headers are counted."""
MAX_ITEMS = 20_000
"""Elements of an array in a field, at most: a model's tensors, a job's members."""
MAX_NESTED = 64
"""Elements of an array that is itself an element, at most: a tensor's dimensions, a member's addresses."""
MAX_DEPTH = 16
"""Levels of dicts and arrays inside a dict field, at most."""

Check = Callable[[Any], bool]
Read = Callable[[Any, bytes], Any]
"""Takes a ``msgpack.Unpacker`` with ``max_array_len=MAX_NESTED`` and the bytes that it was fed."""

_SCALARS = frozenset((NoneType, bool, int, float, str))
_LOW, _HIGH = -(1 << 63), (1 << 63) - 1


def check_of(kind: Any) -> Check:
    """Return a test for one declared field type. Integers have 64 bits with a sign, and no float is NaN."""
    origin, args = get_origin(kind), get_args(kind)
    if words := words_of(kind):
        return lambda value: type(value) is str and value in words
    if origin is Annotated and words_of(args[0]):  # those that this version knows, and any of others
        return check_of(str)
    if origin is Annotated:  # a number that is not below 0
        plain = check_of(args[0])
        return lambda value: plain(value) and bool(value >= 0)
    if kind is int:
        return _is_int
    if kind is float:
        return lambda value: (type(value) is float and value == value) or _is_int(value)
    if kind in (str, bool):
        return lambda value: type(value) is kind
    if origin is dict:
        return lambda value: type(value) is dict and _is_plain(value, MAX_DEPTH)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        each = check_of(args[0])
        return lambda value: type(value) is tuple and len(value) <= MAX_ITEMS and all(map(each, value))
    if origin is tuple:
        checks = tuple(map(check_of, args))
        return lambda value: (
            type(value) is tuple
            and len(value) == len(checks)
            and all(check(item) for check, item in zip(checks, value, strict=True))
        )
    raise TypeError(f"messages cannot have fields of type {kind}")


def words_of(kind: Any) -> frozenset[str]:
    """Return the words of a type that is a choice of some; nothing for any other type."""
    if get_origin(kind) is Literal:
        return frozenset(get_args(kind))
    if get_origin(kind) in (Union, UnionType):
        return frozenset[str]().union(*map(words_of, get_args(kind)))
    return frozenset()


def reader_of(kind: Any) -> Read:
    """Return how to read one field of a long header: room is made only for what is really there."""
    if get_origin(kind) is dict:
        return lambda unpacker, body: _read_plain(unpacker, body, MAX_DEPTH)
    args = get_args(kind)
    if len(args) == 2 and args[1] is Ellipsis:
        each = check_of(args[0])
        return lambda unpacker, body: _read_items(unpacker, each)
    return lambda unpacker, body: unpacker.unpack()


def _is_int(value: Any) -> bool:
    return type(value) is int and _LOW <= value <= _HIGH


def _is_plain(value: Any, depth: int) -> bool:
    """Whether a value can be shown, stored as JSON and compared: no bytes, no extension types, not too deep."""
    kind = type(value)
    if kind in _SCALARS:
        return True
    if depth == 0:
        return False
    if kind is tuple:
        return all(_is_plain(item, depth - 1) for item in value)
    return kind is dict and all(type(key) is str and _is_plain(item, depth - 1) for key, item in value.items())


def _read_items(unpacker: Any, each: Check) -> tuple[Any, ...]:
    count = unpacker.read_array_header()
    if count > MAX_ITEMS:
        raise BadMessage(f"malformed header: an array of {count} elements; the limit is {MAX_ITEMS}", MALFORMED)
    items = []
    for _ in range(count):
        item = unpacker.unpack()
        if not each(item):
            raise BadMessage(f"malformed header: {type(item).__name__} in an array that holds another kind", MALFORMED)
        items.append(item)
    return tuple(items)


def _read_plain(unpacker: Any, body: bytes, depth: int) -> Any:
    lead = body[unpacker.tell()]
    is_map = 0x80 <= lead <= 0x8F or lead in (0xDE, 0xDF)
    is_array = 0x90 <= lead <= 0x9F or lead in (0xDC, 0xDD)
    if not (is_map or is_array):
        return unpacker.unpack()
    if depth == 0:
        raise BadMessage(f"malformed header: more than {MAX_DEPTH} levels", MALFORMED)
    if is_array:
        return tuple([_read_plain(unpacker, body, depth - 1) for _ in range(unpacker.read_array_header())])
    pairs = range(unpacker.read_map_header())
    return {_read_key(unpacker): _read_plain(unpacker, body, depth - 1) for _ in pairs}


def _read_key(unpacker: Any) -> str:
    key = unpacker.unpack()
    if type(key) is not str:
        raise BadMessage("malformed header: a key that is no text", MALFORMED)
    return key

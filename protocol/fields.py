"""Field types of messages: what may stand in a field, and how a long header is read without trusting its sizes.

msgpack makes room for an array as soon as it reads the array's declared length, and once more for each array
inside. So headers that are long are read piece by piece, as their declared types say.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from ps.errors import BadMessage
from ps.protocol.ranges import AtMost, Within

MALFORMED = "malformed header"
"""The reason for which such headers are counted."""
BEYOND = "out of range"
"""The reason for which values are counted that are of the right type and not in their range."""
MAX_NESTED = 64
"""Elements of an array that is itself an element, at most: a tensor's dimensions, a member's addresses."""
MAX_DEPTH = 16
"""Levels of dicts and arrays inside a dict field, at most."""

Check = Callable[[Any], bool]
Read = Callable[[Any, bytes], Any]
"""Takes a ``msgpack.Unpacker`` with ``max_array_len=MAX_NESTED`` and the bytes that it was fed."""

_SCALARS = frozenset((NoneType, bool, int, float, str))
_LOW, _HIGH = -(1 << 63), (1 << 63) - 1
_BYTES_A_CHARACTER = 4

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 40
_repr.maxtuple = _repr.maxdict = 4
_repr.maxlevel = 3


def bare(kind: Any) -> tuple[Any, Within | AtMost | None]:
    """Return a declared type without its range, and the range."""
    if get_origin(kind) is not Annotated:
        return kind, None
    plain, *notes = get_args(kind)
    found = [note for note in notes if isinstance(note, Within | AtMost)]
    if len(found) != 1:
        raise TypeError(f"{kind} needs one range")
    return plain, found[0]


def check_of(kind: Any) -> Check:
    """Return a test for one declared field type: whether a value is of it, and in its range. TypeError without one."""
    plain, bound = bare(kind)
    origin, args = get_origin(plain), get_args(plain)
    words = words_of(plain)
    if words and bound is None:
        return lambda value: type(value) is str and value in words
    if plain is bool:
        return lambda value: type(value) is bool
    if origin is tuple and args[1:] != (Ellipsis,):
        checks = tuple(map(check_of, args))
        return lambda value: (
            type(value) is tuple
            and len(value) == len(checks)
            and all(check(item) for check, item in zip(checks, value, strict=True))
        )
    if isinstance(bound, Within) and plain in (int, float):
        return _number(plain, bound)
    if isinstance(bound, AtMost) and (plain is str or words):  # words: those that this version knows, and any of others
        most = bound.count
        return lambda value: type(value) is str and len(value) <= most
    if isinstance(bound, AtMost) and origin is dict:
        return lambda value: type(value) is dict and _is_plain(value, MAX_DEPTH)
    if isinstance(bound, AtMost) and origin is tuple:
        most, each = bound.count, check_of(args[0])
        return lambda value: type(value) is tuple and len(value) <= most and all(map(each, value))
    raise TypeError(f"messages cannot have fields of type {kind}, or not without a range")


def _number(plain: type, bound: Within) -> Check:
    low, high = bound.low, bound.high
    if plain is int:
        return lambda value: type(value) is int and low <= value <= high
    return lambda value: (type(value) is float or type(value) is int) and low <= value <= high


def words_of(kind: Any) -> frozenset[str]:
    """Return the words of a type that is a choice of some; nothing for any other type."""
    if get_origin(kind) is Literal:
        return frozenset(get_args(kind))
    if get_origin(kind) in (Union, UnionType):
        return frozenset[str]().union(*map(words_of, get_args(kind)))
    return frozenset()


def room_of(kind: Any) -> int:
    """Return how many bytes of a header a field takes, at most."""
    plain, bound = bare(kind)
    origin, args = get_origin(plain), get_args(plain)
    if isinstance(bound, Within):
        return 9  # a peer may write small numbers in any format
    if plain is bool:
        return 1
    if isinstance(bound, AtMost) and origin is tuple:
        return 5 + bound.count * room_of(args[0])
    if isinstance(bound, AtMost) and origin is dict:
        return bound.count
    if isinstance(bound, AtMost):
        return 5 + _BYTES_A_CHARACTER * bound.count
    if words := words_of(plain):
        return 5 + max(map(len, words))
    return 5 + sum(map(room_of, args))


def fault(kind: Any, value: Any, where: str) -> BadMessage:
    """Return what is wrong with a value that is not what a field holds; ``where`` names the field."""
    plain, bound = bare(kind)
    origin, args = get_origin(plain), get_args(plain)
    if origin is tuple and type(value) is tuple:
        each = args[:1] * len(value) if args[1:] == (Ellipsis,) else args
        few = len(value) == len(each) and (bound is None or len(value) <= _count(bound))
        for index, (inner, item) in enumerate(zip(each, value, strict=True)) if few else ():
            if not check_of(inner)(item):
                return fault(inner, item, f"{where}[{index}]")
    right = {int: (int,), float: (int, float), dict: (dict,)}.get(origin or plain, (tuple if origin is tuple else str,))
    reason = BEYOND if bound is not None and type(value) in right else MALFORMED
    return BadMessage(f"{where}: {shown(value)} is not {words_for(kind)}", reason)


def shown(value: Any) -> str:
    """Return a value that came from a peer as it is quoted: not longer than some words, whatever it is."""
    return _repr.repr(value)


def _count(bound: Within | AtMost) -> int:
    return bound.count if isinstance(bound, AtMost) else 0


def words_for(kind: Any) -> str:
    """Return what a field holds, in words."""
    plain, bound = bare(kind)
    origin, args = get_origin(plain), get_args(plain)
    if isinstance(bound, Within):
        if plain is int:
            return f"a whole number from {bound.low} to {bound.high}"
        return f"a number from {bound.low:g} to {bound.high:g}"
    if plain is bool:
        return "true or false"
    if origin is dict:
        return f"a map of at most {_count(bound) if bound else 0} bytes and {MAX_DEPTH} levels, of plain values"
    if isinstance(bound, AtMost) and origin is tuple:
        return f"a list of at most {bound.count} elements"
    if isinstance(bound, AtMost):
        return f"a text of at most {bound.count} characters"
    if words := words_of(plain):
        return f"one of {', '.join(sorted(words)) or 'none'}"
    return f"a list of {len(args)} elements"


def reader_of(kind: Any) -> Read:
    """Return how to read one field of a long header: room is made only for what is really there."""
    plain, bound = bare(kind)
    if get_origin(plain) is dict:
        return lambda unpacker, body: _read_plain(unpacker, body, MAX_DEPTH)
    args = get_args(plain)
    if isinstance(bound, AtMost) and args[1:] == (Ellipsis,):
        each, inner, most = check_of(args[0]), args[0], bound.count
        return lambda unpacker, body: _read_items(unpacker, each, inner, most)
    return lambda unpacker, body: unpacker.unpack()


def _is_plain(value: Any, depth: int) -> bool:
    """Whether a value can be shown, stored as JSON and compared: no bytes, no extension types, not too deep."""
    kind = type(value)
    if kind is int:
        return bool(_LOW <= value <= _HIGH)
    if kind in _SCALARS:
        return True
    if depth == 0:
        return False
    if kind is tuple:
        return all(_is_plain(item, depth - 1) for item in value)
    return kind is dict and all(type(key) is str and _is_plain(item, depth - 1) for key, item in value.items())


def _read_items(unpacker: Any, each: Check, inner: Any, most: int) -> tuple[Any, ...]:
    count = unpacker.read_array_header()
    if count > most:
        raise BadMessage(f"malformed header: an array of {count} elements; the limit is {most}", MALFORMED)
    items = []
    for index in range(count):
        item = unpacker.unpack()
        if not each(item):
            raise fault(inner, item, f"[{index}]")
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

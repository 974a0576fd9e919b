"""Messages to header bytes and back. A header is four bytes (``P S version type``) and a msgpack array.

Nothing received is trusted: the declared types of the fields are checked, sizes are bounded, and whatever does
not hold together raises BadMessage (or VersionMismatch) and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_args, get_origin, get_type_hints

import msgpack

from ps.errors import BadMessage, VersionMismatch
from ps.protocol import messages
from ps.protocol.messages import TYPES, Message

VERSION = 1
MAGIC = b"PS"
MAX_HEADER = 4 << 20
"""Bytes of a header, at most: a layout of 20,000 tensors fits."""
MAX_FRAME = 64 << 20
"""Bytes of a tensor frame, at most."""

Check = Callable[[Any], bool]


def _checker(kind: Any) -> Check:
    """Return a test for one declared field type."""
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return lambda value: True
    if kind is float:
        return lambda value: type(value) is float or type(value) is int
    if kind in (int, str, bool):
        return lambda value: type(value) is kind
    if origin is dict:
        return lambda value: type(value) is dict and all(type(key) is str for key in value)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        each = _checker(args[0])
        return lambda value: type(value) is tuple and all(map(each, value))
    if origin is tuple:
        checks = tuple(map(_checker, args))
        return lambda value: (
            type(value) is tuple
            and len(value) == len(checks)
            and all(check(item) for check, item in zip(checks, value, strict=True))
        )
    raise TypeError(f"messages cannot have fields of type {kind}")


class _Shape:
    """How one message type is written: its prefix, its fields' names and their checks."""

    __slots__ = ("checks", "make", "names", "prefix")

    def __init__(self, number: int, cls: type[Message]) -> None:
        hints = get_type_hints(cls, vars(messages))
        self.make = cls
        self.prefix = MAGIC + bytes((VERSION, number))
        self.names = tuple(field.name for field in fields(cls))  # type: ignore[arg-type]
        self.checks = tuple(_checker(hints[name]) for name in self.names)


_BY_NUMBER = {number: _Shape(number, cls) for number, cls in TYPES.items()}
_BY_TYPE = {shape.make: shape for shape in _BY_NUMBER.values()}

_declared = {
    value
    for value in vars(messages).values()
    if isinstance(value, type) and issubclass(value, Message) and value is not Message
}
if _declared != set(_BY_TYPE) or len(_BY_TYPE) != len(TYPES):
    raise TypeError(f"messages without a number, or with two: {_declared ^ set(_BY_TYPE)}")

_pack = msgpack.Packer(use_bin_type=True).pack


def encode(message: Message) -> bytes:
    """Return the header bytes of a message."""
    shape = _BY_TYPE[type(message)]
    return shape.prefix + _pack([getattr(message, name) for name in shape.names])  # type: ignore[no-any-return]


def decode(header: bytes) -> Any:
    """Return the message whose header this is.

    Raises VersionMismatch when the peer speaks another version (an Error is read in any version), and
    BadMessage for everything else that is wrong; both texts say what was expected.
    """
    size = len(header)
    if size < 5 or header[:2] != MAGIC:
        raise BadMessage("not a message of this protocol: it does not begin with 'PS'")
    if size > MAX_HEADER:
        raise BadMessage(f"header of {size} bytes; the limit is {MAX_HEADER}")
    version, number = header[2], header[3]
    if version != VERSION and number != 0:
        raise VersionMismatch(f"the peer speaks protocol version {version}, this process version {VERSION}")
    shape = _BY_NUMBER.get(number)
    if shape is None:
        raise BadMessage(f"unknown message type {number}")
    try:
        values = msgpack.unpackb(memoryview(header)[4:], use_list=False, raw=False, strict_map_key=True)
    except Exception as error:  # msgpack raises ValueError, its own types, and UnicodeDecodeError
        raise BadMessage(f"{shape.make.__name__}: malformed msgpack ({type(error).__name__})") from None
    if type(values) is not tuple or len(values) != len(shape.names):
        raise BadMessage(f"{shape.make.__name__}: expected {len(shape.names)} fields")
    for name, check, value in zip(shape.names, shape.checks, values, strict=True):
        if not check(value):
            raise BadMessage(f"{shape.make.__name__}.{name}: {type(value).__name__} is not what it holds")
    return shape.make(*values)


def error_code(error: Exception) -> str:
    """Return the word by which an Error message names a protocol error."""
    return "version" if isinstance(error, VersionMismatch) else "bad-message"

"""Messages to header bytes and back. A header is four bytes (``P S version type``) and a msgpack array.

Nothing received is trusted: the declared types of the fields are checked, sizes are bounded, and whatever does
not hold together raises BadMessage (or VersionMismatch) and nothing else.
"""

from __future__ import annotations

import threading
from dataclasses import fields
from typing import Any, get_type_hints

import msgpack

from ps.errors import BadMessage, VersionMismatch
from ps.protocol import messages
from ps.protocol.fields import MALFORMED, MAX_NESTED, check_of, reader_of
from ps.protocol.messages import TYPES, Message

VERSION = 5
MAGIC = b"PS"
MAX_HEADER = 4 << 20
"""Bytes of the header of a ``large`` message, at most: a layout of 20,000 tensors fits."""
MAX_SMALL_HEADER = 256 << 10
"""Bytes of any other header, at most."""
MAX_FRAME = 64 << 20
"""Bytes of a tensor frame, at most."""
SHORT = 512
"""Bytes of a header that msgpack may read in one go: whatever sizes it declares, they cannot add up to much."""


class _Shape:
    """How one message type is written: its prefix, its fields' names, their checks and readers."""

    __slots__ = ("checks", "limit", "make", "name", "names", "prefix", "readers")

    def __init__(self, number: int, cls: type[Message]) -> None:
        hints = get_type_hints(cls, include_extras=True)
        self.make = cls
        self.name = cls.__name__
        self.limit = MAX_HEADER if cls.large else MAX_SMALL_HEADER
        self.prefix = MAGIC + bytes((VERSION, number))
        self.names = tuple(field.name for field in fields(cls))  # type: ignore[arg-type]
        self.checks = tuple(check_of(hints[name]) for name in self.names)
        self.readers = tuple(reader_of(hints[name]) for name in self.names)


class _ByNumber(dict[int, _Shape]):
    """Shapes by their messages' numbers, each made when it is first asked for: few processes need all of them."""

    def __missing__(self, number: int) -> _Shape:
        shape = self[number] = _Shape(number, TYPES[number])
        return shape


class _ByType(dict[type[Message], _Shape]):
    """The same shapes by their messages' types."""

    def __missing__(self, cls: type[Message]) -> _Shape:
        shape = self[cls] = _BY_NUMBER[_NUMBERS[cls]]
        return shape


_BY_NUMBER = _ByNumber()
_BY_TYPE = _ByType()
_NUMBERS = {cls: number for number, cls in TYPES.items()}

_declared = {
    value
    for value in vars(messages).values()
    if isinstance(value, type) and issubclass(value, Message) and value is not Message
}
if _declared != set(_NUMBERS) or len(_NUMBERS) != len(TYPES):
    raise TypeError(f"messages without a number, or with two: {_declared ^ set(_NUMBERS)}")


class _Packers(threading.local):
    """One packer for each thread: a packer keeps its buffer between calls."""

    def __init__(self) -> None:
        self.pack = msgpack.Packer(use_bin_type=True).pack


_packers = _Packers()


def encode(message: Message) -> bytes:
    """Return the header bytes of a message. Raises BadMessage when nobody would read so long a header."""
    shape = _BY_TYPE[type(message)]
    header: bytes = shape.prefix + _packers.pack([getattr(message, name) for name in shape.names])
    if len(header) > shape.limit:
        raise _too_long(shape, len(header))
    return header


def decode(header: bytes) -> Any:
    """Return the message whose header this is.

    Raises VersionMismatch when the peer speaks another version (an Error is read in any version), and
    BadMessage for everything else that is wrong; both texts say what was expected.
    """
    size = len(header)
    if size < 5 or header[:2] != MAGIC:
        raise BadMessage("not a message of this protocol: it does not begin with 'PS'", "not ps")
    version, number = header[2], header[3]
    if version != VERSION and number != 0:
        raise VersionMismatch(f"the peer speaks protocol version {version}, this process version {VERSION}")
    try:
        shape = _BY_NUMBER[number]
    except KeyError:
        raise BadMessage(f"unknown message type {number}", "unknown type") from None
    if size > shape.limit:
        raise _too_long(shape, size)
    try:
        values = _read(header) if size <= SHORT else _read_long(shape, header[4:])
    except BadMessage as error:
        raise BadMessage(f"{shape.name}: {error}", error.reason) from None
    except Exception as error:  # msgpack raises ValueError, its own types, and UnicodeDecodeError
        raise BadMessage(f"{shape.name}: malformed msgpack ({type(error).__name__})", MALFORMED) from None
    if type(values) is not tuple or len(values) != len(shape.names):
        raise BadMessage(f"{shape.name}: expected {len(shape.names)} fields", MALFORMED)
    for name, check, value in zip(shape.names, shape.checks, values, strict=True):
        if not check(value):
            raise BadMessage(f"{shape.name}.{name}: {type(value).__name__} is not what it holds", MALFORMED)
    return shape.make(*values)


def _read(header: bytes) -> Any:
    return msgpack.unpackb(memoryview(header)[4:], use_list=False, raw=False, strict_map_key=True)


def _read_long(shape: _Shape, body: bytes) -> Any:
    unpacker = msgpack.Unpacker(
        use_list=False, raw=False, strict_map_key=True, max_buffer_size=len(body), max_array_len=MAX_NESTED
    )
    unpacker.feed(body)
    if unpacker.read_array_header() != len(shape.names):
        return None
    values = tuple([read(unpacker, body) for read in shape.readers])
    if unpacker.tell() != len(body):
        raise BadMessage("malformed header: more bytes than fields", MALFORMED)
    return values


def _too_long(shape: _Shape, size: int) -> BadMessage:
    return BadMessage(f"{shape.name}: a header of {size} bytes; the limit is {shape.limit}", "header size")

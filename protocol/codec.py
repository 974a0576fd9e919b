"""Messages to header bytes and back. A header is four bytes (``P S version type``) and a msgpack array.

Nothing received is trusted: the declared types of the fields are checked, sizes are bounded, and whatever does
not hold together raises BadMessage (or VersionMismatch) and nothing else.
"""

from __future__ import annotations

import threading
from dataclasses import fields
from operator import attrgetter
from typing import Any, get_type_hints

import msgpack

from ps.errors import BadMessage, VersionMismatch
from ps.protocol import messages
from ps.protocol.fields import MALFORMED, MAX_NESTED, check_of, fault, reader_of, room_of
from ps.protocol.fitting import fit_of
from ps.protocol.messages import TYPES, Message

VERSION = 9
MAGIC = b"PS"
MAX_HEADER = 4 << 20
"""Bytes of the header of a ``large`` message, at most: a layout of 20,000 tensors fits."""
MAX_SMALL_HEADER = 256 << 10
"""Bytes of any other header, at most; of most much less, as their fields have it."""
MAX_FRAME = 64 << 20
"""Bytes of a tensor frame, at most."""
_FIRST = 5
"""Where the first field begins, behind the prefix and the number of fields."""
SHORT = 512
"""Bytes of a header that msgpack may read in one go: whatever sizes it declares, they cannot add up to much."""


class _Shape:
    """How one message type is written: its prefix, its fields' names and kinds, their checks and readers."""

    __slots__ = ("checks", "fits", "kinds", "limit", "make", "name", "names", "prefix", "readers", "values")

    def __init__(self, number: int, cls: type[Message]) -> None:
        hints = get_type_hints(cls, include_extras=True)
        self.make = cls
        self.name = cls.__name__
        self.prefix = MAGIC + bytes((VERSION, number))
        self.names = tuple(field.name for field in fields(cls))  # type: ignore[arg-type]
        self.values = attrgetter(*self.names) if len(self.names) > 1 else lambda one: (getattr(one, self.names[0]),)
        """Returns the values of a message's fields."""
        self.kinds = tuple(hints[name] for name in self.names)
        self.checks = tuple(map(check_of, self.kinds))
        self.readers = tuple(map(reader_of, self.kinds))
        self.fits = tuple((index, fit) for index, kind in enumerate(self.kinds) if (fit := fit_of(kind)) is not None)
        """Of the fields that are cut to fit when they are sent."""
        most = MAX_HEADER if cls.large else MAX_SMALL_HEADER
        self.limit = min(most, len(self.prefix) + 5 + sum(map(room_of, self.kinds)))


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
        self.renew()

    def renew(self) -> None:
        """Begin with an empty buffer: one that failed in the middle may have kept the beginning."""
        self.pack = msgpack.Packer(use_bin_type=True).pack


_packers = _Packers()


def limit_of(cls: type[Message]) -> int:
    """Return how long a message's header may be, in bytes: as long as its fields can make it."""
    return _BY_TYPE[cls].limit


def encode(message: Message) -> bytes:
    """Return the header bytes of a message. What is for people is cut to the length that is read.

    Raises BadMessage when nobody would read what else is too long, or cannot be written, and nothing else.
    """
    shape = _BY_TYPE[type(message)]
    values: Any = shape.values(message)
    if shape.fits:
        values = list(values)
        for index, fit in shape.fits:
            values[index] = fit(values[index])
    try:
        header: bytes = shape.prefix + _packers.pack(values)
    except (TypeError, ValueError, OverflowError) as error:
        _packers.renew()
        raise BadMessage(f"{shape.name} cannot be written: {error}", "unwritable") from None
    if len(header) > shape.limit:
        raise _too_long(shape, len(header))
    return header


def numbered(header: bytes, request: int) -> bytes:
    """Return the header of an answer to request 0 as the one to another request: its number is its first field."""
    if request == 0:
        return header
    number: bytes = _packers.pack(request)
    return header[:_FIRST] + number + header[_FIRST + 1 :]


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
    for check, value in zip(shape.checks, values, strict=True):
        if not check(value):
            raise _first_fault(shape, values)
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
    values = tuple([_field(shape, index, unpacker, body) for index in range(len(shape.readers))])
    if unpacker.tell() != len(body):
        raise BadMessage("malformed header: more bytes than fields", MALFORMED)
    return values


def _field(shape: _Shape, index: int, unpacker: Any, body: bytes) -> Any:
    try:
        return shape.readers[index](unpacker, body)
    except BadMessage as error:
        text = str(error)
        between = "" if text.startswith("[") else ": "
        raise BadMessage(f"{shape.names[index]}{between}{text}", error.reason) from None


def _first_fault(shape: _Shape, values: tuple[Any, ...]) -> BadMessage:
    rows = zip(shape.names, shape.kinds, shape.checks, values, strict=True)
    return next(fault(kind, value, f"{shape.name}.{name}") for name, kind, check, value in rows if not check(value))


def _too_long(shape: _Shape, size: int) -> BadMessage:
    return BadMessage(f"{shape.name}: a header of {size} bytes; the limit is {shape.limit}", "header size")

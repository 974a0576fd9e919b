"""Weights file: a model's tensors by name, in the safetensors format. Nothing else calls that library.

It writes an array's memory under its shape, whatever its strides are, so every array is brought to C order first. It
is not used for reading: it keeps the interpreter, and a worker's heartbeats, waiting while a whole tensor comes.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from ps.dataclass import dataclass
from ps.errors import UnsavedModel, UsageError
from ps.regular_file import blaming, open_regular, reason, shown
from ps.whole import draft, replacement
from ps.xp import HostArray

DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "BOOL": "bool",
    "C64": "complex64",
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}
"""What the format calls the dtypes that a model's tensors may have here."""
NARROW = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
}
"""Bits of an element of the dtypes that a file may have besides."""
WRAPPERS = ("_orig_mod.", "module.")
"""What torch.compile and DataParallel put in front of every name."""
LONGEST_HEADER = 100_000_000
"""Bytes of a header, at most, as the format has it."""
MOST_DIMENSIONS = 64
MOST_BYTES = 1 << 48
COPIES = "copies in half precision, not the float32 masters"
MASTERS = "float32 masters of what is trained in half precision"
"""What the header says under ``weights`` of a model in half precision."""
ABOUT = "__metadata__"
"""The entry of the header that is no tensor."""

_SLICE = 16 << 20
"""Bytes that are read at once."""
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a file: its dtype by the format's name, and its first byte and the one behind its last."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    def __str__(self) -> str:
        return f"{DTYPES.get(self.dtype, self.dtype)}{list(self.shape)}"


class WeightsFile:
    """A file that is open for reading; ``entries`` are its tensors by name, ``about`` the texts of its header."""

    def __init__(self, path: str | Path, file: IO[bytes]) -> None:
        self.path = path
        self._file = file
        self.entries, self.about = _header(file)

    def read(self, name: str, into: HostArray) -> None:
        """Fill an array (C order, of the tensor's dtype and size). Raises UsageError when the file is cut short."""
        entry = self.entries[name]
        whole = memoryview(into.reshape(-1).view(np.uint8).data)
        with blaming(self.path, "model file"):
            self._file.seek(entry.start)
            at = 0
            while at < entry.stop - entry.start:
                got = self._file.readinto(whole[at : at + _SLICE])  # type: ignore[attr-defined]
                if not got:
                    raise ValueError(f"it ends within the tensor {name!r}")
                at += got


@contextmanager
def open_weights(path: str | Path, source: str = "") -> Iterator[WeightsFile]:
    """Open a file of weights. Raises UsageError in one line, with who named it, for what is none or is damaged."""
    with blaming(path, "model file", source):
        file = open_regular(path)
    with file:
        with blaming(path, "model file", source):
            found = WeightsFile(path, file)
        yield found


def _header(file: IO[bytes]) -> tuple[dict[str, Entry], dict[str, str]]:
    size = os.fstat(file.fileno()).st_size
    if size < 8:
        raise ValueError(f"it has {size} bytes; a safetensors file begins with the 8 of its header's length")
    (length,) = struct.unpack("<Q", file.read(8))
    if length > size - 8:
        raise ValueError(
            f"its header should have {length} bytes, of which {size - 8} are there: it is cut short, or no safetensors "
            f"file"
        )
    if length > LONGEST_HEADER:
        raise ValueError(f"its header has {length} bytes; {LONGEST_HEADER} are possible")
    found = json.loads(file.read(length).decode(), object_pairs_hook=_unequal)
    if not isinstance(found, dict):
        raise ValueError("its header is no JSON object")
    about = found.pop(ABOUT, {})
    if not isinstance(about, dict) or not all(isinstance(text, str) for text in about.values()):
        raise ValueError(f"{ABOUT} of its header is no object of texts")
    entries = {name: _entry(name, row, 8 + length) for name, row in found.items()}
    end = 8 + length
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != end:
            where = "overlaps the one before it" if entry.start < end else "leaves a gap before it"
            raise ValueError(f"the tensor {name!r} {where}")
        end = entry.stop
    if end != size:
        more = f"{size - end} bytes more than that" if size > end else f"{end - size} bytes less: it is cut short"
        raise ValueError(f"its tensors take {end - 8 - length} bytes, and there are {more}")
    return entries, about


def _unequal(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("its header has two entries of one name")
    return found


def _entry(name: str, row: Any, base: int) -> Entry:
    match row:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [start, stop]} if len(row) == 3:
            pass
        case _:
            raise ValueError(f"the entry of the tensor {name!r} is not a dtype, a shape and two offsets")
    if dtype not in DTYPES and dtype not in NARROW:
        raise ValueError(f"the tensor {name!r} has an unknown dtype, {dtype[:40]!r}")
    if len(shape) > MOST_DIMENSIONS or not all(_is_count(n) for n in (*shape, start, stop)):
        raise ValueError(f"the shape or the offsets of the tensor {name!r} are no whole numbers from 0 on")
    bits = NARROW.get(dtype) or 8 * np.dtype(DTYPES[dtype] if dtype != "BF16" else "uint16").itemsize
    if math.prod(shape) * bits != 8 * (stop - start):
        raise ValueError(f"the tensor {name!r}, {dtype}{shape}, does not take the {stop - start} bytes it is given")
    return Entry(dtype, tuple(shape), base + start, base + stop)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < MOST_BYTES


def check_weights(tensors: Mapping[str, Any]) -> None:
    """Raise UsageError naming the first of these arrays that the format has no room for."""
    for name, array in tensors.items():
        if array.dtype.name not in DTYPES.values():
            raise UsageError(f"tensor {name!r} has dtype {array.dtype}, which a safetensors file cannot hold")
        if name == ABOUT or not _is_unicode(name):
            raise UsageError(f"a tensor called {name!r} cannot be in a safetensors file: give it another name")


def _is_unicode(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def write_weights(path: str | Path, tensors: Mapping[str, HostArray], about: Mapping[str, str]) -> None:
    """Write arrays by the names of the bare model, with texts ``about`` them, whole or not at all.

    Raises UsageError for arrays that the format has no room for, UnsavedModel when the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    check_weights(tensors)
    names = bare(tensors)
    arrays = {names[name]: _in_order(array) for name, array in tensors.items()}
    try:
        with replacement(Path(path)) as own:
            save_file(arrays, own, {"format": "pt", **about})
    except (OSError, ValueError) as error:
        raise UnsavedModel(f"cannot write the model to {shown(path)}: {reason(error)}") from None
    except SafetensorError as error:
        found = _OS_ERROR.search(str(error))
        why = os.strerror(int(found[1])) if found else reason(error)
        raise UnsavedModel(f"cannot write the model to {shown(path)}: {why}") from None


def write_one_by_one(
    path: Path, shapes: Mapping[str, Any], value: Callable[[str], HostArray], about: Mapping[str, str]
) -> None:
    """Write a file as ``write_weights`` does, of tensors that ``value`` returns by name: one of them is held at a time.

    ``shapes`` has for each name an array of its shape and dtype. Raises as ``write_weights`` does, and what ``value``
    raises; then nothing is changed.
    """
    check_weights(shapes)
    head, order = header_of(shapes, about, bare(shapes))
    try:
        with draft(path) as file:
            file.write(head)
            for name in order:
                file.write(bytes_of(value(name)))
    except OSError as error:
        raise UnsavedModel(f"cannot write the model to {shown(path)}: {reason(error)}") from None


def header_of(
    shapes: Mapping[str, Any], about: Mapping[str, str], names: Mapping[str, str]
) -> tuple[bytes, dict[str, int]]:
    """Return how a file begins, and where in it the bytes of each tensor begin, in their order.

    ``shapes`` has for each tensor an array of its shape and dtype, ``names`` what it is called in the file.
    """
    called = {name: key for key, name in DTYPES.items()}
    order = sorted(shapes, key=lambda name: (-shapes[name].dtype.itemsize, names[name]))
    header: dict[str, Any] = {ABOUT: {"format": "pt", **about}}
    at, begins = 0, {}
    for name in order:
        like = shapes[name]
        size = math.prod(like.shape) * like.dtype.itemsize
        header[names[name]] = {
            "dtype": called[like.dtype.name],
            "shape": list(like.shape),
            "data_offsets": [at, at + size],
        }
        begins[name] = at
        at += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, {name: 8 + len(text) + begin for name, begin in begins.items()}


def bytes_of(array: HostArray) -> memoryview:
    """Return what a file has of an array: its elements in C order, little-endian."""
    return memoryview(_in_order(array).reshape(-1).view(np.uint8).data)


def _in_order(array: HostArray) -> HostArray:
    """Return an array whose memory is its elements in C order, little-endian: all else is written as garbage."""
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def bare(names: Iterable[str]) -> dict[str, str]:
    """Return each name without what wrappers of a model put in front, where they have put it in front of all."""
    found = {name: name for name in names}
    while found:
        prefix = next((p for p in WRAPPERS if all(text.startswith(p) for text in found.values())), "")
        if not prefix or any(text == prefix for text in found.values()):
            break
        found = {name: text.removeprefix(prefix) for name, text in found.items()}
    return found

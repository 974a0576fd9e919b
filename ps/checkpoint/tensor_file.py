"""Tensor file: arrays by name in a safetensors file, each with a checksum of its bytes.

The table of what is where is kept by whoever has the file written; its own header is for other programs.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import numpy as np

from ps.checkpoint.place import CheckpointPlace
from ps.dataclass import dataclass
from ps.errors import CheckpointError
from ps.regular_file import shown
from ps.weights_file import bytes_of, header_of
from ps.xp import HostArray

_SLICE = 4 << 20
"""Bytes that are written, read and summed at once: nothing else of the process stands still for longer."""


@dataclass(frozen=True, slots=True)
class StoredArray:
    """One array of a file: its dtype and shape, its first byte there and how many there are, and their CRC-32."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    crc: int

    def pack(self) -> list[Any]:
        """Return it as JSON has it."""
        return [self.dtype, list(self.shape), self.offset, self.nbytes, self.crc]

    @staticmethod
    def unpack(row: Any) -> StoredArray:
        """Return what ``pack`` wrote. Raises ValueError."""
        match row:
            case [str(dtype), list(shape), int(offset), int(nbytes), int(crc)]:
                if min(offset, nbytes, crc, *shape, 0) < 0 or np.dtype(dtype).kind not in "biufcV":
                    raise ValueError(f"no array: {row!r:.100}")
                return StoredArray(dtype, tuple(int(n) for n in shape), offset, nbytes, crc)
        raise ValueError(f"no array: {row!r:.100}")


@dataclass(frozen=True, slots=True)
class TensorFile:
    """What is in one file: its size, the CRC-32 of its header, and the arrays behind that, which take all the rest."""

    size: int
    header: int
    header_crc: int
    entries: Mapping[str, StoredArray]

    def pack(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        entries = {name: entry.pack() for name, entry in self.entries.items()}
        return {"size": self.size, "header": self.header, "header_crc": self.header_crc, "entries": entries}

    @staticmethod
    def unpack(values: Any) -> TensorFile:
        """Return what ``pack`` wrote. Raises ValueError, LookupError, TypeError."""
        entries = {str(name): StoredArray.unpack(row) for name, row in values["entries"].items()}
        return TensorFile(int(values["size"]), int(values["header"]), int(values["header_crc"]), entries)


def write_tensors(
    place: CheckpointPlace,
    name: str,
    arrays: Mapping[str, HostArray],
    about: Mapping[str, str],
    rest: Callable[[], None] = lambda: None,
) -> TensorFile:
    """Write a new file of arrays. ``rest`` is called after each piece of at most ``_SLICE`` bytes, and may take long.

    Raises CheckpointError, and FileExistsError when the name was written before.
    """
    head, begins = header_of(arrays, about, {each: each for each in arrays})
    entries, size = {}, len(head)
    with place.writing(name) as file:
        file.write(head)
        for each, begin in begins.items():
            data, crc = bytes_of(arrays[each]), 0
            for lo in range(0, data.nbytes, _SLICE):
                part = data[lo : lo + _SLICE]
                crc = zlib.crc32(part, crc)
                file.write(part)
                rest()
            array = arrays[each]
            entries[each] = StoredArray(array.dtype.name, tuple(array.shape), begin, data.nbytes, crc)
            size += data.nbytes
    return TensorFile(size, len(head), zlib.crc32(head), entries)


def read_tensor(file: IO[bytes], name: str, what: str, entry: StoredArray) -> HostArray:
    """Return one array of an open file. Raises CheckpointError, naming file and array, when a byte of it differs."""
    found = np.empty(entry.nbytes, np.uint8)
    at = crc = 0
    file.seek(entry.offset)
    while at < entry.nbytes:
        part = file.read(min(_SLICE, entry.nbytes - at))
        if not part:
            raise CheckpointError(f"{shown(name)} is cut short: it ends within {what}")
        found[at : at + len(part)] = np.frombuffer(part, np.uint8)
        crc = zlib.crc32(part, crc)
        at += len(part)
    if crc != entry.crc:
        raise CheckpointError(f"{shown(name)} is damaged: the checksum of {what} is not that of the manifest")
    return found.view(_dtype(entry.dtype)).reshape(entry.shape)


def read_tensors(place: CheckpointPlace, name: str, known: TensorFile) -> dict[str, HostArray]:
    """Return all arrays of a file. Raises CheckpointError where it is missing or a byte of one differs."""
    try:
        with place.reading(name) as file:
            return {what: read_tensor(file, name, what, entry) for what, entry in known.entries.items()}
    except FileNotFoundError:
        raise CheckpointError(f"{shown(name)} is missing") from None


def _dtype(name: str) -> np.dtype[Any]:
    import ml_dtypes  # noqa: F401  bfloat16 is one of NumPy's from then on

    return np.dtype(name)


def check_file(place: CheckpointPlace, name: str, known: TensorFile) -> None:
    """Read all of a file. Raises CheckpointError for one that is missing, longer, shorter or has another byte."""
    try:
        with place.reading(name) as file:
            crc = at = 0
            arrays = sorted((entry.offset, entry.nbytes, entry.crc) for entry in known.entries.values())
            spans = [(0, known.header, known.header_crc), *arrays]
            for begin, nbytes, wanted in spans:
                crc, left = 0, nbytes
                for part in _parts(file, left):
                    crc = zlib.crc32(part, crc)
                    left -= len(part)
                at += nbytes
                if left or crc != wanted or begin != at - nbytes:
                    raise CheckpointError(f"{shown(name)} is {'cut short' if left else 'damaged'}")
            if at != known.size or file.read(1):
                raise CheckpointError(f"{shown(name)} is longer than it was")
    except FileNotFoundError:
        raise CheckpointError(f"{shown(name)} is missing") from None


def _parts(file: IO[bytes], nbytes: int) -> Iterator[bytes]:
    while nbytes > 0 and (part := file.read(min(_SLICE, nbytes))):
        nbytes -= len(part)
        yield part

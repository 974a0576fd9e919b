"""IDX, the file format of MNIST and its descendants: a magic number, big-endian sizes, then raw bytes."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ps.errors import DataError

_UBYTE = 0x08


def read(path: Path, ndim: int) -> NDArray[np.uint8]:
    """Return the array of unsigned bytes with ``ndim`` dimensions held by a file, gzipped if named ``.gz``.

    DataError naming the file when it cannot be read, is no such file, or is shorter or longer than it says.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _parse(file, ndim)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}. Is it complete?") from error
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def _parse(file: BinaryIO | gzip.GzipFile, ndim: int) -> NDArray[np.uint8]:
    magic = file.read(4)
    expected = bytes([0, 0, _UBYTE, ndim])
    if magic != expected:
        start = magic.hex() or "nothing"
        raise ValueError(f"no IDX file of bytes in {ndim} dimension(s): starts with {start}, not {expected.hex()}")
    sizes = file.read(4 * ndim)
    if len(sizes) < 4 * ndim:
        raise ValueError("ends within its header")
    shape = struct.unpack(f">{ndim}I", sizes)
    content = file.read()
    if len(content) != math.prod(shape):
        raise ValueError(f"holds {len(content)} bytes, but its header says {math.prod(shape)} for shape {shape}")
    return np.frombuffer(content, np.uint8).reshape(shape)

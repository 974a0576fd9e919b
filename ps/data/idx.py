"""IDX, the file format of MNIST and its descendants: a magic number, big-endian sizes, then raw bytes."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ps.errors import DataError
from ps.memory import check_fits
from ps.regular_file import blaming, open_regular

_UBYTE = 0x08


def read(path: Path, ndim: int) -> NDArray[np.uint8]:
    """Return the array of unsigned bytes with ``ndim`` dimensions held by a file, gzipped if named ``.gz``.

    DataError naming the file when it cannot be read, is no such file, or is shorter or longer than it says.
    """
    with blaming(path, "IDX file", error=DataError), open_regular(path) as file:
        if path.suffix != ".gz":
            return _parse(file, ndim, path)
        with gzip.GzipFile(fileobj=file) as unpacked:
            return _parse(unpacked, ndim, path)


def _parse(file: BinaryIO | gzip.GzipFile, ndim: int, path: Path) -> NDArray[np.uint8]:
    magic = file.read(4)
    expected = bytes([0, 0, _UBYTE, ndim])
    if magic != expected:
        start = magic.hex() or "nothing"
        raise ValueError(f"no IDX file of bytes in {ndim} dimension(s): starts with {start}, not {expected.hex()}")
    sizes = file.read(4 * ndim)
    if len(sizes) < 4 * ndim:
        raise ValueError("ends within its header")
    shape = struct.unpack(f">{ndim}I", sizes)
    size = math.prod(shape)
    check_fits(size, f"{path}: its header says {size} bytes, which", DataError)
    content = file.read(size)
    if len(content) < size or file.read(1):  # no more is unpacked than it says
        holds = len(content) if len(content) < size else "more"
        raise ValueError(f"holds {holds} bytes, but its header says {size} for shape {shape}. Is it complete?")
    return np.frombuffer(content, np.uint8).reshape(shape)

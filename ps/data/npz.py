"""NPZ, NumPy's archives: arrays by name, of which no more is unpacked than their headers say, and no object is."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO

import numpy as np

from ps.errors import DataError
from ps.memory import check_fits
from ps.regular_file import blaming, open_regular
from ps.xp import HostArray

_LONGEST_HEADER = 10_000


def read(path: Path, names: Collection[str]) -> dict[str, HostArray]:
    """Return the arrays of these names. DataError, naming the file, when there are others, or when it is damaged."""
    with blaming(path, ".npz file", error=DataError), open_regular(path) as file, zipfile.ZipFile(file) as archive:
        held = [name.removesuffix(".npy") for name in archive.namelist()]
        if missing := [name for name in names if name not in held]:
            raise DataError(f"{path}: lacks {', '.join(missing)}; it holds {', '.join(held[:20])[:200] or 'nothing'}")
        found = {}
        for name in names:
            try:
                with archive.open(f"{name}.npy") as member:
                    found[name] = _array(member, f"{name} of {path}")
            except KeyError:
                raise ValueError(f"{name} is no array") from None
        return found


def _array(member: IO[bytes], what: str) -> HostArray:
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        header = np.lib.format.read_array_header_1_0(member, max_header_size=_LONGEST_HEADER)
    else:
        header = np.lib.format.read_array_header_2_0(member, max_header_size=_LONGEST_HEADER)
    shape, fortran, dtype = header
    if dtype.hasobject or not dtype.itemsize:
        raise ValueError(f"{what} holds {dtype}, and not numbers")
    nbytes = math.prod(shape) * dtype.itemsize
    check_fits(nbytes, what, DataError)
    data = member.read(nbytes)
    if len(data) < nbytes or member.read(1):
        raise ValueError(f"{what} is {'shorter' if len(data) < nbytes else 'longer'} than the {nbytes} bytes it says")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")

"""SharedArrays: named arrays in memory that several processes read, without a copy for each of them."""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from ps.dataclass import dataclass
from ps.errors import DataError
from ps.xp import HostArray

_ALIGN = 64


@dataclass(frozen=True, slots=True, weakref_slot=True)
class SharedArrays:
    """An open file without a name, and what lies in it: (name, dtype, shape, first byte) of each array."""

    fd: int
    table: tuple[tuple[str, str, tuple[int, ...], int], ...]
    nbytes: int

    @classmethod
    def of(cls, arrays: Mapping[str, HostArray]) -> SharedArrays:
        """Copy arrays into shared memory; DataError when there is not so much of it. Close it with the last user."""
        table, at = [], 0
        for name, array in arrays.items():
            table.append((name, array.dtype.str, array.shape, at))
            at += -(-array.nbytes // _ALIGN) * _ALIGN
        fd = nameless_file()
        made = cls(fd, tuple(table), max(at, 1))
        weakref.finalize(made, os.close, fd).atexit = False
        try:
            os.ftruncate(fd, made.nbytes)
            with mmap.mmap(fd, made.nbytes) as memory:
                for (_, dtype, _, start), array in zip(table, arrays.values(), strict=True):
                    np.frombuffer(memory, dtype, array.size, start)[:] = array.reshape(-1)
        except OSError as error:
            raise DataError(f"no shared memory for {made.nbytes} bytes of examples: {error.strerror}") from None
        return made

    def to_dict(self) -> dict[str, Any]:
        """Return what a process that has the file needs to read it: plain values."""
        return {"table": [list(row) for row in self.table], "nbytes": self.nbytes}


def read_arrays(fd: int, about: Mapping[str, Any]) -> dict[str, HostArray]:
    """Return the arrays of a file that was handed over, read-only, as ``SharedArrays.to_dict`` describes them."""
    memory = mmap.mmap(fd, about["nbytes"], prot=mmap.PROT_READ)
    return {
        name: np.frombuffer(memory, dtype, int(np.prod(shape)), start).reshape(shape)
        for name, dtype, shape, start in about["table"]
    }


def nameless_file() -> int:
    """Return the descriptor of a new file in memory that no other program can open."""
    memfd_create = getattr(os, "memfd_create", None)  # Linux only
    if memfd_create is not None:
        return int(memfd_create("ps-simulate", os.MFD_CLOEXEC))
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())

"""Compiled loops for what NumPy does to whole vectors in many passes; optional, and bit for bit the same.

``kernels()`` returns them, or None where NumPy's lines, which stay their specification, do the work: nothing was
compiled when the package was installed, or ``PS_KERNELS=numpy`` says so. Each function may also return None for what it
is given (arrays that are not aligned, numbers with a precision of their own); then it has done nothing.

The C is in this folder: ``loops.h`` has the arithmetic, ``half.h`` the casts of half precision, ``kernels.c`` what
Python sees, ``quantize.h`` and ``onebit.h`` the same of a codec each. What is NaN with NumPy is NaN here, with whatever
payload the processor gives it; ``half.h`` says what a cast makes of one.
"""

from __future__ import annotations

import importlib
import os
from typing import Any, Protocol, cast

from ps.errors import ConfigError

AUTO, NATIVE, NUMPY = CHOICES = ("auto", "native", "numpy")
"""What may be asked for: the compiled loops where there are any, these or an error, NumPy."""

VERSION = 3
"""Of the functions below: loops that were compiled for others are left alone."""


class Kernels(Protocol):
    """The compiled loops.

    Vectors are 1-D and contiguous, float32 or float64; halves are what ``raw`` returns. A gradient is the sum of
    ``parts``, each times its share, in their order: vectors like the weights or, beside float32, halves. Then it is
    multiplied by ``scale``. Numbers are Python's. ValueError for sizes that do not fit.
    """

    OPTIMIZERS: tuple[str, ...]
    VERSION: int

    def update(
        self,
        name: str,
        weights: Any,
        state: tuple[Any, ...],
        constants: tuple[float, ...],
        parts: tuple[Any, ...],
        shares: tuple[float, ...],
        scale: float,
        clip: float | None,
        l2: float,
        half: Any,
        limit: float,
        lo: int,
        hi: int,
        /,
    ) -> bool | None:
        """Do the step of an optimizer for elements ``lo`` to ``hi`` of ``weights``, ``state`` and ``half``, if any.

        The gradient is clipped to ``clip``, and ``l2`` times the weights added. Return whether the sum was within
        ``limit`` everywhere; 0 for no look.
        """

    def combine(
        self,
        out: Any,
        parts: tuple[Any, ...],
        shares: tuple[float, ...],
        scale: float,
        limit: float,
        lo: int,
        hi: int,
        /,
    ) -> bool | None:
        """Write elements ``lo`` to ``hi`` of a gradient; return as ``update`` does."""

    def check(self, vector: Any, limit: float, /) -> bool | None:
        """Return whether no element of a vector, or half, is NaN or beyond the limit."""

    def copy(self, target: Any, source: Any, limit: float, /) -> bool | None:
        """Copy a vector, or half, and return what ``check`` would."""

    def add(self, total: Any, vector: Any, factor: float, /) -> bool | None:
        """Add ``vector * factor``, rounded, to ``total``."""

    def quantize(
        self, vector: Any, chance: Any, scales: Any, codes: Any, spread: float, least: float, /
    ) -> bool | None:
        """Write a vector as ``ps.compress.int8`` does: scales and int8 codes; ``chance`` is uint16, one an element.

        False where something is NaN or infinite: then what was written says nothing.
        """

    def dequantize(self, out: Any, scales: Any, codes: Any, lo: int, /) -> bool | None:
        """Write what the codes from ``lo`` on stand for; ``scales`` and ``codes`` are those of a whole chunk."""

    def to_bits(self, vector: Any, middles: Any, halves: Any, bits: Any, /) -> bool | None:
        """Write a vector as ``ps.compress.onebit`` does: levels like it, and uint8 with a bit for each element."""

    def from_bits(self, out: Any, middles: Any, halves: Any, bits: Any, lo: int, /) -> bool | None:
        """Write what the bits from ``lo`` on stand for; levels and bits are those of a whole chunk."""

    def square_sum(self, vector: Any, /) -> float | None:
        """Return the sum of a vector's squares, as ``ps.optim.clip`` adds up those of a block."""

    def narrow(self, single: Any, half: Any, bound: float | None, /) -> bool | None:
        """Round float32 to halves, to nearest, ties to even; first bring them within ``±bound``."""

    def widen(self, half: Any, single: Any, /) -> bool | None:
        """Write halves as the float32 that they are."""


def _compiled() -> tuple[Kernels | None, str]:
    """Return the loops that this package was installed with, or why there are none."""
    try:
        found = importlib.import_module("ps.native._kernels")
    except ImportError as error:
        return None, f"none were compiled when this was installed ({error})"
    if getattr(found, "VERSION", 0) != VERSION:
        return None, "those that are installed are of another version of this package: install it again"
    return cast(Kernels, found), ""


_found, _missing = _compiled()
_used = None if os.environ.get("PS_KERNELS") == NUMPY else _found


def kernels() -> Kernels | None:
    """Return the compiled loops, or None where NumPy's lines are to do the work."""
    return _used


def choose(choice: str) -> None:
    """Take the kernels of this process: one of ``CHOICES``. ConfigError where it cannot be had."""
    global _used
    if choice == NATIVE and _found is None:
        raise ConfigError(f"kernels = native: {_missing}. A C compiler and pip install give them; numpy does without")
    _used = None if choice == NUMPY else _found


def running() -> str:
    """Return whose loops this process runs: ``native`` or ``numpy``."""
    return NUMPY if _used is None else NATIVE


def expected(choice: str) -> str:
    """Return whose loops a process of this installation runs with one of ``CHOICES``."""
    return NUMPY if choice == NUMPY or _found is None else NATIVE


def outcome(choice: str) -> str:
    """Return in words what ``expected`` does, and why there are no compiled loops where they are not refused."""
    return f"{NUMPY}: {_missing}" if choice != NUMPY and _found is None else expected(choice)


def raw(array: Any) -> Any:
    """Return a vector as the kernels take it: bfloat16, which Python's buffers do not know, as its bits."""
    return array.view("u2") if array.dtype.char == "E" else array

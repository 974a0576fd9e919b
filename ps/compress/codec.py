"""Codec, the interface every compression fulfils."""

from __future__ import annotations

from typing import Protocol

from numpy.typing import DTypeLike

from ps.compress.decoded import Decoded
from ps.compress.key import Key
from ps.xp import Array


class Codec(Protocol):
    """A lossy map between the vector of one chunk and a frame of bytes: numbers and functions, no state of its own."""

    @property
    def slots(self) -> tuple[str, ...]:
        """The memories, shaped like the gradient, that its paper wants at who sends gradients."""

    @property
    def momentum(self) -> float:
        """The factor of the velocity that is remembered instead of gradients; 0 for none."""

    def init(self, values: Array) -> dict[str, Array]:
        """Return what the codec itself keeps from frame to frame of one chunk, on the side of ``values``."""

    def max_bytes(self, size: int, dtype: DTypeLike) -> int:
        """Return the length that no frame of ``size`` elements exceeds."""

    def encode(self, values: Array, key: Key, state: dict[str, Array], out: Array | None = None) -> Array:
        """Return the frame of ``values``, 1-D uint8 on their side: the start of ``out``, if given, or a new array.

        ``values`` is 1-D, float32 or float64, at least one element, finite, and only read; NaN and Inf make a
        frame that ``open`` may refuse. ``state``, from ``init``, is changed in place. UsageError when ``out`` is
        shorter than the frame, no uint8 vector, or on another side.
        """

    def open(self, frame: Array, size: int, dtype: DTypeLike, key: Key, *, trusted: bool = False) -> Decoded:
        """Return what a frame says, checked first and completely: BadMessage when it could not have been encoded.

        ``size``, ``dtype`` and ``key`` are those of ``encode``, as the receiver knows them; nothing in the frame
        decides how much memory is taken. ``frame`` is 1-D uint8 and in host memory. ``trusted`` skips the checks:
        only for a frame that this process made, on whatever side it is.
        """
